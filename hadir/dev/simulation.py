"""Simulated mitras and customers at a running server, and a judgement of what it answers and does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from itertools import chain
from random import Random
from types import TracebackType
from typing import Self
from uuid import UUID

from hadir.client import BeaconMalformed, BeaconUnavailable, Counters, fetch_beacon
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.dev.attendance import Attendance
from hadir.dev.cashier import Cashier
from hadir.dev.customers import SimulatedCustomer
from hadir.dev.dealings import Dealings
from hadir.dev.history import History
from hadir.dev.lookout import PATH, Lookout
from hadir.dev.person import total
from hadir.dev.population import SimulatedMitra
from hadir.dev.rates import Rates
from hadir.dev.tally import Tally
from hadir.dev.truth import Truth
from hadir.dev.witness import Witness
from hadir.dev.world import World
from hadir.errors import HadirError, PostgresUnavailable

POSTGRES_POOL = 4
POSTGRES_S = 5.0
LOOK_S = 0.25
COMING_PER_S = 100.0
COMING_AT_LEAST_S = 2.0
FLAKY_EVERY = 5
"""One mitra of so many has a phone whose network is bad for its whole life."""


class Simulation:
    """Mitras and customers at `urls`, from `async with` on; at its end the mitras say goodbye.

    `churn`: how often a mitra goes away or does something else, per minute. `name`: the same name, the same people.
    `history`: where all that they are told is kept. `pace`: how much quicker than people they deal with each other.
    `random`: what they decide by. `attendance`: where mitras keep when they were there. `lag_s`: where stores and
    instances fail, how much longer than `max_age_s` the beacon may count each mitra as it was.
    """

    def __init__(
        self,
        config: Config,
        urls: Sequence[str],
        mitras: int,
        customers: int,
        churn: float,
        *,
        name: str | None = None,
        history: History | None = None,
        pace: float = 1.0,
        random: Random | None = None,
        attendance: Attendance | None = None,
        lag_s: float | None = None,
    ) -> None:
        self._postgres = Postgres(config.database_url, pool_max=POSTGRES_POOL, pooler=config.database_pooler)
        self._random = random or Random()  # noqa: S311 - simulated people keep no secrets
        self.truth = Truth(time.monotonic())
        self.tally = Tally()
        self.dealings = Dealings(self.tally.latencies)
        witness = Witness(self.tally, self.dealings, history)
        self._urls = [url.rstrip("/") for url in urls]
        world = World(
            config, self._postgres, self._urls, churn, self.truth, self.tally, witness, self._random, pace, attendance
        )
        names = Random(name)  # noqa: S311
        ids = [_new_id(names) for _ in range(mitras)]
        self.mitras = [
            SimulatedMitra(world, mitra_id, flaky=number % FLAKY_EVERY == FLAKY_EVERY - 1)
            for number, mitra_id in enumerate(ids)
        ]
        look = self._look_at_all
        self.lookout = Lookout(self._urls, self._postgres, self.truth, self.tally, ids, look, self._random, lag_s)
        cashier = Cashier(world, config.xendit_callback_token)
        self._customers = [SimulatedCustomer(world, _new_id(names), cashier) for _ in range(customers)]
        self.rates = Rates(time.monotonic(), self._totals())
        self._final_states: Counter[str] | None = None
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._postgres.__aenter__()
        try:
            await self._reach()
            await self._remember()
            for mitra in self.mitras[:1]:
                await mitra.log_in()  # whoever is told of the first one finds it
        except BaseException:
            await self._postgres.__aexit__(None, None, None)
            raise
        await self._tasks.__aenter__()
        coming_s = max(COMING_AT_LEAST_S, len(self.mitras) / COMING_PER_S)
        for mitra in self.mitras:
            self._start(mitra.live(self._random.uniform(0, coming_s)))
        for customer in self._customers:
            self._start(customer.live())
            self._start(self.lookout.live())
        self._start(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._final_states = self.states()
        try:
            if error is None:
                await asyncio.gather(*(mitra.leave() for mitra in self.mitras))
        finally:
            for task in self._running:
                task.cancel()
            try:
                await self._tasks.__aexit__(kind, error, trace)
            finally:
                await self._postgres.__aexit__(None, None, None)

    def counters(self) -> Counters:
        """The sums over everybody."""
        return total(chain.from_iterable(each.counters for each in (*self.mitras, *self._customers)))

    def states(self) -> Counter[str]:
        """How many mitras are doing what; after the end, how many were when it began."""
        return self._final_states or Counter(mitra.state.value for mitra in self.mitras)

    def _totals(self) -> Mapping[str, int]:
        """What rates are made of."""
        counters = self.counters()
        return {
            "connects": counters.opens,
            "reconnects": counters.reconnects,
            "rotations": counters.rotations,
            "beats": counters.beats,
            "messages": self.dealings.sent,
            "beacon answers": self.tally.answered,
        }

    async def _look(self) -> None:
        while True:
            self._look_at_all()
            if self.rates.due(now := time.monotonic()):
                self.rates.sample(now, self._totals())
            await asyncio.sleep(LOOK_S)

    def _look_at_all(self) -> None:
        for mitra in self.mitras:
            mitra.look()

    async def _reach(self) -> None:
        """Raises `HadirError` where Postgres or the server is not there to begin with."""
        try:
            async with asyncio.timeout(POSTGRES_S):
                while not self._postgres.available:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise PostgresUnavailable("Postgres cannot be reached.") from None
        try:
            await fetch_beacon(self._urls[0] + PATH)
        except (BeaconUnavailable, BeaconMalformed):
            return  # it is there; what it says is judged later
        except OSError as error:
            raise HadirError(f"{self._urls[0]} cannot be reached: {error}") from error

    async def _remember(self) -> None:
        """A run that was killed may have left our mitras online."""
        by_id = {mitra.person_id: mitra for mitra in self.mitras}
        for record in await self._postgres.fetch(sql("present_of"), list(by_id)):
            by_id[record["mitra_id"]].was_here()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        self._running.append(self._tasks.create_task(work))


def _new_id(names: Random) -> str:
    return str(UUID(int=names.getrandbits(128), version=4))

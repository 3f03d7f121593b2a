"""Simulated mitras and customers at a running server, and a judgement of every beacon that it answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from random import Random
from types import TracebackType
from typing import Self
from uuid import UUID

from hadir.client import Beacon, BeaconUnavailable, Counters, fetch_beacon
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.dev.population import SimulatedMitra, World, total
from hadir.dev.truth import LAG_S, Bounds, Truth
from hadir.errors import HadirError, PostgresUnavailable

BEACON = "/api/beacon"
POSTGRES_POOL = 4
POSTGRES_S = 5.0
LOOK_S = 0.25
SECOND_LOOK_S = 0.5
RETRY_S = 1.0
BREACHES_MAX = 1000
COMING_PER_S = 100.0
COMING_AT_LEAST_S = 2.0
UNJUDGED = "stale"
"""This state says itself that it may be wrong."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A beacon that was outside of the truth for longer than it may be."""

    at: datetime
    beacon: Beacon
    bounds: Bounds

    def __str__(self) -> str:
        expected = f"{self.bounds.low} to {self.bounds.high}"
        return f"RULE BROKEN at {self.at:%H:%M:%S}: the beacon says {self.beacon.available}, expected {expected}"


@dataclass(slots=True)
class Tally:
    """What the customers were answered."""

    answers: Counter[str] = field(default_factory=Counter)
    """By the beacon's state, `503` and the like, or `no answer`."""
    breaches: list[Breach] = field(default_factory=list)
    last: Beacon | None = None

    def take_down(self, breach: Breach) -> None:
        """One breach a count: the same one, seen by every customer, is no other."""
        known = (each.beacon.as_of == breach.beacon.as_of for each in self.breaches)
        if len(self.breaches) < BREACHES_MAX and not any(known):
            self.breaches.append(breach)


class Simulation:
    """Mitras and customers at `urls`, from `async with` on; at its end the mitras say goodbye.

    `churn`: how often a mitra goes away, per minute. `name`: the same name means the same mitras.
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
    ) -> None:
        self._postgres = Postgres(config.database_url, pool_max=POSTGRES_POOL, pooler=config.database_pooler)
        self._random = Random()  # noqa: S311 - simulated people keep no secrets
        self.truth = Truth(time.monotonic())
        self.tally = Tally()
        self._urls = [url.rstrip("/") for url in urls]
        world = World(config, self._postgres, self._urls, churn, self.truth, self._random)
        names = Random(name)  # noqa: S311
        self.mitras = [SimulatedMitra(world, str(UUID(int=names.getrandbits(128), version=4))) for _ in range(mitras)]
        self._customers = customers
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._postgres.__aenter__()
        try:
            await self._reach()
            await self._remember()
        except BaseException:
            await self._postgres.__aexit__(None, None, None)
            raise
        await self._tasks.__aenter__()
        coming_s = max(COMING_AT_LEAST_S, len(self.mitras) / COMING_PER_S)
        for mitra in self.mitras:
            self._start(mitra.live(self._random.uniform(0, coming_s)))
        for _ in range(self._customers):
            self._start(self._customer())
        self._start(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    async def ask(self) -> Beacon | None:
        """One customer's look at the beacon, judged; None when there was no beacon to see."""
        began = time.monotonic()
        try:
            beacon = await self._fetch()
        except BeaconUnavailable as unavailable:
            self.tally.answers[str(unavailable.status)] += 1
            return None
        except OSError:
            self.tally.answers["no answer"] += 1
            return None
        self.tally.answers[beacon.state] += 1
        self.tally.last = beacon
        await self._judge(beacon, began)
        return beacon

    async def _fetch(self) -> Beacon:
        """From any URL that answers, as a balancer would do it. Raises as `fetch_beacon` when none does."""
        *others, last = self._random.sample(self._urls, len(self._urls))
        for url in others:
            with suppress(OSError):
                return await fetch_beacon(url + BEACON, self.tally.last)
        return await fetch_beacon(last + BEACON, self.tally.last)

    def counters(self) -> Counters:
        """The sums over all mitras."""
        return total([mitra.counters for mitra in self.mitras])

    def latencies_s(self) -> list[float]:
        """Seconds from beat to pong, of the last beats of everybody."""
        return list(chain.from_iterable(mitra.latencies_s for mitra in self.mitras))

    async def _judge(self, beacon: Beacon, began: float) -> None:
        """Takes a breach down, once nothing that is only under way explains it."""
        if beacon.state == UNJUDGED or self._bounds(beacon, began).hold(beacon.available):
            return
        self._look_at_all()
        if self._bounds(beacon, began).hold(beacon.available):
            return
        await asyncio.sleep(SECOND_LOOK_S)
        self._look_at_all()
        bounds = self._bounds(beacon, began)
        if beacon.available > bounds.high:
            try:
                bounds = Bounds(bounds.low, bounds.high + await self._others(beacon, began))
            except PostgresUnavailable:
                return  # goodbyes wait for Postgres too: nobody can say what would be right
        if not bounds.hold(beacon.available):
            self.tally.take_down(Breach(datetime.now(), beacon, bounds))

    def _bounds(self, beacon: Beacon, began: float) -> Bounds:
        now = time.monotonic()
        return self.truth.over(beacon.max_age_s + LAG_S + now - began, now)

    async def _others(self, beacon: Beacon, began: float) -> int:
        """Mitras that are not ours and may have been counted."""
        moment_s = beacon.max_age_s + LAG_S + time.monotonic() - began
        ours = [mitra.mitra_id for mitra in self.mitras]
        return int(await self._postgres.fetchval(sql("others_present"), ours, moment_s))

    async def _customer(self) -> None:
        """Looks, and looks again when what it saw is no longer valid."""
        beacon = None
        while True:
            again_s = RETRY_S if beacon is None else beacon.max_age_s
            await asyncio.sleep(again_s * self._random.uniform(0.8, 1.2))
            beacon = await self.ask()

    async def _look(self) -> None:
        while True:
            self._look_at_all()
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
            await fetch_beacon(self._urls[0] + BEACON)
        except BeaconUnavailable:
            return  # it is there, and will have something to say later
        except OSError as error:
            raise HadirError(f"{self._urls[0]} cannot be reached: {error}") from error

    async def _remember(self) -> None:
        """A run that was killed may have left our mitras online."""
        by_id = {mitra.mitra_id: mitra for mitra in self.mitras}
        for record in await self._postgres.fetch(sql("present_of"), list(by_id)):
            by_id[record["mitra_id"]].was_here()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        self._running.append(self._tasks.create_task(work))

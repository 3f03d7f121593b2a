"""Churn and faults on three instances for as long as you like, and whether anything grows: `make soak`.

    python -m tests.faults.soak --seconds 14400 --seed 7

The same seed makes the same sequence of faults, and people who decide alike. Two of the instances live through all of
it: what they hold is measured after every few faults, at a calm point, once everything is healed and the load is as it
was before. Every chapter has new people, who judge all that they see by the rules of docs/protocol.md; at its end what
they were told is held against the rows. The third instance is killed and drained, over and over.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import httpx
import psutil
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from hadir.config import raise_descriptor_limit
from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from hadir.dev.history import History, inconsistencies
from hadir.dev.simulation import Simulation
from hadir.dev.whereabouts import State
from hadir.realtime.feed import INTERVAL_S
from tests.conftest import make_folder
from tests.faults.fleet import Fleet
from tests.faults.test_history import SETTINGS, no_crash, rows_of
from tests.faults.test_one_winner import broken_rules
from tests.support import eventually
from tests.support.system import System

MITRAS, CUSTOMERS = 40, 25
PACE, CHURN = 6.0, 4.0
FAULTS_A_ROUND = 3
ROUNDS_A_CHAPTER = 20
HELD_S, BETWEEN_S = (0.5, 4.0), 0.5
LOOKS, LOOK_EVERY_S = 5, 0.5
LAG_S = HELD_S[1] + 2 * INTERVAL_S
"""How long the beacon may count a mitra as it was: a fault holds back what is told of a change, then somebody polls;
once more where the next fault hits just that one."""
CALM_S = 180.0
WARM_UP = 0.2
"""The part of all calm points that is not judged: pools and caches fill."""
FEWEST = 6
"""Calm points that a judgement takes, however slow the machine is."""
AWAY_MAX = MITRAS // 5
"""So many may be on bad networks, or hang, also when all is well."""
AWAY = (State.RECONNECTING, State.FROZEN, State.STOPPED)


COLLECTING = (sys.executable, "-P", str(Path(__file__).with_name("collecting.py")))


# what is done


@dataclass(frozen=True, slots=True)
class Fault:
    """`verb` of `VERBS`, done to a member where it is one's, held for so long."""

    verb: str
    member: int
    held_s: float


async def _kill(fleet: Fleet, fault: Fault) -> None:
    await fleet.members[-1].kill()
    await asyncio.sleep(fault.held_s)
    await fleet.members[-1].start()


async def _drain(fleet: Fleet, fault: Fault) -> None:
    await fleet.members[-1].drain()
    await fleet.members[-1].start()


async def _freeze(fleet: Fleet, fault: Fault) -> None:
    with fleet.members[fault.member].frozen():
        await asyncio.sleep(fault.held_s)


async def _wipe(fleet: Fleet, fault: Fault) -> None:
    await fleet.wiped()


async def _freeze_valkey(fleet: Fleet, fault: Fault) -> None:
    with fleet.valkey_frozen():
        await asyncio.sleep(fault.held_s)


async def _freeze_postgres(fleet: Fleet, fault: Fault) -> None:
    with fleet.postgres_frozen():
        await asyncio.sleep(fault.held_s)


async def _restart_valkey(fleet: Fleet, fault: Fault) -> None:
    fleet.valkey.kill()
    await asyncio.sleep(fault.held_s)
    await fleet.valkey.start()


async def _restart_postgres(fleet: Fleet, fault: Fault) -> None:
    await fleet.postgres.restart()


def _of_a_way(name: str, *words: float) -> Callable[[Fleet, Fault], Awaitable[None]]:
    """A verb of the proxy between one member and one store, then `heal`."""

    async def fail(fleet: Fleet, fault: Fault) -> None:
        member = fleet.members[fault.member]
        way = member.to_valkey if fault.verb.endswith("valkey") else member.to_postgres
        getattr(way, name)(*words)
        await asyncio.sleep(fault.held_s)
        way.heal()

    return fail


VERBS: Mapping[str, Callable[[Fleet, Fault], Awaitable[None]]] = {
    "kill": _kill,
    "drain": _drain,
    "freeze": _freeze,
    "wipe": _wipe,
    "freeze all of valkey": _freeze_valkey,
    "freeze all of postgres": _freeze_postgres,
    "restart valkey": _restart_valkey,
    "restart postgres": _restart_postgres,
    **{
        f"{name} {store}": _of_a_way(name.replace(" ", "_"), *words)
        for store in ("valkey", "postgres")
        for name, words in {
            "cut": (),
            "reset": (),
            "blackhole": (),
            "half open": (),
            "delay": (0.1,),
            "throttle": (50_000.0,),
        }.items()
    },
}


def faults_of(seed: int) -> Iterator[Fault]:
    """The sequence of a seed, without an end: every verb once, in some order, then every verb again."""
    random = Random(seed)
    while True:
        for verb in random.sample(list(VERBS), len(VERBS)):
            yield Fault(verb, random.randrange(3), random.uniform(*HELD_S))


# what is measured


@dataclass(frozen=True, slots=True)
class Bound:
    """The last third's median may be so much of the first third's, or so much more, whichever is more."""

    share: float
    more: float


BOUNDS: Mapping[str, Bound] = {
    "resident MB": Bound(1.1, 8),
    "allocated blocks": Bound(1.1, 20_000),
    "tasks": Bound(1.2, 15),
    "descriptors": Bound(1.2, 15),
    "sockets": Bound(1.2, 10),
    "waiting to be written": Bound(1.2, 50),
    "connections of postgres": Bound(1.2, 10),
    "connections of valkey": Bound(1.2, 10),
}
Series = Mapping[tuple[str, str], Sequence[float]]
"""By whose it is and what: one number a calm point, in order."""


def judged(series: Series) -> Iterator[tuple[str, str, float, float, bool]]:
    """(whose, what, first third, last third, whether it grew); medians, so that no single point decides."""
    for (whose, what), found in series.items():
        points = found[int(len(found) * WARM_UP) :]
        third = max(2, len(points) // 3)
        first, last = median(points[:third]), median(points[-third:])
        bound = BOUNDS[what]
        yield whose, what, first, last, last > max(first * bound.share, first + bound.more)


async def look(fleet: Fleet) -> dict[tuple[str, str], float]:
    """What everybody holds now."""
    found: dict[tuple[str, str], float] = {}
    async with httpx.AsyncClient(timeout=10) as http:  # one of its own: its connections end with it
        for member in fleet.members[:-1]:
            name, process = member.process.environment["HADIR_INSTANCE_ID"], psutil.Process(member.process.pid)
            member.process.signal(signal.SIGUSR2)
            text = (await http.get(f"{member.served.inner_url}/metrics")).text
            gauges: defaultdict[str, float] = defaultdict(float)
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    gauges[sample.name] += sample.value
            found |= {
                (name, "resident MB"): process.memory_info().rss / 2**20,
                (name, "descriptors"): process.num_fds(),
                (name, "allocated blocks"): gauges["hadir_allocated_blocks"],
                (name, "tasks"): gauges["hadir_tasks"],
                (name, "sockets"): gauges["hadir_connections"],
                (name, "waiting to be written"): gauges["hadir_batch_waiting"],
            }
    backends = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    found["all", "connections of postgres"] = await fleet.system.sql.fetchval(backends)
    found["all", "connections of valkey"] = len(await fleet.system.valkey.client_list())
    return found


async def calm(fleet: Fleet, simulation: Simulation) -> dict[tuple[str, str], float]:
    """Waits until everything is healed and everybody is back; then the medians of a few looks."""
    await asyncio.gather(*(member.well(CALM_S) for member in fleet.members))
    await fleet.connected_again()
    await fleet.system.valkey.connection_pool.disconnect()

    def most_are_there() -> bool:
        states = simulation.states()
        assert sum(states[each] for each in AWAY) <= AWAY_MAX, states
        return True

    await eventually(most_are_there, CALM_S)
    looks = []
    for _ in range(LOOKS):
        await asyncio.sleep(LOOK_EVERY_S)
        looks.append(await look(fleet))
    return {key: median(each[key] for each in looks) for key in looks[0]}


# the whole of it


class Soak:
    """One run, until `seconds` are over and there is enough to judge."""

    def __init__(self, fleet: Fleet, seed: int, seconds: float, logs: Path) -> None:
        self._fleet = fleet
        self._seed = seed
        self._faults = faults_of(seed)
        self._until = time.monotonic() + seconds
        self._logs = logs
        self.done = 0
        self.told = 0
        self.series: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    async def run(self) -> list[str]:
        """What is wrong, one line each."""
        wrong: list[str] = []
        chapter = 0
        while not self._is_over() and not wrong:
            chapter += 1
            wrong += await self._chapter(chapter)
        await self._fleet.system.no_drift()
        no_crash(self._logs)
        for whose, what, first, last, grew in judged(self.series):
            print(f"{whose:4} {what:24} {first:10.1f} → {last:10.1f}{'   GREW' if grew else ''}", flush=True)
            if grew:
                wrong.append(f"{what} of {whose} grew from {first:.1f} to {last:.1f}")
        return wrong

    def _is_over(self) -> bool:
        points = len(next(iter(self.series.values()), ()))
        return time.monotonic() >= self._until and points >= FEWEST

    async def _chapter(self, number: int) -> list[str]:
        """One population's life; what it was told that is not so."""
        system, history = self._fleet.system, History()
        urls = [each.url for each in self._fleet.served]
        name = f"{self._seed}-{number}"
        random = Random(name)
        people: dict[str, Any] = {"name": name, "history": history, "pace": PACE, "random": random, "lag_s": LAG_S}
        async with Simulation(system.config(), urls, MITRAS, CUSTOMERS, CHURN, **people) as simulation:
            for _ in range(ROUNDS_A_CHAPTER):
                if self._is_over():
                    break
                await self._round(simulation)
            breaches, answers = simulation.tally.breaches, simulation.tally.answered
        await self._fleet.connected_again()
        told = history.events()
        self.told += len(told)
        wrong = inconsistencies(told, await rows_of(system)) + await broken_rules(system)
        wrong += [str(breach) for breach in breaches]
        seen = f"{len(told)} things told, {answers} answers of the beacon"
        print(f"chapter {number}: {seen}, {len(wrong)} wrong", flush=True)
        return wrong

    async def _round(self, simulation: Simulation) -> None:
        for fault in islice(self._faults, FAULTS_A_ROUND):
            at = f"{datetime.now():%H:%M:%S}"
            print(f"{self.done + 1:5} {at} {fault.verb} (i{fault.member + 1}, {fault.held_s:.1f} s)", flush=True)
            await VERBS[fault.verb](self._fleet, fault)
            self.done += 1
            await asyncio.sleep(BETWEEN_S)  # of ordinary life
        point = await calm(self._fleet, simulation)
        for key, value in point.items():
            self.series[key].append(value)
        print("      " + ", ".join(f"{whose} {what} {value:.0f}" for (whose, what), value in point.items()), flush=True)


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Fleet]:
    async with EmbeddedPostgres(folder / "postgres", fsync=False) as postgres:
        await migrate(postgres.url)
        async with (
            EmbeddedValkey(folder / "valkey") as valkey,
            System(postgres.url, valkey.url, {**SETTINGS, "PAYMENT_TIMEOUT_SECONDS": "6"}) as system,
            Fleet(system, postgres, valkey, 3, logs=folder, prefix=COLLECTING) as fleet,
        ):
            yield fleet


async def soak(seed: int, seconds: float) -> int:
    raise_descriptor_limit()
    folder = make_folder()
    print(f"seed {seed}, {seconds:g} s", flush=True)
    wrong = ["it was cut off"]
    try:
        async with rig(folder) as fleet:
            run = Soak(fleet, seed, seconds, folder)
            wrong = await run.run()
            print(f"{run.done} faults, {run.told} things told")
    finally:
        if wrong:
            print("\n".join(wrong[:20]))
            print(f"again: SEED={seed} SECONDS={seconds:g} make soak; the logs: {folder}", flush=True)
        else:
            shutil.rmtree(folder)
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4 * 3600.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(soak(asked.seed, asked.seconds))


if __name__ == "__main__":
    sys.exit(main())

"""R11: three instances are replaced one by one, the version before by this one and back, and nobody can tell.

`HADIR_TEST_ROLLING=3000` has so many mitras; `HADIR_TEST_PREVIOUS=v1.2` takes that version as the one before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hadir.config import raise_descriptor_limit
from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.messages import CloseCode
from tests.support import eventually
from tests.support.crowd import Crowd
from tests.support.previous import ROOT, of_code_in, previous_version, python
from tests.support.system import FAST, Process, Served, System
from tests.support.trade import Trade

SIZE = int(os.environ.get("HADIR_TEST_ROLLING", "300"))
LONG = SIZE > 1000
CONNECT_S = 20 + SIZE / 20
DRAIN_S = 15 + SIZE // 100
"""A drain ends when everybody has gone; a busy machine has this long."""
TIMER_LATE_S = 3.0
"""Every instance looks for what is due every 0.4 s; the rest is what a busy machine takes."""
SETTINGS = {
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "20",  # an app that hears no pong for so long takes its server for dead
    "BEACON_CACHE_SECONDS": "0.1",
    "DRAIN_SECONDS": str(DRAIN_S),
    "PAIRING_TIMEOUT_SECONDS": "6",
    "PAIRING_WAVE_SIZE": "10",
    "PAIRING_WAVE_SECONDS": "1",
    "PAIRING_MAX_OFFERS": "30",
    "MITRA_MAX_OPEN_OFFERS": "50",
    "PAYMENT_TIMEOUT_SECONDS": "8",
    "SESSION_SECONDS": "6",
}
Replacing = tuple[Served, float, float]
"""An instance, and from when to when (monotonic) it was not there."""


async def test_nobody_notices_a_rolling_restart(empty_database: str, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    raise_descriptor_limit()
    old, new = of_code_in(previous_version(tmp_path / "previous")), of_code_in(ROOT)
    for version in (old, new):
        assert await python("-c", "import hadir; print(hadir.__path__[0])", environment=version) == (
            f"{version['PYTHONPATH']}/hadir\n"
        )
    async with System(empty_database, valkey.url, SETTINGS) as system:
        await python("-m", "hadir", "migrate", environment=system.environment(**old))
        processes = [await system.process(tmp_path / f"{n}.log", HADIR_INSTANCE_ID=f"i{n}", **old) for n in range(3)]
        trade = Trade(system, [each.served for each in processes])
        async with Crowd(system, trade.instances, SIZE, trade.hear) as crowd:
            # They are to be counted whatever they do, so that both counts have one right answer.
            await system.sql.execute("UPDATE mitras SET max_sessions = 100")
            await crowd.everyone_back(CONNECT_S)
            async with trade.with_mitras(crowd):
                await eventually(lambda: trade.deals > 10, 30)
                crowd.samples.clear()
                crowd.unanswered.clear()
                began = await system.sql.fetchval("SELECT clock_timestamp()")
                await python("-m", "hadir", "migrate", environment=system.environment(**new))
                away = await replaced(system, processes, new)
                away += await replaced(system, processes if LONG else processes[:1], old)
                seen = len(crowd.samples)
                await eventually(lambda: len(crowd.samples) > seen + 30, 20)
                await trade.closed()
                lost, delays, lateness = await trade.lost_offers(), await trade.delays_s(), await trade.lateness_s()
                left = await system.sql.fetch(
                    "SELECT state, reason, count(*) FROM presence_log "
                    "WHERE at >= $1 AND state <> 'online' GROUP BY state, reason",
                    began,
                )
                print(f"{SIZE} mitras, {trade.deals} deals, beacons {Counter(each.state for each in crowd.samples)}")
                print(f"offers heard after {quantiles(delays)}")
                for kind, late in lateness.items():
                    print(f"timer of a {kind} late by {quantiles(late)}")
                counted = Counter((each.available, each.online) for each in crowd.samples)
                assert counted.keys() == {(SIZE, SIZE)}, f"(available, online): {counted}"
                assert [tuple(each) for each in left] == [], "nobody flapped"
                assert lost == []
                assert {kind: late for kind, late in lateness.items() if not late or late[-1] > TIMER_LATE_S} == {}
                assert unexplained(crowd, away) == []


async def test_a_drain_asks_as_soon_as_the_others_let_in(database: str, valkey: EmbeddedValkey) -> None:
    async with System(
        database, valkey.url, {**FAST, "MITRA_HEARTBEAT_STALE_SECONDS": "60", "DRAIN_SECONDS": "60"}
    ) as system:
        leaving, other = await system.instance(), await system.instance()
        accounts = await system.accounts(20)
        phones = [await system.phone(leaving, account) for account in accounts]
        assert leaving.node is not None

        async def others_known() -> bool:
            assert leaving.node is not None
            await leaving.node.liveness.beat()
            return sum(each.state == "ready" for each in leaving.node.liveness.instances) == 2

        await eventually(others_known)
        drain = asyncio.create_task(leaving.node.drain())
        for account, phone in zip(accounts, phones, strict=True):
            await phone.message("reconnect", 15)  # over three quarters of the drain it would be 45 s for the last
            await system.phone(other, account)
        await asyncio.wait_for(drain, 15)
        assert {await phone.ended() for phone in phones} == {CloseCode.SUPERSEDED}


async def replaced(system: System, processes: Sequence[Process], version: dict[str, str]) -> list[Replacing]:
    """One after the other is drained and started as the other version, as soon as the one before says `ready`."""
    away: list[Replacing] = []
    for process in processes:
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert await process.stopped(DRAIN_S + 25) == 0
        drained = time.monotonic()
        process.environment.update(version)
        await process.start(system.http)
        away.append((process.served, began, time.monotonic()))
        print(f"drained in {drained - began:.1f} s, ready {away[-1][2] - drained:.1f} s later")
    return away


def unexplained(crowd: Crowd, away: Sequence[Replacing]) -> list[tuple[float, Served]]:
    """Beacons that did not answer although their instance was there."""
    return [
        (at, served)
        for at, served in crowd.unanswered
        if not any(served is gone and began <= at <= ended for gone, began, ended in away)
    ]


def quantiles(sorted_s: Sequence[float]) -> str:
    """In words."""
    if not sorted_s:
        return "nothing"
    p50, p99 = (sorted_s[int(len(sorted_s) * share)] for share in (0.5, 0.99))
    return f"p50 {p50:.2f}, p99 {p99:.2f}, max {sorted_s[-1]:.2f} s ({len(sorted_s)})"

"""A store's clock is set an hour forward, then back: those who live stay online, those who are lost do not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.conftest import make_folder
from tests.support import eventually
from tests.support.company import JumpingClock
from tests.support.crowd import Crowd
from tests.support.system import Served, System

HOUR_S = 3600
SIZE = 30
SLACK_S = 1.5
"""As under load: a socket counts for the crowd a moment before or after it does for the server."""
SETTINGS = {
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "1",
    "MITRA_HEARTBEAT_STALE_SECONDS": "5",
    "MITRA_OFFLINE_GRACE_SECONDS": "6",
    "MITRA_AUTO_OFFLINE_SWEEP_SECONDS": "0.5",
    "HEARTBEAT_MIRROR_INTERVAL_SECONDS": "1",
    "BEACON_CACHE_SECONDS": "0.2",
    "DRAIN_SECONDS": "1",
}


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    made = make_folder()
    yield made
    shutil.rmtree(made)


async def settles(crowd: Crowd) -> None:
    """The beacon has been asked for a while since, and says what it said before."""
    seen = len(crowd.samples)
    await eventually(lambda: len(crowd.samples) > seen + 20, 30)
    await crowd.everyone_back(30)


async def test_valkeys_clock_jumps_and_the_beacon_says_the_same(database: str, folder: Path) -> None:
    clock, valkey = JumpingClock(folder), EmbeddedValkey(folder / "valkey")
    clock.given_to(valkey)
    async with valkey, System(database, valkey.url, SETTINGS) as system:
        instances = await asyncio.gather(system.instance(), system.instance())
        async with Crowd(system, instances, SIZE) as crowd:
            await crowd.everyone_back(20)
            crowd.samples.clear()
            for seconds in (HOUR_S, -2 * HOUR_S):
                await jumped(clock, partial(valkeys_time, system), seconds)
                await settles(crowd)
                (_, newest), *_ = await system.valkey.zrange("mitras:heartbeats", 0, 0, desc=True, withscores=True)
                now = await valkeys_time(system)
                assert abs(newest / 1000 - now) < 60, "no beat is from before the jump"
            assert crowd.lows(SLACK_S) == []
            assert crowd.most() <= SIZE
            await system.no_drift()
            assert await crowd.offline_of_the_living() == []


async def test_postgres_clock_jumps_and_nobody_is_lost_or_kept_by_it(valkey: EmbeddedValkey, folder: Path) -> None:
    clock, postgres = JumpingClock(folder), EmbeddedPostgres(folder / "postgres", fsync=False)
    clock.given_to(postgres)
    async with postgres:
        await migrate(postgres.url)
        async with System(postgres.url, valkey.url, SETTINGS) as system:
            first, second = await asyncio.gather(system.instance(), system.instance())
            async with Crowd(system, [first, second], SIZE) as crowd:
                await crowd.everyone_back(20)
                await forward(system, clock, first, second)
                await settles(crowd)
                await back(system, clock, first, second)
                await settles(crowd)
                await system.no_drift()
                assert await crowd.offline_of_the_living() == []


async def valkeys_time(system: System) -> float:
    seconds, _ = await system.valkey.time()
    return float(seconds)


async def postgres_time(system: System) -> float:
    return float(await system.sql.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))


async def jumped(clock: JumpingClock, ask: Callable[[], Awaitable[float]], seconds: int) -> None:
    """Waits until the server says so: it may answer once more with a time that it has looked up already."""
    before = await ask()
    clock.jump(seconds)

    async def has_jumped() -> bool:
        return abs(await ask() - before - seconds) < HOUR_S / 2

    await eventually(has_jumped, 10)


async def forward(system: System, clock: JumpingClock, served: Served, other: Served) -> None:
    """A grace lasts as long as it lasts, whoever leads by then."""
    sweeps = [each.node.sweeps for each in (served, other) if each.node is not None]
    await eventually(lambda: not any(each.amnesty() for each in sweeps), 30)
    suspect = await system.account()
    phone = await system.phone(served, suspect)
    phone.cut()
    version = (await system.becomes(suspect, "suspect"))["version"]
    await jumped(clock, partial(postgres_time, system), HOUR_S)
    await eventually(lambda: all(each.amnesty() for each in sweeps), 10)
    again = await system.phone(served, suspect)
    assert await system.log_of(suspect) == [("online", "connected"), ("suspect", "lost"), ("online", "back")]
    assert (await system.row(suspect))["version"] > version
    await again.goodbye()
    await system.becomes(suspect, "offline")


async def back(system: System, clock: JumpingClock, first: Served, second: Served) -> None:
    """Whoever is lost goes in the usual time, however late they were seen; a newer socket is the newer one."""
    suspect, silent, moves = [await system.account() for _ in range(3)]
    old = await system.phone(first, moves)
    (await system.phone(first, suspect)).cut()
    assert (await system.ask(first, silent, "POST", "/api/mitra/status/online")).status_code == 200
    await system.becomes(suspect, "suspect")
    version = (await system.row(moves))["version"]
    await jumped(clock, partial(postgres_time, system), -HOUR_S)

    new = await system.phone(second, moves)
    assert await old.ended() == 4006
    row = await system.row(moves)
    assert row["connection_id"] == new.hello["connection_id"]
    assert row["version"] > version
    for account in (suspect, silent):
        await system.becomes(account, "offline", 60)
    await new.goodbye()

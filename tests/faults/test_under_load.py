"""What fails, under a crowd of beating mitras on two instances: the beacon stays right and nobody goes offline."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from hadir.db.pool import connect
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from hadir.realtime.verify import opened
from tests.support import eventually
from tests.support.crowd import Crowd
from tests.support.system import Process, System

SIZE = int(os.environ.get("HADIR_TEST_CROWD", "500"))
SETTINGS = {
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "2",
    "MITRA_HEARTBEAT_STALE_SECONDS": "8",
    "MITRA_OFFLINE_GRACE_SECONDS": "6",
    "MITRA_AUTO_OFFLINE_SWEEP_SECONDS": "1",
    "HEARTBEAT_MIRROR_INTERVAL_SECONDS": "3",
    "VALKEY_ONLINE_MIRROR_SWEEP_SECONDS": "5",
    "BEACON_CACHE_SECONDS": "0.5",
    "DRAIN_SECONDS": "3",
    "CONNECT_RATE_PER_SECOND": "400",
}
SLACK_S = 1.5
"""A socket counts for the crowd a moment before or after it does for the server, on two busy cores."""


@asynccontextmanager
async def crowded(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, folder: Path
) -> AsyncIterator[tuple[System, list[Process], Crowd]]:
    """Two instances as processes, and a crowd on them; at the end nothing may differ or have been lost."""
    async with System(postgres.url, valkey.url, SETTINGS) as system:
        processes = [await system.process(folder / f"instance-{n}.log", HADIR_INSTANCE_ID=f"i{n}") for n in (1, 2)]
        async with Crowd(system, [process.served for process in processes], SIZE) as crowd:
            await crowd.everyone_back(20)
            crowd.samples.clear()
            yield system, processes, crowd
            await crowd.everyone_back(30)
            await no_drift(system)
            assert crowd.lows(SLACK_S) == []
            assert crowd.most() <= SIZE
            if system.sql.is_closed():
                system.sql = await connect(system.database_url, pooler="none")
            assert await crowd.offline_of_the_living() == []


async def no_drift(system: System) -> None:
    async with opened(system.config()) as (verifier, _):

        async def clean() -> bool:
            report = await verifier.compare()
            assert (report.differences, report.silent) == ([], [])
            return True

        await eventually(clean, 20)


async def test_an_instance_is_killed(own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with crowded(own_postgres, valkey, tmp_path) as (system, processes, crowd):
        await processes[0].kill()
        await eventually(lambda: crowd.live == SIZE, 30)
        await processes[0].start(system.http)


async def test_valkey_is_wiped(own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with crowded(own_postgres, valkey, tmp_path) as (system, _, crowd):
        for _ in range(3):
            seen = len(crowd.samples)
            await system.valkey.flushall()
            await eventually(lambda before=seen: len(crowd.samples) > before + 10)  # type: ignore[misc]
            await crowd.everyone_back(10)


async def test_valkey_hangs_and_thaws(own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with crowded(own_postgres, valkey, tmp_path) as (_, _, crowd):
        valkey.freeze()
        try:
            await eventually(lambda: any(sample.state == "rebuilding" for sample in crowd.samples), 10)
            seen = len(crowd.samples)
            await eventually(lambda: len(crowd.samples) > seen + 150, 40)
        finally:
            valkey.thaw()


async def test_valkey_is_killed_and_comes_back_empty(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with crowded(own_postgres, valkey, tmp_path) as (_, _, crowd):
        valkey.kill()
        await eventually(lambda: any(sample.state == "rebuilding" for sample in crowd.samples), 10)
        await valkey.start()


async def test_postgres_restarts(own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with crowded(own_postgres, valkey, tmp_path) as (system, _, crowd):
        crowd.clients[0].drop()
        await own_postgres.restart()
        crowd.clients[1].drop()

        async def writable() -> bool:
            try:
                system.sql = await connect(system.database_url, pooler="none")
            except (OSError, asyncpg.PostgresError):
                return False
            return True

        await eventually(writable, 10)


async def test_postgres_is_away_for_longer_than_the_grace(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with crowded(own_postgres, valkey, tmp_path) as (_, _, crowd):
        await own_postgres.stop()
        for client in crowd.clients[:20]:
            client.drop()  # they come back while nobody can write it down
        seen = len(crowd.samples)
        await eventually(lambda: len(crowd.samples) > seen + 160, 40)
        await own_postgres.start()

"""The stores that are measured, full of mitras, and what they say of themselves."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import httpx
import psutil
import redis.asyncio as redis

from benchmarks.document import ROOT
from hadir.config import Config, load
from hadir.db.migrate import migrate
from hadir.db.pool import Postgres
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey, dies_with_parent, free_port
from hadir.http.auth import mint
from hadir.realtime import rows as presence_rows
from hadir.realtime.keys import Keys
from hadir.realtime.mirror import Mirror
from hadir.realtime.seeding import Seeder
from hadir.realtime.valkey import Valkey
from hadir.realtime.verify import reached

FILL_S = 900.0
READY_S = 60.0
TOKEN_S = 86_400
SLOW_MS = 5.0
INSTANCES = [f"made-up-{n}" for n in range(50)]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who is online at made-up instances."""

    mitra_ids: Sequence[str]
    owners: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stores:
    """Postgres and Valkey by the server's own code, and by none of it."""

    config: Config
    environment: Mapping[str, str]
    postgres: Postgres
    sql: asyncpg.Connection
    mirror: Mirror
    seeder: Seeder
    client: redis.Redis
    valkey_process: psutil.Process
    folder: Path

    @property
    def valkey_cpu_s(self) -> float:
        return cpu_s(self.valkey_process)

    async def valkey_mb(self) -> float:
        return float((await self.client.info("memory"))["used_memory"]) / 1e6

    async def slow_scripts_ms(self) -> list[float]:
        """Of the scripts over `SLOW_MS` since the last time, how long they took."""
        entries = await self.client.slowlog_get(10_000)
        await self.client.slowlog_reset()
        return [entry["duration"] / 1000 for entry in entries if entry["command"].startswith(b"EVAL")]

    async def statements(self) -> int:
        """How many Postgres has executed for others than this benchmark."""
        asked = "SELECT sum(calls)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat%'"
        return int(await self.sql.fetchval(asked))

    async def rows_written(self) -> tuple[int, int, int]:
        """Of presence rows: versions written, how many of those HOT, how many are dead now."""
        asked = "SELECT n_tup_upd, n_tup_hot_upd, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'mitra_presence'"
        return tuple(await self.sql.fetchrow(asked))

    async def fleet(self, skipped: int) -> Fleet:
        """Everybody online but the first ones, in the order of ids."""
        asked = (
            "SELECT mitra_id::text, instance_id || ' ' || connection_id FROM mitra_presence WHERE is_online "
            "ORDER BY mitra_id OFFSET $1"
        )
        found = await self.sql.fetch(asked, skipped, timeout=FILL_S)
        return Fleet([record[0] for record in found], [record[1] for record in found])

    async def tokens(self, count: int) -> Path:
        """A file with tokens of the first of those online."""
        asked = "SELECT mitra_id::text, sid::text FROM mitra_presence WHERE is_online ORDER BY mitra_id LIMIT $1"
        found = await self.sql.fetch(asked, count)
        file = self.folder / "tokens"
        file.write_text("".join(f"{mint(self.config, 'mitra', sub, sid, TOKEN_S)}\n" for sub, sid in found))
        return file


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def filled(mitras: int) -> AsyncIterator[Stores]:
    """New stores: Postgres with so many mitras, Valkey empty."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hadir-bench-")))
        folder.chmod(0o711)  # for the user that PostgreSQL runs as
        database = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres", fsync=False))
        valkey = await stack.enter_async_context(EmbeddedValkey(folder / "valkey"))
        await _fill(database, mitras)
        environment = {
            "DATABASE_URL": database.url,
            "VALKEY_URL": valkey.url,
            "AUTH_JWT_SECRET": secrets.token_hex(32),
            "HOST": "127.0.0.1",
            "LOG_LEVEL": "warning",
            "CONNECT_RATE_PER_SECOND": "10000",
            "DRAIN_SECONDS": "0",
        }
        config, keys = load(environment), Keys("")
        postgres = await stack.enter_async_context(Postgres(database.url))
        link = await stack.enter_async_context(Valkey(valkey.url))
        await reached(postgres, link)
        mirror = _mirror(link, postgres, keys, config)
        client = await stack.enter_async_context(redis.Redis.from_url(valkey.url))
        await client.config_set("slowlog-log-slower-than", round(SLOW_MS * 1000))
        await client.config_set("slowlog-max-len", 10_000)
        connection = await asyncpg.connect(database.url)
        stack.push_async_callback(connection.close)
        process, seeder = psutil.Process(valkey.pid), Seeder(mirror, postgres, keys)
        yield Stores(config, environment, postgres, connection, mirror, seeder, client, process, folder)


async def _fill(database: EmbeddedPostgres, mitras: int) -> None:
    await migrate(database.url)
    connection = await asyncpg.connect(database.url)
    await connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
    await connection.execute("CREATE EXTENSION pg_stat_statements")
    text = Path(__file__).with_name("fill.sql").read_text()
    await connection.execute(text.format(mitras=mitras), timeout=FILL_S)
    await connection.execute("VACUUM ANALYZE", timeout=FILL_S)
    await connection.execute("CHECKPOINT", timeout=FILL_S)
    await connection.close()
    await database.restart()


def _mirror(valkey: Valkey, postgres: Postgres, keys: Keys, config: Config) -> Mirror:
    return Mirror(
        valkey,
        keys,
        stale_s=config.heartbeat_stale_s,
        interval_s=config.heartbeat_interval_s,
        postgres_fresh_s=config.postgres_fresh_s,
        lease_s=3_600,
        reread=lambda ids: presence_rows.read(postgres, ids),
        live_instances=lambda: INSTANCES,
        on_backwards=lambda: None,
        on_overflow=lambda: None,
    )


@asynccontextmanager
async def serving(stores: Stores) -> AsyncIterator[tuple[psutil.Process, int, float]]:
    """An instance: its process, its port, and the seconds from its start to `/ready`."""
    port = free_port(2)
    environment = {**os.environ, **stores.environment, "PORT": str(port), "INTERNAL_PORT": str(port + 1)}
    began = time.monotonic()
    process = psutil.Popen(
        [sys.executable, "-m", "hadir", "serve"], env=environment, cwd=ROOT, preexec_fn=dies_with_parent()
    )
    try:
        await _ready(f"http://127.0.0.1:{port}/ready", began)
        yield process, port, time.monotonic() - began
    finally:
        process.terminate()
        process.wait(READY_S)


async def _ready(url: str, began: float) -> None:
    async with httpx.AsyncClient() as http:
        while True:
            try:
                answer: Any = await http.get(url)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == httpx.codes.OK:
                return
            if time.monotonic() > began + READY_S:
                raise RuntimeError(f"not ready within {READY_S:g} s: {answer and answer.text}")

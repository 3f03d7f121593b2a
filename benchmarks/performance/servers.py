"""What is measured: a server on one core, its stores and the load on the other."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import httpx
import psutil

from benchmarks.load import HADIR, Dialect, Load
from benchmarks.peers import FLOOR, Peer, publish
from benchmarks.scene import accounts, folder, serving, stores
from hadir.config import Config, load
from hadir.dev.accounts import create_account
from hadir.dev.embedded import EmbeddedValkey, dies_with_parent, free_port
from hadir.http.auth import mint

CORES = sorted(os.sched_getaffinity(0))
READY_S = 30.0
TOKEN_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and the Valkey that it writes to."""

    processes: Sequence[psutil.Process]
    port: int
    valkey_url: str
    tokens: Path
    tell: Callable[[str], Awaitable[None]]
    """Has a message that contains the text sent to every socket."""
    dialect: Dialect = HADIR
    database_url: str = ""
    """Empty for a peer: it has none."""
    records: bool = True
    """Whether beats reach Valkey."""
    inner: str = ""
    operator: Mapping[str, str] = field(default_factory=dict)
    """Headers of someone who may change things."""
    environment: Mapping[str, str] = field(default_factory=dict)
    postgres_log: Path = Path()

    @property
    def cpu_s(self) -> float:
        return sum(time.clock_gettime(cpu_clock(process.pid)) for process in self.processes)

    @property
    def rss(self) -> int:
        return sum(int(process.memory_info().rss) for process in self.processes)

    def sockets(self) -> Load:
        return Load(self.port, self.tokens, self.dialect)


def cpu_clock(pid: int) -> int:
    """The clock of a process' user and system time, in nanoseconds, as `clock_getcpuclockid(3)` makes it on Linux.

    What `/proc/PID/stat` has are hundredths of a second: few of them, for a server that does nothing but accept.
    """
    return (~pid << 3) | 2


def on_own_core() -> Callable[[], None]:
    """Prepares a child process: the first core is the server's alone, where there are two."""
    dies = dies_with_parent()

    def prepare() -> None:
        dies()
        os.sched_setaffinity(0, CORES[:1])

    return prepare


def leave_a_core() -> None:
    """This process, and what it starts from here on, stays off the server's core."""
    os.sched_setaffinity(0, CORES[1:] or CORES)


@asynccontextmanager
async def hadir(mitras: int, **settings: str) -> AsyncIterator[Server]:
    """Hadir with everything on, and new stores: tokens, logins, limits, metrics."""
    async with stores() as (postgres, valkey):
        port = free_port(2)
        environment = {
            "DATABASE_URL": postgres.url,
            "VALKEY_URL": valkey.url,
            "AUTH_JWT_SECRET": secrets.token_hex(32),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "INTERNAL_PORT": str(port + 1),
            "LOG_LEVEL": "warning",
            "CONNECT_RATE_PER_SECOND": "10000",
            "DRAIN_SECONDS": "0",
            "BEACON_CACHE_SECONDS": "10",
            **settings,
        }
        config = load(environment)
        tokens = _write(valkey.data_dir, await accounts(postgres.url, config, mitras))
        bearer = {"authorization": f"Bearer {await _operator(postgres.url, config)}"}
        async with serving(environment, on_own_core()) as pid:
            await _ready(port)
            inner = f"http://127.0.0.1:{port + 1}"

            async def tell(text: str) -> None:
                async with httpx.AsyncClient(headers=bearer) as http:
                    answer = await http.put(f"{inner}/api/internal/config/app_notice", json={"value": text})
                    answer.raise_for_status()

            yield Server(
                [psutil.Process(pid)],
                port,
                valkey.url,
                tokens,
                tell,
                database_url=postgres.url,
                inner=inner,
                operator=bearer,
                environment=environment,
                postgres_log=postgres.log,
            )


@asynccontextmanager
async def another(server: Server, connects_per_s: int) -> AsyncIterator[Server]:
    """A second instance beside it, on the same stores."""
    port = free_port(2)
    environment = {
        **server.environment,
        "PORT": str(port),
        "INTERNAL_PORT": str(port + 1),
        "CONNECT_RATE_PER_SECOND": str(connects_per_s),
    }
    async with serving(environment, on_own_core()) as pid:
        await _ready(port)
        yield replace(server, processes=[psutil.Process(pid)], port=port, inner=f"http://127.0.0.1:{port + 1}")


@dataclass(slots=True)
class Statements:
    """How many Postgres was asked to execute, by its own log."""

    count: int = 0


@asynccontextmanager
async def statements_of(server: Server) -> AsyncIterator[Statements]:
    """Has Postgres log every statement meanwhile."""
    found = Statements()
    connection = await asyncpg.connect(server.database_url)
    try:
        await _logged(connection, "all")
        start = server.postgres_log.stat().st_size
        yield found
        await _logged(connection, "none")
        with server.postgres_log.open("rb") as log:
            log.seek(start)
            found.count = len(re.findall(rb"LOG:  (?:execute|statement)", log.read()))
    finally:
        await connection.close()


async def _logged(connection: asyncpg.Connection, what: str) -> None:
    await connection.execute(f"ALTER SYSTEM SET log_statement = '{what}'")
    await connection.execute("SELECT pg_reload_conf()")
    await asyncio.sleep(1)  # each server process reads it between two statements


@asynccontextmanager
async def peer(which: Peer, mitras: int) -> AsyncIterator[Server]:
    """One of the servers that Hadir is measured beside."""
    with folder() as place:
        async with EmbeddedValkey(place) as valkey:
            async with _peer(which, mitras, valkey) as server:
                yield server


@asynccontextmanager
async def _peer(which: Peer, mitras: int, valkey: EmbeddedValkey) -> AsyncIterator[Server]:
    port, secret = free_port(), secrets.token_hex(32)
    config = load({"DATABASE_URL": "postgresql://-", "VALKEY_URL": valkey.url, "AUTH_JWT_SECRET": secret})
    ids = [str(uuid.uuid4()) for _ in range(mitras)]
    tokens = _write(valkey.data_dir, [mint(config, "mitra", each, each, TOKEN_S) for each in ids])

    async def tell(text: str) -> None:
        await publish(port, json.dumps({"type": "config.updated", "config": {"app_notice": text}}).encode())

    async with which.serve(port, valkey.url, secret, CORES[0]) as pids:
        processes = [psutil.Process(pid) for pid in pids]
        yield Server(processes, port, valkey.url, tokens, tell, which.dialect, records=which is not FLOOR)


async def _operator(database_url: str, config: Config) -> str:
    connection = await asyncpg.connect(database_url)
    who = str(uuid.uuid4())
    session = await create_account(connection, "operator", who)
    await connection.close()
    return mint(config, "operator", who, session, TOKEN_S)


async def _ready(port: int) -> None:
    """Waits until an instance is ready."""
    async with asyncio.timeout(READY_S), httpx.AsyncClient() as http:
        while True:
            try:
                answer = await http.get(f"http://127.0.0.1:{port}/ready")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 200:
                return
            await asyncio.sleep(0.05)


def _write(folder: Path, tokens: Sequence[str]) -> Path:
    file = folder / "tokens"
    file.write_text("".join(f"{token}\n" for token in tokens))
    return file

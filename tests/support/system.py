"""Instances, accounts and clients for tests: the real server, in this process or as one of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx
import redis.asyncio as redis
import websockets
from websockets.asyncio.client import ClientConnection

from hadir.config import Config, load
from hadir.db.pool import connect
from hadir.dev.embedded import dies_with_parent, free_port
from hadir.errors import StoreUnavailable
from hadir.http.auth import mint
from hadir.http.server import Instance, running
from hadir.realtime.node import Node
from hadir.realtime.verify import opened
from tests.support import company, eventually

SECRET = "a-secret-of-the-tests-that-is-long-enough"
FAST = {
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "0.5",
    "MITRA_HEARTBEAT_STALE_SECONDS": "4",
    "MITRA_OFFLINE_GRACE_SECONDS": "1",
    "MITRA_AUTO_OFFLINE_SWEEP_SECONDS": "0.5",
    "HEARTBEAT_MIRROR_INTERVAL_SECONDS": "1",
    "HEARTBEAT_FLUSH_MILLISECONDS": "50",
    "BEACON_CACHE_SECONDS": "0.2",
    "DRAIN_SECONDS": "1",
}
"""Short durations, so that what takes a minute in production is seen in seconds."""

SILENT = FAST | {"MITRA_HEARTBEAT_STALE_SECONDS": "40"}
"""For sockets of tests that never beat."""


@dataclass
class Account:
    """A login with its rows in the database."""

    id: str
    sid: str
    role: str
    config: Config

    @property
    def token(self) -> str:
        return self.make_token()

    def make_token(self, ttl_s: float = 600) -> str:
        return mint(self.config, self.role, self.id, self.sid, ttl_s)

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Served:
    """One running instance as clients see it; `node` only where it runs in this process."""

    public_port: int
    internal_port: int
    node: Node | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.public_port}"

    @property
    def inner_url(self) -> str:
        return f"http://127.0.0.1:{self.internal_port}"

    def ws_url(self, query: str = "") -> str:
        return f"ws://127.0.0.1:{self.public_port}/ws/mitra{query}"


class Phone:
    """A mitra's socket: the websockets library, and what it received."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.received: list[dict[str, Any]] = []
        self.hello: dict[str, Any] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                self.received.append(json.loads(text))
        except websockets.ConnectionClosed:
            return

    @property
    def closed_with(self) -> int | None:
        return self.socket.close_code if self._reader.done() else None

    async def send(self, **fields: Any) -> None:
        await self.socket.send(json.dumps(fields))

    async def ask(self, **fields: Any) -> dict[str, Any]:
        """Sends a message with an id and answers what came back for it."""
        asked = uuid.uuid4().hex
        await self.send(**fields, id=asked)
        found: dict[str, Any] = await eventually(lambda: next((m for m in self.received if m.get("re") == asked), None))
        return found

    async def message(self, kind: str, within: float = 5.0) -> dict[str, Any]:
        """The first message of a type."""
        found: dict[str, Any] = await eventually(
            lambda: next((m for m in self.received if m["type"] == kind), None), within
        )
        return found

    async def goodbye(self) -> None:
        await self.socket.close(1000)
        await self._reader

    def cut(self) -> None:
        """The TCP connection is reset, without a close frame."""
        self.socket.transport.abort()

    async def ended(self, within: float = 5.0) -> int | None:
        """The close code that the server sent."""
        await eventually(self._reader.done, within)
        return self.socket.close_code


@dataclass
class System:
    """A database, a Valkey, and instances on them. Use `async with`."""

    database_url: str
    valkey_url: str
    settings: Mapping[str, str] = field(default_factory=lambda: FAST)

    def __post_init__(self) -> None:
        self._stack = AsyncExitStack()
        self._phones: list[Phone] = []

    async def __aenter__(self) -> Self:
        self.sql: asyncpg.Connection = await connect(self.database_url, pooler="none")
        # The server ends a connection that was idle for 5 s; a client that keeps it as long may send into its end.
        limits = httpx.Limits(keepalive_expiry=2)
        self.http = await self._stack.enter_async_context(httpx.AsyncClient(timeout=10, limits=limits))
        self.valkey: Any = redis.Redis.from_url(self.valkey_url, decode_responses=True)
        return self

    async def valkey_is(self, url: str) -> None:
        """From now on it is another one, for the test's own eyes and for instances that start."""
        await self.valkey.aclose()
        self.valkey_url = url
        self.valkey = redis.Redis.from_url(url, decode_responses=True)

    async def __aexit__(self, *_: object) -> None:
        for phone in self._phones:
            phone.cut()
            await asyncio.wait([phone._reader])
        await self._stack.aclose()
        await self.valkey.aclose()
        if not self.sql.is_closed():
            self.sql.terminate()

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url,
            "VALKEY_URL": self.valkey_url,
            "AUTH_JWT_SECRET": SECRET,
            "HOST": "127.0.0.1",
            "PORT": "0",
            "INTERNAL_PORT": "0",
            "LOG_FORMAT": "text",
            **company.environment(self.database_url, self.valkey_url),
            **self.settings,
            **more,
        }

    def config(self, **more: str) -> Config:
        return load(self.environment(**more))

    # instances

    async def instance(self, **more: str) -> Served:
        """An instance in this process, until the end of the test."""
        return await self._stack.enter_async_context(self.running(**more))

    @asynccontextmanager
    async def running(self, **more: str) -> AsyncIterator[Served]:
        """An instance in this process, for a block."""
        instance: Instance
        async with running(self.config(**more)) as instance:
            assert instance.public_port is not None
            assert instance.internal_port is not None
            await eventually(lambda: instance.node.state == "ready" and not instance.node.degraded(), 10)
            yield Served(instance.public_port, instance.internal_port, instance.node)

    async def process(self, log: Path | None = None, *, prefix: Sequence[str] = (), **more: str) -> Process:
        """An instance in a process of its own, so that it can be killed, frozen and signalled."""
        ports = {"PORT": str(free_port()), "INTERNAL_PORT": str(free_port())}
        process = Process(self.environment(**ports, **more), log, prefix)
        self._stack.push_async_callback(process.kill)
        await process.start(self.http)
        return process

    # people

    async def account(self, role: str = "mitra", *, sub: str | None = None) -> Account:
        account = Account(sub or str(uuid.uuid4()), str(uuid.uuid4()), role, self.config())
        if role in ("mitra", "customer"):
            await self.sql.execute(f"INSERT INTO {role}s (id) VALUES ($1) ON CONFLICT DO NOTHING", account.id)
        await self.sql.execute(
            "INSERT INTO auth_sessions (id, subject_id, role, expires_at) "
            "VALUES ($1, $2, $3, now() + interval '1 day')",
            account.sid,
            account.id,
            role,
        )
        return account

    async def accounts(self, count: int, role: str = "mitra") -> list[Account]:
        """Many mitras, or customers, at once."""
        made = [Account(str(uuid.uuid4()), str(uuid.uuid4()), role, self.config()) for _ in range(count)]
        ids, sids = [each.id for each in made], [each.sid for each in made]
        await self.sql.execute(f"INSERT INTO {role}s (id) SELECT unnest($1::uuid[])", ids)
        await self.sql.execute(
            "INSERT INTO auth_sessions (id, subject_id, role, expires_at) "
            "SELECT i.sid, i.id, $3, now() + interval '1 day' FROM unnest($1::uuid[], $2::uuid[]) AS i(sid, id)",
            sids,
            ids,
            role,
        )
        return made

    async def phone(self, served: Served, account: Account, query: str = "", **options: Any) -> Phone:
        """Connects and waits for `hello`."""
        return await self.watch(served.ws_url(query), account, **options)

    async def watch(self, url: str, account: Account, **options: Any) -> Phone:
        """Connects to any socket and waits for `hello`."""
        socket = await websockets.connect(
            url, additional_headers=account.bearer, compression=None, ping_interval=None, **options
        )
        phone = Phone(socket)
        self._phones.append(phone)
        phone.hello = await phone.message("hello")
        return phone

    async def customer(self, served: Served, account: Account) -> Phone:
        """A customer's socket, after its `hello`."""
        return await self.watch(f"ws://127.0.0.1:{served.public_port}/ws/customer", account)

    async def ask(self, served: Served, account: Account, method: str, path: str, **options: Any) -> httpx.Response:
        """A request of somebody to the public listener."""
        headers = account.bearer | options.pop("headers", {})
        return await self.http.request(method, served.url + path, headers=headers, **options)

    async def pair(self, served: Served, customer: Account, note: str = "") -> dict[str, Any]:
        """A customer asks to be paired; answers the pairing."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        answer = await self.ask(served, customer, "POST", "/api/pairings", headers=key, json={"note": note})
        assert answer.status_code == 201, answer.text
        pairing: dict[str, Any] = answer.json()
        return pairing

    # what is true

    def waits(self, served: Served, account: Account) -> bool:
        """Whether a request of this one has read what it compares with, and waits until that is another."""
        assert served.node is not None
        waiting = served.node.waiters._waiting.get(account.id, ())
        return any(wait.changed._waiters for wait in waiting)

    async def row(self, account: Account) -> asyncpg.Record:
        record = await self.sql.fetchrow(
            "SELECT *, mitra_presence_state(is_online, suspect_since) AS state FROM mitra_presence WHERE mitra_id = $1",
            account.id,
        )
        assert record is not None
        return record

    async def state(self, account: Account) -> str:
        return str((await self.row(account))["state"])

    async def becomes(self, account: Account, state: str, within: float = 5.0) -> asyncpg.Record:
        """Waits until a mitra is in a state; answers its row."""

        async def reached() -> asyncpg.Record | None:
            record = await self.row(account)
            return record if record["state"] == state else None

        found = await eventually(reached, within)
        assert found is not None
        return found

    async def lose_at_once(self, phones: Sequence[Phone]) -> None:
        """Cuts phones; their graces begin at one moment, so that no look of a sweep falls between their ends."""
        for phone in phones:
            phone.cut()

        async def suspected() -> bool:
            count: int = await self.sql.fetchval("SELECT count(*) FROM mitra_presence WHERE suspect_since IS NOT NULL")
            return count == len(phones)

        await eventually(suspected)
        await self.sql.execute(
            "UPDATE mitra_presence SET suspect_since = now(), version = version + 1 WHERE suspect_since IS NOT NULL"
        )

    async def log_of(self, account: Account) -> list[tuple[str, str]]:
        """(state, reason) of every change, in order."""
        records = await self.sql.fetch(
            "SELECT state, reason FROM presence_log WHERE mitra_id = $1 ORDER BY recorded_at", account.id
        )
        return [(record["state"], record["reason"]) for record in records]

    async def beacon(self, served: Served) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"{served.url}/api/beacon")).json()
        return found

    async def available(self, served: Served, count: int, within: float = 5.0) -> None:
        """Waits until the beacon says so, live."""

        async def said() -> bool:
            beacon = await self.beacon(served)
            assert (beacon.get("available"), beacon.get("state")) == (count, "live")
            return True

        await eventually(said, within)

    async def no_drift(self, within: float = 30.0) -> None:
        """`hadir verify`: Postgres, Valkey and every instance agree, nobody is silent."""
        async with opened(self.config()) as (verifier, _):

            async def clean() -> bool:
                try:
                    report = await verifier.compare()
                except StoreUnavailable as away:  # for a moment, on a machine that has no time for it
                    raise AssertionError(str(away)) from away
                assert (report.differences, report.silent) == ([], []), f"{report}"
                return True

            await eventually(clean, within)


class Process:
    """`hadir serve` as a process."""

    def __init__(self, environment: dict[str, str], log: Path | None, prefix: Sequence[str] = ()) -> None:
        self.environment = environment
        self._prefix = prefix
        self.served = Served(int(environment["PORT"]), int(environment["INTERNAL_PORT"]))
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, http: httpx.AsyncClient, *, ready: bool = True) -> None:
        output = self._log.open("ab") if self._log else None
        self._process = await asyncio.create_subprocess_exec(
            *self._prefix,
            sys.executable,
            "-m",
            "hadir",
            "serve",
            env={"PATH": os.environ["PATH"], **self.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=dies_with_parent(),
        )
        if output:
            output.close()

        async def is_ready() -> bool:
            try:
                return (await http.get(f"{self.served.url}/ready")).status_code == 200
            except httpx.TransportError:
                return False

        if ready:
            await eventually(is_ready, 60)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stopped(self, within: float = 20.0) -> int:
        """Waits for its end; answers the exit code."""
        assert self._process is not None
        async with asyncio.timeout(within):
            return await self._process.wait()

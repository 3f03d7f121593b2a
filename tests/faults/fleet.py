"""Instances as processes, each with its own way to the stores: everything that can fail can be told to.

The verbs: `Member` is killed, frozen, thawed, drained, restarted, cut off from one store; the servers are killed,
frozen, thawed, stopped, started, restarted (`hadir.dev.embedded`); `wiped` and `replaced` are about what they hold.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from hadir.db.pool import connect
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.faults.proxy import Proxy
from tests.support import eventually
from tests.support.system import Process, Served, System


class Member:
    """One instance of a fleet, and its ways to Postgres and Valkey."""

    def __init__(self, process: Process, system: System, to_postgres: Proxy, to_valkey: Proxy) -> None:
        self.process = process
        self._system = system
        self.to_postgres = to_postgres
        self.to_valkey = to_valkey

    @property
    def served(self) -> Served:
        return self.process.served

    async def kill(self) -> None:
        """SIGKILL: its kernel ends its connections, nobody else says a word."""
        await self.process.kill()

    async def start(self) -> None:
        """Under the same name and on the same ports as before."""
        await self.process.start(self._system.http)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for a block."""
        self.process.freeze()
        try:
            yield
        finally:
            self.process.thaw()

    async def metric(self, name: str) -> float:
        """The sum of all series of a name."""
        text = (await self._system.http.get(f"{self.served.inner_url}/metrics")).text
        lines = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def drain(self, within: float = 30.0) -> None:
        """SIGTERM, as every deploy does it; it must end with 0."""
        self.process.signal(signal.SIGTERM)
        code = await self.process.stopped(within)
        assert code == 0, f"a drain ended with {code}"

    async def well(self, within: float = 20.0) -> None:
        """Waits until it says `ready`, with nothing degraded."""

        async def says_so() -> bool:
            try:
                answer = await self._system.http.get(f"{self.served.url}/ready")
            except httpx.TransportError as error:  # a kept connection that it has closed while it was frozen
                raise AssertionError(repr(error)) from error
            assert answer.json() == {"state": "ready"}
            return True

        await eventually(says_so, within)


class Fleet:
    """`async with` starts `size` instances on two stores; `settings` are the environment of all of them.

    They run behind the words of `prefix`. Not `relayed`: their ways to the stores lead through no proxy of this
    process, and cannot be cut. For heavy loads.
    """

    def __init__(
        self,
        system: System,
        postgres: EmbeddedPostgres,
        valkey: EmbeddedValkey,
        size: int,
        logs: Path | None = None,
        *,
        relayed: bool = True,
        prefix: Sequence[str] = (),
        **settings: str,
    ) -> None:
        self.system = system
        self.postgres = postgres
        self.valkey = valkey
        self.members: list[Member] = []
        self._size = size
        self._logs = logs
        self._relayed = relayed
        self._prefix = prefix
        self._settings = settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            names = [f"i{number + 1}" for number in range(self._size)]
            self.members = await asyncio.gather(*(self._member(name) for name in names))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            await member.kill()  # before its ways to the stores close
        await self._stack.aclose()

    async def _member(self, name: str) -> Member:
        to_postgres = await self._stack.enter_async_context(Proxy(self.postgres.port))
        to_valkey = await self._stack.enter_async_context(Proxy(self.valkey.port))
        process = await self.system.process(
            None if self._logs is None else self._logs / f"{name}.log",
            prefix=self._prefix,
            HADIR_INSTANCE_ID=name,
            DATABASE_URL=self._way(self.postgres, to_postgres),
            VALKEY_URL=self._way(self.valkey, to_valkey),
            **self._settings,
        )
        return Member(process, self.system, to_postgres, to_valkey)

    def _way(self, store: EmbeddedPostgres | EmbeddedValkey, proxy: Proxy) -> str:
        return store.url.replace(f":{store.port}/", f":{proxy.port}/") if self._relayed else store.url

    @property
    def served(self) -> list[Served]:
        return [member.served for member in self.members]

    async def leader(self) -> Member:
        """Who runs the sweeps at the moment."""

        async def found() -> Member | None:
            leading = [member for member in self.members if await member.metric("hadir_leader")]
            return leading[0] if len(leading) == 1 else None

        leader: Member = await eventually(found, 20)
        return leader

    # what stores hold

    async def wiped(self) -> None:
        """FLUSHALL."""
        await self.system.valkey.connection_pool.disconnect()  # its server may be another one by now
        await self.system.valkey.flushall()

    async def replaced(self, other: EmbeddedValkey) -> None:
        """A failover to another Valkey, whatever that one holds: every instance's way leads there from now on."""
        self.valkey = other
        await self.system.valkey_is(other.url)
        for member in self.members:
            member.to_valkey.retarget(other.port)

    @contextmanager
    def postgres_frozen(self) -> Iterator[None]:
        with ExitStack() as thawing:
            thawing.callback(self.postgres.thaw)
            self.postgres.freeze()
            yield

    @contextmanager
    def valkey_frozen(self) -> Iterator[None]:
        with ExitStack() as thawing:
            thawing.callback(self.valkey.thaw)
            self.valkey.freeze()
            yield

    async def connected_again(self) -> None:
        """The test's own connection to Postgres, after that was away."""

        async def again() -> bool:
            if self.system.sql.is_closed():
                self.system.sql = await connect(self.system.database_url, pooler="none")
            return bool(await self.system.sql.fetchval("SELECT true"))

        await eventually(again, 20)

"""Postgres behind deadlines: a call ends with its answer or with `PostgresUnavailable`, and heals by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import asyncpg
import orjson

from hadir import metrics
from hadir.errors import PostgresUnavailable

log = logging.getLogger(__name__)

CONNECT_S = 3.0
ACQUIRE_S = 3.0
COMMAND_S = 5.0
PROBE_S = 0.5
PROBE_COMMAND_S = 2.0
RELEASE_S = 1.0
IDLE_S = 300.0
IDLE_IN_TRANSACTION_S = 10.0
"""Locks of an instance that froze, or whose host is gone without a word, are kept no longer than that."""
CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Nothing was written, and the same statement may do better."""
CONFLICTS_MAX = 10
GAVE_UP = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.InsufficientResourcesError)
"""The server is well, and would not finish this statement: a timeout of its own, or no room. Nothing was written."""

LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What says that this connection, or the server behind it, is of no use any more."""


async def prepare(connection: asyncpg.Connection) -> None:
    """jsonb as Python values, uuids as lower-case strings."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads
    )
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str)


async def connect(url: str, *, pooler: str) -> asyncpg.Connection:
    """One connection outside of any pool. Raises `PostgresUnavailable`, whatever the server had against it."""
    connection = None
    cache = 0 if pooler == "transaction" else 100  # other sessions would not have what was prepared
    try:
        async with asyncio.timeout(CONNECT_S):
            connection = await asyncpg.connect(url, command_timeout=COMMAND_S, statement_cache_size=cache)
            await prepare(connection)
    except (*LOST, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _discard(connection)
        raise PostgresUnavailable(f"Postgres cannot be reached: {_short(error)}") from error
    except asyncio.CancelledError:
        _discard(connection)
        raise
    return connection


def _discard(connection: asyncpg.Connection | None) -> None:
    """Without the goodbye that a server that hangs would never answer."""
    if connection is not None and not connection.is_closed():
        connection.terminate()


def _short(error: BaseException) -> str:
    return str(error) or type(error).__name__


class Postgres:
    """A pool whose every wait is bounded.

    `available` turns false with the first failure that says the server is gone, and true again when a probe
    succeeds; `available_since` is the monotonic time of that. `on_lost` and `on_back` are called at each change.
    """

    def __init__(self, url: str, *, pool_max: int = 10, pooler: str = "none") -> None:
        self._url, self._pooler = url, pooler
        self._slots = asyncio.Semaphore(pool_max)
        self._idle: list[tuple[float, asyncpg.Connection]] = []
        self._busy: dict[asyncpg.Connection, int] = {}
        self._losses = 0
        self._doubted = asyncio.Event()
        self._doubted.set()
        self._prober: asyncio.Task[None] | None = None
        self._closed = False
        self.available_since: float | None = None
        self.on_back: list[Callable[[], None]] = []
        self.on_lost: list[Callable[[], None]] = []

    @property
    def available(self) -> bool:
        return self.available_since is not None

    @property
    def in_use(self) -> tuple[int, int]:
        """(busy, idle) connections."""
        return len(self._busy), len(self._idle)

    async def __aenter__(self) -> Self:
        self._prober = asyncio.create_task(self._probe(), name="postgres probe")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends within `RELEASE_S`; who still holds a connection then loses it."""
        self._closed = True
        self.available_since = None
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait([self._prober])
        idle, self._idle = self._idle, []
        await asyncio.gather(*(close(connection) for _, connection in idle))
        for connection in list(self._busy):
            _discard(connection)

    @asynccontextmanager
    async def acquire(self, *, probing: bool = False) -> AsyncIterator[asyncpg.Connection]:
        """A connection of one's own for a while. Raises `PostgresUnavailable`, from inside the block too."""
        if not (self.available or probing):
            raise PostgresUnavailable("Postgres cannot be reached.")
        if not probing:  # a probe waits for nobody
            try:
                async with asyncio.timeout(ACQUIRE_S):
                    await self._slots.acquire()
            except TimeoutError as error:
                raise PostgresUnavailable("No connection to Postgres became free in time.") from error
        connection: asyncpg.Connection | None = None
        try:
            connection = await self._take()
            self._busy[connection] = self._losses
            yield connection
        except GAVE_UP as error:
            raise PostgresUnavailable(f"Postgres gave up on this, and nothing was changed: {_short(error)}") from error
        except (*LOST, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not _is_lost(error, connection):
                raise
            _discard(connection)
            if isinstance(error, TimeoutError):
                self._doubted.set()  # it may be the statement's fault, or a lock's
            elif connection is not None and self._busy[connection] == self._losses:
                self._mark_lost(error)  # a connection from before the last loss says nothing about the server now
            raise PostgresUnavailable(f"Postgres failed: {_short(error)}") from error
        except asyncio.CancelledError:
            _discard(connection)  # nobody knows what it would answer next
            raise
        finally:
            if connection is not None:
                self._release(connection)
            if not probing:
                self._slots.release()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection inside a transaction, committed at the end of the block, rolled back when it fails."""
        async with self.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                # Of the transaction, not of the session: behind a pooler that belongs to others, too.
                await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'")
                yield connection
            except (*LOST, asyncio.CancelledError):
                raise  # the connection is discarded, and with it the transaction: nothing more to wait for
            except BaseException:
                if not connection.is_closed():
                    await transaction.rollback()
                raise
            await transaction.commit()

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[asyncpg.Record]:
        """One statement, a transaction of its own: it is repeated where it met others in a deadlock."""
        for _ in range(CONFLICTS_MAX):
            with suppress(*CONFLICTS):
                return await self._fetch_once(query, *args, timeout=timeout)
        return await self._fetch_once(query, *args, timeout=timeout)

    async def _fetch_once(self, query: str, *args: Any, timeout: float | None) -> list[asyncpg.Record]:
        async with self.acquire() as connection:
            found: list[asyncpg.Record] = await connection.fetch(query, *args, timeout=timeout)
            return found

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> asyncpg.Record | None:
        records = await self.fetch(query, *args, timeout=timeout)
        return records[0] if records else None

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        record = await self.fetchrow(query, *args, timeout=timeout)
        return None if record is None else record[0]

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> None:
        await self.fetch(query, *args, timeout=timeout)

    async def _take(self) -> asyncpg.Connection:
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_closed() or time.monotonic() - since > IDLE_S:
                _discard(connection)
            else:
                return connection
        try:
            return await connect(self._url, pooler=self._pooler)
        except PostgresUnavailable as error:
            full = isinstance(error.__cause__, asyncpg.TooManyConnectionsError)
            if not (full and self._busy):  # otherwise the server is well, and this caller has to wait
                self._doubted.set()
            raise

    def _release(self, connection: asyncpg.Connection) -> None:
        current = self._busy.pop(connection) == self._losses and not self._closed
        if connection.is_closed() or not current or connection.is_in_transaction():
            _discard(connection)
        else:
            self._idle.append((time.monotonic(), connection))

    def _mark_lost(self, error: BaseException) -> None:
        if not self.available:
            return
        log.warning("postgres.lost", extra={"error": _short(error)})
        self.available_since = None
        self._losses += 1
        metrics.POSTGRES_AVAILABLE.set(0)
        while self._idle:
            _discard(self._idle.pop()[1])
        self._doubted.set()
        for tell in self.on_lost:
            tell()

    async def _probe(self) -> None:
        """Asks the server itself whenever it is in doubt, and while it is lost."""
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            trouble = await self._trouble()
            if trouble is not None:
                self._mark_lost(trouble)
                await asyncio.sleep(PROBE_S)
                self._doubted.set()
            elif not self.available:
                self.available_since = time.monotonic()
                metrics.POSTGRES_AVAILABLE.set(1)
                log.info("postgres.back")
                for tell in self.on_back:
                    tell()

    async def _trouble(self) -> Exception | None:
        """What speaks against the server: that it does not answer, or is read-only."""
        try:
            async with self.acquire(probing=True) as connection:
                asked = "SELECT current_setting('transaction_read_only') = 'off'"
                if await connection.fetchval(asked, timeout=PROBE_COMMAND_S):
                    return None
                _discard(connection)  # a new one may find the new primary
        except PostgresUnavailable as error:
            return error
        return PostgresUnavailable("Postgres is read-only.")


def _is_lost(error: BaseException, connection: asyncpg.Connection | None) -> bool:
    """Whether it is the connection's fault: anything the server, or asyncpg, says of one that is gone by then."""
    return isinstance(error, LOST) or connection is None or bool(connection.is_closed())


async def close(connection: asyncpg.Connection) -> None:
    """With a goodbye, if the server takes it in time."""
    try:
        await connection.close(timeout=RELEASE_S)
    except (*LOST, asyncpg.InterfaceError):
        _discard(connection)

"""The link to Valkey: a deadline on every call, a circuit that opens at once and closes by itself."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from functools import cache
from importlib import resources
from types import TracebackType
from typing import Any, Self

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from hadir import metrics
from hadir.errors import ValkeyUnavailable

log = logging.getLogger(__name__)

DEADLINE_S = 0.5
MORE_S = 0.05
"""Enough to read what is there: a timer of the loop is reached only after its sockets were looked at."""
DEADLINES_TO_OPEN = 2
PROBE_S = 0.5
POOL = 8


LOST = (
    RedisConnectionError,
    ReadOnlyError,
    BusyLoadingError,
    MasterDownError,
    OSError,
    RuntimeError,  # uvloop's word for a write to what has just been reset; the client lets it pass
)
"""What says that the connection, or the server behind it, is of no use any more."""


@cache
def script(name: str) -> tuple[str, str]:
    """The text of `scripts/<name>.lua` behind what all scripts share, and its SHA-1."""
    folder = resources.files("hadir.realtime") / "scripts"
    text = (folder / "lib.lua").read_text() + (folder / f"{name}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Packing:
    """Of a connection: packs the words of a command in C; the client's own way takes seven times as long for each."""

    def pack_command(self, *words: Any) -> list[bytes]:
        return [pack_command(words)]


def connect(url: str, *, connections: int) -> Redis:
    """A client that neither retries nor waits by itself: both are the link's business."""
    pool = BlockingConnectionPool.from_url(
        url.replace("valkey://", "redis://", 1).replace("valkeys://", "rediss://", 1),
        max_connections=connections,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=DEADLINE_S,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
        protocol=2,
        decode_responses=True,
    )
    pool.connection_class = type("Connection", (Packing, pool.connection_class), {})  # it depends on the address
    return Redis.from_pool(pool)


class Valkey:
    """One circuit over a pool of connections.

    Every call ends within `DEADLINE_S` and `MORE_S`, with its answer or `ValkeyUnavailable`. A connection error, or two
    deadlines in a row, opens the circuit: calls then fail at once until a probe succeeds. `on_lost` and
    `on_back` are called, in order, at each change.
    """

    def __init__(self, url: str) -> None:
        self._client = connect(url, connections=POOL)
        self._deadlines = 0
        self._opened = asyncio.Event()
        self._opened.set()
        self._prober: asyncio.Task[None] | None = None
        self.on_lost: list[Callable[[], None]] = []
        self.on_back: list[Callable[[], None]] = []
        metrics.VALKEY_CIRCUIT_OPEN.set(1)

    @property
    def available(self) -> bool:
        return not self._opened.is_set()

    async def __aenter__(self) -> Self:
        self._prober = asyncio.create_task(self._probe(), name="valkey probe")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait([self._prober])
        await self._drop_connections()

    async def run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """The answer of a script, loading it where the server does not know it."""
        text, sha = script(name)
        try:
            return await self.command("EVALSHA", sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self.command("EVAL", text, len(keys), *keys, *args)

    async def command(self, *words: Any) -> Any:
        if self._opened.is_set():
            raise ValkeyUnavailable("Valkey cannot be reached; its circuit is open.")
        return await self._call(*words)

    async def _call(self, *words: Any) -> Any:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:
                timer = loop.call_later(DEADLINE_S, _last_look, deadline)
                try:
                    answer = await self._client.execute_command(*words)  # type: ignore[no-untyped-call]
                finally:
                    timer.cancel()
        except NoScriptError:
            raise
        except (TimeoutError, RedisTimeoutError) as error:
            self._deadlines += 1
            if self._deadlines >= DEADLINES_TO_OPEN:
                self._open("two deadlines in a row")
            raise ValkeyUnavailable(f"Valkey did not answer {words[0]} within {DEADLINE_S} s.") from error
        except LOST as error:
            self._open(str(error))
            raise ValkeyUnavailable(f"Valkey cannot be reached: {error}") from error
        except RedisError as error:
            log.error("valkey.refused", extra={"command": words[0], "error": str(error)})
            raise ValkeyUnavailable(f"Valkey refused {words[0]}: {error}") from error
        self._deadlines = 0
        return answer

    def _open(self, why: str) -> None:
        if self._opened.is_set():
            return
        log.warning("valkey.circuit_opened", extra={"why": why})
        metrics.VALKEY_CIRCUIT_OPEN.set(1)
        self._opened.set()
        for tell in self.on_lost:
            tell()

    async def _probe(self) -> None:
        while True:
            await self._opened.wait()
            try:
                await self._drop_connections()
                await self._call("PING")
            except ValkeyUnavailable:
                await asyncio.sleep(PROBE_S)
                continue
            self._deadlines = 0
            self._opened.clear()
            metrics.VALKEY_CIRCUIT_OPEN.set(0)
            log.info("valkey.circuit_closed")
            for tell in self.on_back:
                tell()

    async def _drop_connections(self) -> None:
        """A connection from before may be to a server that hangs, or to one that is no longer the primary."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._client.connection_pool.disconnect(inuse_connections=True)
        except (*LOST, TimeoutError, RedisError) as error:
            log.info("valkey.disconnect_failed", extra={"error": str(error)})


def _last_look(deadline: asyncio.Timeout) -> None:
    """If this process stood still, what came in time lies there unread until the loop has looked at its sockets."""
    deadline.reschedule(asyncio.get_running_loop().time() + MORE_S)

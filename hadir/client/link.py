"""One WebSocket from its `hello` to its end: it reads, beats, and pairs replies with requests."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from hadir.client.verdict import Refused

OPEN_S = 10.0
CLOSE_S = 5.0
LATENCIES_MAX = 1000
REPLIES = frozenset({"pong", "ack", "sync"})

Message = Mapping[str, Any]


class Answered(Exception):
    """The server answered a request with `error`: `code` for programs, the text for people."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"{message.get('code')}: {message.get('message')}")
        self.code = str(message.get("code"))
        self.field: str | None = message.get("field")


@dataclass(slots=True)
class Counters:
    """What a client did since its start; `reconnects` follow a loss, `rotations` a `reconnect` message."""

    opens: int = 0
    reconnects: int = 0
    rotations: int = 0
    beats: int = 0
    pongs: int = 0


@dataclass(frozen=True, slots=True)
class Habits:
    """What all links of one client share."""

    beat: Literal["text", "control"]
    random: Random
    heard: Callable[[Link, Message], None]
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    counters: Counters = field(default_factory=Counters)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_MAX))


class Link:
    """A WebSocket that has said `hello`. `due` is set once a successor is needed: it ended, or was asked to."""

    def __init__(self, socket: ClientConnection, hello: Message, habits: Habits) -> None:
        self._socket = socket
        self._habits = habits
        self._ids = itertools.count(1)
        self._replies: dict[str, asyncio.Future[Message]] = {}
        self.hello = hello
        self.interval_s = float(hello["heartbeat_interval_s"])
        self.rotates_in_s: float | None = None
        """The server's `after_ms`, once it has asked for a successor."""
        self.due = asyncio.Event()
        self.ended = asyncio.Event()
        self.closed_with: int | None = None
        self._closing = False
        if not habits.thawed.is_set():
            self.freeze()

    @classmethod
    async def open(cls, url: str, token: str, habits: Habits) -> Link:
        """Connects and waits for `hello`. Raises `Refused`; nothing is left open then."""
        socket: ClientConnection | None = None
        try:
            async with asyncio.timeout(OPEN_S):
                socket = await connect(
                    url,
                    additional_headers={"Authorization": f"Bearer {token}"},
                    compression=None,
                    ping_interval=None,
                    open_timeout=None,
                    close_timeout=CLOSE_S,
                    proxy=None,
                )
                while (hello := parse(await socket.recv())).get("type") != "hello":
                    pass
            return cls(socket, hello, habits)
        except BaseException as error:
            if socket is not None:
                socket.transport.abort()
            if (refused := refusal(url, error)) is not None:
                raise refused from error
            raise

    async def run(self) -> None:
        """Reads and beats until the socket ends, which a missing pong brings about too."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(self._beat())
                await self._read()
                beating.cancel()
        finally:
            self._socket.transport.abort()
            self.closed_with = self._socket.close_code or 1006
            for reply in self._replies.values():
                reply.cancel()
            self.ended.set()
            self.due.set()

    async def call(self, kind: str, **fields: Any) -> Message:
        """Sends a request and awaits its reply. Raises `Answered`, or `ConnectionClosed`: the next link may do."""
        name = f"{kind}-{next(self._ids)}"
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[name] = reply
        try:
            await self._socket.send(orjson.dumps({"type": kind, "id": name, **fields}), text=True)
            await asyncio.wait([reply])
        finally:
            del self._replies[name]
        if reply.cancelled():
            raise ConnectionClosed(None, None)
        return reply.result()

    async def close(self, code: int) -> None:
        """The closing handshake, at most `CLOSE_S`; a frozen link is cut instead. The first call decides."""
        if self._closing:
            return
        self._closing = True
        if self._habits.thawed.is_set():
            await self._socket.close(code)
        self.abort()
        await self.ended.wait()

    def abort(self) -> None:
        """Cuts the TCP connection, without a word."""
        self._socket.transport.abort()

    def freeze(self) -> None:
        """Leaves what the server sends in the kernel's buffers."""
        if not self._socket.transport.is_closing():
            self._socket.transport.pause_reading()

    def thaw(self) -> None:
        if not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._socket.recv()
                await self._habits.thawed.wait()
                self._hear(parse(frame))
        except ConnectionClosed:
            return

    def _hear(self, message: Message) -> None:
        kind, reply = message.get("type"), self._replies.get(str(message.get("re")))
        if reply is not None and not reply.done():
            if kind == "error":
                reply.set_exception(Answered(message))
            elif kind in REPLIES:
                reply.set_result(message)
        if kind == "reconnect" and self.rotates_in_s is None:
            self.rotates_in_s = float(message.get("after_ms", 0)) / 1000
            self.due.set()
        if kind != "pong":
            self._habits.heard(self, message)

    async def _beat(self) -> None:
        """The first beat after interval * random(0,1), so that those who came together do not beat together."""
        wait_s = self.interval_s * self._habits.random.random()
        while True:
            await asyncio.sleep(wait_s)
            await self._habits.thawed.wait()
            started = time.monotonic()
            try:
                async with asyncio.timeout(self.interval_s):
                    await self._ping()
            except TimeoutError:
                if self._habits.thawed.is_set():
                    self.abort()
                    return
            except Answered:
                pass  # not a pong, but the server is alive
            except ConnectionClosed:
                return
            wait_s = max(0.0, started + self.interval_s - time.monotonic())

    async def _ping(self) -> None:
        habits = self._habits
        started = time.monotonic()
        habits.counters.beats += 1
        if habits.beat == "text":
            await self.call("ping")
        else:
            await (await self._socket.ping())
        habits.counters.pongs += 1
        habits.latencies_s.append(time.monotonic() - started)


def parse(frame: str | bytes) -> Message:
    """A server's frame. What is no JSON object is an empty message, which concerns nobody."""
    try:
        message = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}


def refusal(url: str, error: BaseException) -> Refused | None:
    """The `Refused` that an attempt's error amounts to; None for what is no refusal."""
    match error:
        case InvalidStatus():
            response = error.response
            problem = parse(bytes(response.body)).get("code")
            retry_after = response.headers.get("Retry-After", "0")
            return Refused(
                f"{url} answered {response.status_code}",
                status=response.status_code,
                problem=problem if isinstance(problem, str) else None,
                retry_after_s=float(retry_after) if retry_after.isdigit() else 0.0,
            )
        case ConnectionClosed():
            code = None if error.rcvd is None else error.rcvd.code
            return Refused(f"{url} closed with {code} before its hello", close_code=code)
        case OSError() | InvalidHandshake() | InvalidMessage():
            return Refused(f"{url}: {error or type(error).__name__}")
        case KeyError() | TypeError() | ValueError():
            return Refused(f"{url} said a hello that is not of this protocol: {error!r}")
    return None

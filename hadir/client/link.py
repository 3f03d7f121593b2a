"""One WebSocket from its `hello` to its end: it reads, beats, and pairs replies with requests."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hadir.client.events import Counters, Ended, Event, Replied
from hadir.client.verdict import Verdict, spread
from hadir.client.wire import Answered, Message, parse, refusal

OPEN_S = 10.0
CLOSE_S = 5.0
NO_FRAME = 1006
REPLIES = frozenset({"pong", "ack", "sync", "offer.result"})


@dataclass(frozen=True, slots=True)
class Habits:
    """What all links of one client share."""

    beat: Literal["text", "control"]
    random: Random
    heard: Callable[[Link, Message], None]
    tell: Callable[[Event], None]
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    counters: Counters = field(default_factory=Counters)


class Link:
    """A WebSocket that has said `hello`. `due` is set once a successor is needed: it ended, or was asked to."""

    def __init__(self, socket: ClientConnection, hello: Message, habits: Habits, began: float) -> None:
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
        self._awake = asyncio.Event()
        """Whether what was read may be heard: not while the client is frozen, unless the end has come."""
        self._awake.set()
        self._began = self._beaten = began
        self.opening_s = time.monotonic() - began
        """From the start of connecting to `hello`."""
        self._sent = 0
        self._freezes = habits.counters.freezes - (not habits.thawed.is_set())
        if not habits.thawed.is_set():
            self.freeze()

    @classmethod
    async def open(cls, url: str, token: str, habits: Habits) -> Link:
        """Connects and waits for `hello`. Raises `Refused`; nothing is left open then."""
        socket: ClientConnection | None = None
        began = time.monotonic()
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
            return cls(socket, hello, habits, began)
        except BaseException as error:
            if socket is not None:
                socket.transport.abort()
            if (refused := refusal(url, error)) is not None:
                raise refused from error
            raise

    @property
    def connection_id(self) -> str:
        return str(self.hello["connection_id"])

    async def run(self) -> None:
        """Reads and beats until the socket ends, which a missing pong brings about too."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(self._beat())
                await self._read()
                beating.cancel()
        finally:
            self._socket.transport.abort()
            self.closed_with = self._socket.close_code or NO_FRAME
            for reply in self._replies.values():
                reply.cancel()
            self.ended.set()
            self.due.set()

    async def call(self, kind: str, **fields: Any) -> Message:
        """Sends a request and awaits its reply. Raises `Answered`, or `ConnectionClosed`: the next link may do."""
        name, began, freezes = f"{kind}-{next(self._ids)}", time.monotonic(), self._habits.counters.freezes
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[name] = reply
        try:
            self._sent += 1
            await self._socket.send(orjson.dumps({"type": kind, "id": name, **fields}), text=True)
            await asyncio.wait([reply])
        finally:
            del self._replies[name]
        if reply.cancelled():
            raise ConnectionClosed(None, None)
        message = reply.result()
        self._timed(kind, began, freezes)
        return message

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
        self._awake.set()

    def freeze(self) -> None:
        """Leaves what the server sends in the kernel's buffers."""
        if not self._socket.transport.is_closing():
            self._socket.transport.pause_reading()
            self._awake.clear()

    def thaw(self) -> None:
        self._awake.set()
        if not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()

    def ending(self, verdict: Verdict) -> Ended:
        """How it ended; the peer's echo of our own close frame does not make it the peer's."""
        protocol, now = self._socket.protocol, time.monotonic()
        received, sent = protocol.close_rcvd, protocol.close_sent
        by: Literal["server", "client", "network"] = "client" if self._closing else "network"
        code = sent.code if self._closing and sent is not None else NO_FRAME
        if received is not None and (protocol.close_rcvd_then_sent or sent is None or received.code != sent.code):
            by, code = "server", received.code
        return Ended(
            self.connection_id,
            int(code),
            by,
            verdict,
            beat_age_s=now - self._beaten,
            lived_s=now - self._began,
            sent=self._sent,
            froze=self._habits.counters.freezes > self._freezes,
        )

    def comes_back_in(self) -> float:
        """Seconds until its successor is to be opened, now that one is due."""
        if self.rotates_in_s is not None:
            return self._habits.random.uniform(0.0, self.rotates_in_s)
        return spread(float(self.hello.get("reconnect_window_s", 0)), self._habits.random)

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._socket.recv()
                while not self._awake.is_set():  # thawed, it may be frozen again before we get here
                    await self._awake.wait()
                if not self._habits.thawed.is_set():
                    return  # a frozen client hears nothing, not even what it had in hand when it was cut off
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
        began, freezes = time.monotonic(), self._habits.counters.freezes
        self._habits.counters.beats += 1
        if self._habits.beat == "text":
            await self.call("ping")
        else:
            self._sent += 1
            await (await self._socket.ping())
            self._timed("ping", began, freezes)
        self._habits.counters.pongs += 1
        self._beaten = began

    def _timed(self, kind: str, began: float, freezes: int) -> None:
        """Tells how long a reply took, unless it was the client itself that did not listen."""
        if self._habits.thawed.is_set() and self._habits.counters.freezes == freezes:
            self._habits.tell(Replied(kind, time.monotonic() - began))

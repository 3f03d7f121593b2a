"""An app as an object, whoever uses it: it stays connected as the protocol asks, until told to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Any, ClassVar, Literal, Self
from uuid import uuid4

from websockets.exceptions import ConnectionClosed

from hadir.client.dialer import Dialer, Token
from hadir.client.events import Counters, Event, Opened
from hadir.client.link import Habits, Link
from hadir.client.verdict import FINAL, GOING_AWAY, GOODBYE, ClientStopped, Refused, Verdict, backoff
from hadir.client.wire import Answered, Message


class App:
    """Keeps one user connected, from `async with` on; what is the same for mitras and customers.

    `urls`: instances or balancers, `ws(s)://` or `http(s)://`; without a path, the app's own. Tried in turn.
    `token`: a token, or an async callable that is asked before every attempt and when a token is about to expire;
    it may raise OSError when there is none at the moment. A string that is refused stops the client.
    `on_message`: called with every message but `pong`; what it raises ends the `async with`.
    `on_event`: called with what it did, see `hadir.client.events`; what it raises does so too.
    `beat`: `ping` messages, or WebSocket Ping frames.

    After a loss it comes back with full jitter, spread over the server's `reconnect_window_s`; a pong that is
    missing for one interval is a loss. On `reconnect` it opens the successor first and lets the old connection go
    once the new one has said `hello` and its claim stands. It stops at 4501-4504, at a 403, and by `goodbye`.
    Leaving the `async with` without `goodbye` closes with 1001: to the server, the user is lost.

    A request is sent again on the next connection until it is answered. It raises `Answered` when the server could
    not do it, `ClientStopped` when the client has stopped.
    """

    PATH: ClassVar[str]

    def __init__(
        self,
        urls: str | Sequence[str],
        token: Token,
        *,
        on_message: Callable[[Message], None] | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        beat: Literal["text", "control"] = "text",
        random: Random | None = None,
    ) -> None:
        self._on_message = on_message
        self._habits = Habits(beat, random or Random(), self._heard, on_event)  # noqa: S311 - jitter, no secret
        self._habits.thawed.set()
        self._dialer = Dialer(urls, self.PATH, token, self._habits)
        self._tasks = asyncio.TaskGroup()
        self._supervisor: asyncio.Task[None] | None = None
        self._newest: Link | None = None
        self._older: list[Link] = []
        self._up = asyncio.Event()
        self._stopped = asyncio.Event()
        self._command: Mapping[str, str] = {}
        """The query of the next connection, until one has said `hello`."""
        self.state: Message | None = None
        """The `state` of the last `hello` or `sync`."""
        self.closed_with: int | None = None
        """The close code of the newest connection that ended; 1006 when there was none."""
        self.stopped_because: str | None = None
        """`goodbye`, `left`, a final close code's name, or the code of an HTTP refusal; None while it runs."""

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._supervisor = self._tasks.create_task(self._supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ClientStopped):  # it does not cut off the closing that is under way
            kind = error = trace = None
        self._stop("left", GOING_AWAY if error is None else None)
        try:
            await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions != (error,):
                raise  # otherwise the body's own error goes on as it is

    @property
    def connected(self) -> bool:
        """Whether a connection that has said `hello` is open."""
        return self._newest is not None and not self._newest.ended.is_set()

    @property
    def connection_id(self) -> str | None:
        """The newest connection's, also after it has ended."""
        return None if self._newest is None else self._newest.connection_id

    @property
    def hello(self) -> Message | None:
        """The newest connection's `hello`."""
        return None if self._newest is None else self._newest.hello

    @property
    def counters(self) -> Counters:
        return self._habits.counters

    async def opened(self) -> None:
        """Waits for a connection that has said `hello`. Raises `ClientStopped`."""
        await self._link()

    async def stopped(self) -> None:
        """Waits until the client has stopped; `stopped_because` says why."""
        await self._stopped.wait()

    async def sync(self) -> Message:
        """Asks for the state and returns it."""
        state: Message = (await self._call("sync"))["state"]
        return state

    async def end_session(self, session_id: str) -> None:
        """Ends a session for both sides; one that is not paid yet is cancelled by that."""
        await self._call("session.end", session_id=session_id)

    async def send_message(self, session_id: str, body: str, *, client_id: str | None = None) -> Message:
        """Says something in a session; returns the message as the server has stored it.

        It is stored once, however often it is sent: pass the `client_id` of an earlier call that did not return.
        """
        name = uuid4().hex if client_id is None else client_id
        reply = await self._call("chat.send", session_id=session_id, client_id=name, body=body)
        message: Message = reply["message"]
        return message

    async def goodbye(self) -> None:
        """Closes with 1000 and stops. Does nothing where it has stopped before."""
        self._stop("goodbye", GOODBYE)
        for link in self._links():
            await link.ended.wait()

    def drop(self) -> None:
        """Cuts the TCP connection as a lost network would; the client then comes back as after any loss."""
        for link in self._links():
            link.abort()

    def freeze(self) -> None:
        """Stops beating and reading, as an app that hangs: its connection stays open."""
        self.counters.freezes += self._habits.thawed.is_set()
        self._habits.thawed.clear()
        for link in self._links():
            link.freeze()

    def thaw(self) -> None:
        """Goes on after `freeze`, and hears what was said meanwhile."""
        self._habits.thawed.set()
        for link in self._links():
            link.thaw()

    async def _supervise(self) -> None:
        failures = 0
        while True:
            await self._habits.thawed.wait()
            try:
                link = await self._dialer.open(self._command)
            except Refused as refused:
                because = refused.final(new_token=self._dialer.gets_new_tokens)
                if because is not None:
                    self.closed_with = refused.close_code or self.closed_with
                    self._stop(because, GOING_AWAY)
                    return
                wait_s = refused.retry_after_s + backoff(failures, self._habits.random)
                failures += 1
            else:
                failures = 0
                self._adopt(link)
                await link.due.wait()
                wait_s = link.comes_back_in()
            await asyncio.sleep(wait_s)

    def _adopt(self, link: Link) -> None:
        """`link` is the newest from now on. What its query commanded has been done by the server now."""
        self.counters.opens += 1
        if (previous := self._newest) is not None:
            rotated = previous.rotates_in_s is not None
            self.counters.rotations += rotated
            self.counters.reconnects += not rotated
            if not previous.ended.is_set():
                self._older.append(previous)
        self._newest, self._command = link, {}
        self._tasks.create_task(self._live(link))
        self._habits.tell(Opened(link.connection_id, link.opening_s))
        self._heard(link, link.hello)
        self._up.set()

    async def _live(self, link: Link) -> None:
        await link.run()
        verdict = Verdict.AGAIN if self.stopped_because is None else Verdict.OWN
        if link is not self._newest:
            self._older.remove(link)
            verdict = Verdict.SUCCEEDED
        else:
            self.closed_with = link.closed_with
            if self.stopped_because is None:
                self._up.clear()
        if (because := FINAL.get(link.closed_with or 0)) is not None:
            self._stop(because, GOING_AWAY)
            verdict = Verdict.STOPPED
        self._habits.tell(link.ending(verdict))

    def _heard(self, link: Link, message: Message) -> None:
        if link is self._newest and isinstance(state := message.get("state"), dict):
            self.state = state
            if not state.get("pending"):
                self._let_go()
        if message.get("type") == "token.expiring" and self._dialer.gets_new_tokens:
            self._tasks.create_task(self._refresh(link))
        if self._on_message is not None:
            self._on_message(message)

    def _let_go(self) -> None:
        """The claim stands, the older ones own nothing. Even so with 1001: 1000 is a goodbye where that is news."""
        for link in self._older:
            self._tasks.create_task(link.close(GOING_AWAY))

    async def _refresh(self, link: Link) -> None:
        try:
            await link.call("token.refresh", token=await self._dialer.token())
        except (Refused, Answered, ConnectionClosed):
            return  # the server ends the connection with 4001, and the next one carries another token

    async def _call(self, kind: str, **fields: Any) -> Message:
        while True:
            link = await self._link()
            try:
                return await link.call(kind, **fields)
            except ConnectionClosed:
                await link.ended.wait()

    async def _link(self) -> Link:
        await self._up.wait()
        if self.stopped_because is not None or self._newest is None:
            raise ClientStopped(self.stopped_because)
        return self._newest

    def _links(self) -> list[Link]:
        return [*self._older, *([] if self._newest is None else [self._newest])]

    def _stop(self, because: str, code: int | None) -> None:
        """Closes with `code`; None: the tasks are being cancelled, which cuts the connections."""
        if self.stopped_because is not None:
            return
        self.stopped_because = because
        self._stopped.set()
        self._up.set()
        if self._supervisor is not None:
            self._supervisor.cancel()
        for link in self._links():
            if code is not None and not link.ended.is_set():
                self._tasks.create_task(link.close(code))

"""The simulated Valkey server, and the client that the program's own link and bus are given instead of redis-py's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from tests.model.loop import VirtualLoop
from tests.model.valkey import Database

LATE_S = 4.0
SCHEDULED = ("EVALSHA", "EVAL")
"""What meets the network's moods; the rest only arrives in its own time."""


class Line:
    """One way between an instance and a store: it may be cut (an error at once) or swallow everything."""

    def __init__(self) -> None:
        self.cut = False
        self.hole = False

    @property
    def open(self) -> bool:
        return not (self.cut or self.hole)


class Server:
    """Executes commands when they arrive: out of order, late, or not at all; while it is frozen they wait."""

    def __init__(self, loop: VirtualLoop, dice: Random) -> None:
        self.loop = loop
        self.dice = dice
        self.up = True
        self.frozen = False
        self.skew_s = 1_700_000_000.0
        self.lost, self.late, self.unanswered = 0.0, 0.0, 0.0
        """How likely each is."""
        self.runs = 1
        self.database = Database("1")
        self.old = self.database.copy()
        """What a replica that lags behind has."""
        self._waiting: list[tuple[Client, tuple[Any, ...], asyncio.Future[Any]]] = []
        self._subscribers: list[Subscription] = []

    @property
    def now_ms(self) -> int:
        return int((self.loop.now + self.skew_s) * 1000)

    # faults

    def stop(self) -> None:
        self.up = False
        self._refuse()

    def start(self, database: Database | None = None) -> None:
        """With nothing, or with what a replica had; in any case as another run."""
        self.runs += 1
        self._refuse()
        self.database = Database() if database is None else database.copy()
        self.database.run_id = str(self.runs)
        self.up, self.frozen = True, False

    def thaw(self) -> None:
        self.frozen = False
        waiting, self._waiting = self._waiting, []
        for client, words, future in waiting:
            self._execute(client, words, future)

    def flushall(self) -> None:
        self.database.flushall(self.now_ms)

    def _refuse(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            _fail(future, "Connection reset")
        for subscription in list(self._subscribers):
            subscription.fail("Connection reset")

    # commands

    def arrive(self, client: Client, words: tuple[Any, ...], future: asyncio.Future[Any]) -> None:
        if client.line.cut or not self.up:
            _fail(future, "Connection refused")
        elif client.line.hole:
            return
        elif self.frozen:
            self._waiting.append((client, words, future))
        elif words[0] in SCHEDULED and (mood := self.dice.random()) < self.lost + self.late:
            if mood >= self.lost:
                self.loop.outside(self.dice.uniform(0, LATE_S), self._execute, client, words, future)
        else:
            self._execute(client, words, future)

    def _execute(self, client: Client, words: tuple[Any, ...], future: asyncio.Future[Any]) -> None:
        if not self.up:
            return
        try:
            answer = self.publish(*words[1:]) if words[0] == "PUBLISH" else self.database.execute(words, self.now_ms)
        except NoScriptError as error:
            if not future.done():
                future.set_exception(error)
            return
        if client.line.open and not future.done() and self.dice.random() >= self.unanswered:
            future.set_result(answer)

    def publish(self, channel: str, payload: bytes) -> int:
        heard = [each for each in self._subscribers if channel in each.channels]
        for subscription in heard:
            if subscription.client.line.open:
                self.loop.outside(self.dice.uniform(0.001, 0.02), subscription.hear, payload)
        return len(heard)

    def subscribe(self, subscription: Subscription) -> None:
        self._subscribers.append(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        if subscription in self._subscribers:
            self._subscribers.remove(subscription)


class Client:
    """Of one instance: what `hadir.realtime.valkey.connect` answers."""

    def __init__(self, server: Server, line: Line) -> None:
        self.server = server
        self.line = line
        self.connection_pool = self
        self._subscriptions: list[Subscription] = []

    async def execute_command(self, *words: Any) -> Any:
        server = self.server
        future = server.loop.create_future()
        server.loop.outside(server.dice.uniform(0.0005, 0.01), server.arrive, self, words, future)
        return await future

    async def disconnect(self, inuse_connections: bool = True) -> None:
        for subscription in self._subscriptions:
            self.server.unsubscribe(subscription)
        self._subscriptions.clear()

    def pubsub(self) -> Subscription:
        subscription = Subscription(self)
        self._subscriptions.append(subscription)
        return subscription


class Subscription:
    """What `Redis.pubsub` answers."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.channels: tuple[str, ...] = ()
        self._messages: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()

    async def subscribe(self, *channels: str) -> None:
        server = self.client.server
        await asyncio.sleep(0.001)
        if not server.up or self.client.line.cut:
            raise RedisConnectionError("Connection refused")
        while server.frozen or self.client.line.hole:
            await asyncio.sleep(0.1)
        self.channels = channels
        server.subscribe(self)
        self._messages.put_nowait({"type": "subscribe", "data": None})

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            message = await self._messages.get()
            if isinstance(message, Exception):
                raise message
            yield message

    def hear(self, payload: bytes) -> None:
        self._messages.put_nowait({"type": "message", "data": payload.decode()})

    def fail(self, why: str) -> None:
        self.client.server.unsubscribe(self)
        self._messages.put_nowait(RedisConnectionError(why))


def _fail(future: asyncio.Future[Any], why: str) -> None:
    if not future.done():
        future.set_exception(RedisConnectionError(why))

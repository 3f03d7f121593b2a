"""Events between instances: what changed, for whom. A lost one only delays, and a canary tells that it may be."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from redis.exceptions import RedisError

from hadir import metrics
from hadir.errors import ValkeyUnavailable
from hadir.realtime.keys import Keys
from hadir.realtime.valkey import LOST, Valkey, connect
from hadir.realtime.waiting import happens

log = logging.getLogger(__name__)

VERSION = 1
CANARY_S = 0.5
CANARY_DEADLINE_S = 1.0
AGAIN_S = 0.25
IDS_PER_EVENT = 1_000
PENDING_MAX = 50_000


@dataclass(frozen=True, slots=True)
class BusEvent:
    """`ids` of what changed: mitras (`presence`: their rows; `mitra`: their offers and sessions), customers
    (`customer`: their pairings and sessions), logins (`revoked`), nothing (`config`), a reply's name (`census`)."""

    type: str
    ids: Sequence[str]


class Bus:
    """Publishes conflated, hears, and knows whether it hears.

    `on_event` hears the events of others. `on_gap` is called whenever events may have been missed: at every
    subscription and when the canary stops. `up` is False until the canary is heard again.
    """

    def __init__(self, url: str, valkey: Valkey, keys: Keys, instance_id: str) -> None:
        self._url = url
        self._valkey = valkey
        self._keys = keys
        self._instance_id = instance_id
        self._own_channel = keys.instance_channel(instance_id)
        self._pending: dict[tuple[str, str], dict[str, None]] = {}
        self._wake = asyncio.Event()
        self._canaries: dict[int, float] = {}
        self._canary = 0
        self._failed = asyncio.Event()
        self._subscribed = asyncio.Event()
        self.up = False
        self.on_event: list[Callable[[BusEvent], None]] = []
        self.on_gap: list[Callable[[], None]] = []

    def publish(self, kind: str, ids: Iterable[str] = (), instance_id: str | None = None) -> None:
        """Enqueues at once, for one instance or for all; equal ids of a type that wait together become one."""
        channel = self._keys.events_channel if instance_id is None else self._keys.instance_channel(instance_id)
        waiting = self._pending.setdefault((channel, kind), {})
        if len(waiting) < PENDING_MAX:  # what is dropped here, the others' feeds find
            waiting.update(dict.fromkeys(ids))
        self._wake.set()

    async def send(self, channel: str, kind: str, ids: Sequence[str]) -> None:
        """One event to one channel, now. Raises `ValkeyUnavailable`."""
        payload = orjson.dumps({"v": VERSION, "type": kind, "ids": ids, "from": self._instance_id})
        await self._valkey.command("PUBLISH", channel, payload)
        metrics.BUS_EVENTS.labels(kind, "out").inc()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publisher(), name="bus publisher")
            tasks.create_task(self._listener(), name="bus listener")
            tasks.create_task(self._sing(), name="bus canary")

    async def _publisher(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
            except ValkeyUnavailable:
                continue  # the others' feeds find what they missed

    async def flush(self) -> None:
        """Publishes what waits. Raises `ValkeyUnavailable`; what waited is then dropped."""
        pending, self._pending = self._pending, {}
        for (channel, kind), ids in pending.items():
            listed = list(ids)
            for start in range(0, max(1, len(listed)), IDS_PER_EVENT):
                await self.send(channel, kind, listed[start : start + IDS_PER_EVENT])

    async def _listener(self) -> None:
        """Subscribes for ever; every loss of the connection, and every silent canary, begins again."""
        while True:
            client = connect(self._url, connections=2)
            try:
                await self._listen_or_fail(client)
            except (*LOST, RedisError, TimeoutError, _Deaf) as why:
                log.info("bus.reconnects", extra={"why": repr(why)})
            finally:
                self._down()
                try:
                    async with asyncio.timeout(0.5):
                        await client.connection_pool.disconnect(inuse_connections=True)
                except (*LOST, TimeoutError, RedisError):
                    log.info("bus.disconnect_failed")
            await asyncio.sleep(AGAIN_S)

    async def _listen_or_fail(self, client: Any) -> None:
        """No TaskGroup: before Python 3.13 one that has just failed swallows a cancellation, and this begins again."""
        tasks = [asyncio.create_task(self._fail_on_demand()), asyncio.create_task(self._listen(client))]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in ended:
            task.result()

    async def _fail_on_demand(self) -> None:
        self._failed.clear()
        await self._failed.wait()
        raise _Deaf("the canary was not heard")

    async def _listen(self, client: Any) -> None:
        pubsub = client.pubsub()
        async with asyncio.timeout(2):
            await pubsub.subscribe(self._keys.events_channel, self._own_channel)
        async for message in pubsub.listen():
            if message["type"] == "subscribe":
                self._gap()
                self._subscribed.set()
            elif message["type"] == "message":
                self._heard(message["data"])

    def _heard(self, data: str) -> None:
        try:
            fields = orjson.loads(data)
            version, kind, ids, sender = fields["v"], fields["type"], fields["ids"], fields["from"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            log.warning("bus.unreadable")
            return
        if version != VERSION or not isinstance(kind, str) or not isinstance(ids, list):
            return
        if kind == "canary":
            self._heard_canary(ids[0] if ids else None)
        elif sender != self._instance_id:
            metrics.BUS_EVENTS.labels(kind, "in").inc()
            for tell in self.on_event:
                tell(BusEvent(kind, [each for each in ids if isinstance(each, str)]))

    async def _sing(self) -> None:
        """A numbered canary to ourselves, at once when it can be heard; one that is not in time takes the bus down."""
        while True:
            self._subscribed.clear()
            self._canary += 1
            self._canaries[self._canary] = time.monotonic()
            try:
                await self.send(self._own_channel, "canary", [str(self._canary)])
            except ValkeyUnavailable:
                self._deaf()
            await happens(self._subscribed, CANARY_S)
            sung = min(self._canaries.values(), default=None)
            if sung is not None and time.monotonic() - sung > CANARY_DEADLINE_S:
                self._deaf()

    def _heard_canary(self, name: object) -> None:
        number = int(name) if isinstance(name, str) and name.isdecimal() else 0
        sung = self._canaries.get(number)
        if sung is None:
            return
        metrics.BUS_CANARY_SECONDS.observe(time.monotonic() - sung)
        self._canaries = {n: at for n, at in self._canaries.items() if n > number}
        if not self.up:
            self.up = True
            metrics.BUS_UP.set(1)
            self._gap()

    def _deaf(self) -> None:
        self._canaries.clear()
        if self.up:
            log.warning("bus.deaf")
        self._down()
        self._failed.set()

    def _down(self) -> None:
        if self.up:
            self.up = False
            metrics.BUS_UP.set(0)
            self._gap()

    def _gap(self) -> None:
        for tell in self.on_gap:
            tell()


class _Deaf(Exception):
    """The subscription's connection stands, but nothing comes through it."""

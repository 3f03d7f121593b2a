"""A crowd of beating mitras, what is true of them, and whether the beacon ever said otherwise."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal, Self

import httpx

from hadir.client import MitraClient
from tests.support import eventually
from tests.support.system import Account, Served, System

AT_ONCE = 100
COMING_S = 60.0
LOOK_S = 0.1
ANSWER_S = 5.0


@dataclass(frozen=True)
class Sample:
    """One answer of a beacon, and when it was asked for (monotonic)."""

    at: float
    as_of: float
    available: int
    online: int
    state: str
    served: Served


def _deaf(account: Account, message: Mapping[str, Any]) -> None:
    """Heeds nothing."""


class Crowd:
    """Mitras that beat, reconnect and never leave. `async with` connects them all.

    `heard` is called with every message to any of them. `max_sessions`: with as many as nobody ever has, whoever works
    stays available, and the number to expect is known.
    """

    def __init__(
        self,
        system: System,
        instances: Sequence[Served],
        size: int,
        heard: Callable[[Account, Mapping[str, Any]], None] = _deaf,
        *,
        max_sessions: int = 1,
    ) -> None:
        self._system = system
        self.instances = list(instances)
        self._size = size
        self._heard = heard
        self._max_sessions = max_sessions
        self._stack = AsyncExitStack()
        self.clients: list[MitraClient] = []
        self.accounts: list[Account] = []
        self._live: deque[tuple[float, int]] = deque()
        self.samples: list[Sample] = []
        self.unanswered: list[tuple[float, Served]] = []
        """When (monotonic) a beacon was asked that gave none, and whose."""

    async def __aenter__(self) -> Self:
        self.accounts = await self._system.accounts(self._size)
        await self._system.sql.execute(
            "UPDATE mitras SET max_sessions = $1 WHERE id = ANY ($2::uuid[])",
            self._max_sessions,
            [account.id for account in self.accounts],
        )
        urls = [f"ws://127.0.0.1:{served.public_port}" for served in self.instances]
        for n, account in enumerate(self.accounts):
            ordered = urls[n % len(urls) :] + urls[: n % len(urls)]
            beat: Literal["text", "control"] = "text" if n % 2 else "control"
            heard = partial(self._heard, account)
            client = MitraClient(ordered, account.make_token(3600), status=True, beat=beat, on_message=heard)
            self.clients.append(await self._stack.enter_async_context(client))
            if n % AT_ONCE == AT_ONCE - 1:
                await self._come(n + 1 - AT_ONCE)
        await self._come(self._size)
        self._http = await self._stack.enter_async_context(
            httpx.AsyncClient(timeout=ANSWER_S, limits=httpx.Limits(keepalive_expiry=2))
        )
        watching = (self._count(), *(self._watch(served) for served in self.instances))
        self._watchers = [asyncio.create_task(each) for each in watching]
        return self

    async def __aexit__(self, *_: object) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        for ended in (await asyncio.wait(self._watchers))[0]:
            if not ended.cancelled():
                ended.result()  # one that has failed has seen nothing since
        await asyncio.gather(*(client.goodbye() for client in self.clients if client.connected), return_exceptions=True)
        await self._stack.aclose()

    async def _come(self, count: int) -> None:
        """Not all at once: of thousands that do, none is there before it gives up and begins again."""
        deadline = time.monotonic() + COMING_S
        while self.live < count:
            assert time.monotonic() < deadline, f"{self.live} of {count} mitras have connected"
            await asyncio.sleep(0.05)

    @property
    def live(self) -> int:
        """Live sockets that the server has claimed; one that waits for Postgres is neither online nor available."""
        return sum(client.connected and not (client.state or {})["pending"] for client in self.clients)

    async def _count(self) -> None:
        while True:
            self._live.append((time.monotonic(), self.live))
            await asyncio.sleep(LOOK_S)

    async def _watch(self, served: Served) -> None:
        """Asks a beacon, ten times a second, whatever the others do."""
        while True:
            await self._ask(self._http, served)
            await asyncio.sleep(LOOK_S)

    async def _ask(self, http: httpx.AsyncClient, served: Served) -> None:
        asked = time.monotonic()
        try:
            answer = (await http.get(f"{served.url}/api/beacon")).json()
        except httpx.HTTPError:
            self.unanswered.append((asked, served))  # a dead or draining instance answers nobody
            return
        if "available" not in answer:
            self.unanswered.append((asked, served))
            return
        age = time.time() - datetime.fromisoformat(answer["as_of"]).timestamp()
        self.samples.append(
            Sample(asked, time.monotonic() - age, answer["available"], answer["online"], answer["state"], served)
        )

    def lows(self, slack_s: float) -> list[str]:
        """Every answer that said fewer than there were live sockets, at any time around its `as_of`."""
        return [
            f"at {sample.at:.2f}: {sample.available} available ({sample.state}), but {least} live"
            for sample in self.samples
            if sample.available < (least := self._least(sample.as_of - slack_s, sample.as_of + slack_s))
        ]

    def _least(self, start: float, end: float) -> int:
        return min((live for at, live in self._live if start <= at <= end), default=0)

    def most(self) -> int:
        return max(sample.available for sample in self.samples)

    def forget(self) -> None:
        """What was answered until now has been judged."""
        self.samples.clear()
        self.unanswered.clear()

    async def all_say(self, state: str, within: float = 20.0) -> None:
        """Waits until every beacon, asked from now on, says so."""
        began = time.monotonic()

        def said() -> bool:
            heard = {sample.served.url for sample in self.samples if sample.at > began and sample.state == state}
            return len(heard) == len(self.instances)

        await eventually(said, within)

    async def everyone_back(self, within: float) -> None:
        """All have live sockets, and every beacon says exactly that."""
        await eventually(lambda: self.live == self._size, within)
        for served in self.instances:
            await self._system.available(served, self._size, within)

    async def offline_of_the_living(self) -> list[tuple[str, str]]:
        """(mitra, reason) of every line of the log that took somebody offline; nobody here ever left."""
        records = await self._system.sql.fetch(
            "SELECT mitra_id, reason FROM presence_log WHERE state = 'offline' AND mitra_id = ANY ($1::uuid[])",
            [account.id for account in self.accounts],
        )
        return [(record["mitra_id"], record["reason"]) for record in records]

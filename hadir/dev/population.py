"""Simulated people: mitras that come, go, toggle, lose their connection and come back; customers that look."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from hadir.client import Answered, ClientStopped, Counters, MitraClient
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.dev.accounts import create_account
from hadir.dev.truth import Standing, Truth
from hadir.errors import PostgresUnavailable
from hadir.http import auth

TOKEN_TTL_S = 900.0
PAUSE_S = (2.0, 8.0)
"""How long one stays away, or keeps its toggle off."""
COVER_SLACK_S = 2.0
STALE_GUESS_S = 60.0
DEATH_S = 15.0
"""Within this, the death of an instance is noticed."""
GOODBYE_S = 5.0
LATENCIES_KEPT = 100
HABITS = {"goodbye": 30, "toggle": 30, "drop": 25, "vanish": 10, "hang": 5}
"""What a mitra does when it does something, by weight."""


@dataclass(frozen=True, slots=True)
class World:
    """What all simulated people share. `churn`: how often a mitra goes away, per minute."""

    config: Config
    postgres: Postgres
    urls: Sequence[str]
    churn: float
    truth: Truth
    random: Random


def total(many: Sequence[Counters]) -> Counters:
    return Counters(**{each.name: sum(getattr(one, each.name) for one in many) for each in fields(Counters)})


class SimulatedMitra:
    """One mitra's days: logs in, connects, works for a while, goes away in one of several ways, comes again."""

    def __init__(self, world: World, mitra_id: str) -> None:
        self._world = world
        self._sid: str | None = None
        self._intent: bool | None = None
        """What the server has acknowledged; None while a change is under way."""
        self._reconnects = 0
        self._covered_until = 0.0
        self._frozen_at: float | None = None
        self._pongs_when_thawed: int | None = None
        self._leaving = False
        self._client: MitraClient | None = None
        self.mitra_id = mitra_id
        self._earlier = Counters()
        self._latencies_s: deque[float] = deque(maxlen=LATENCIES_KEPT)

    async def live(self, comes_in_s: float) -> None:
        """Runs until cancelled, or until after `leave`."""
        await asyncio.sleep(comes_in_s)
        while not self._leaving:
            try:
                await self._work()
            except PostgresUnavailable:
                pass  # nobody can log in at the moment
            except ClientStopped as stopped:
                match str(stopped):
                    case "displaced":
                        break  # somebody else has logged in as this mitra: it is theirs
                    case "deactivated" | "goodbye":
                        pass
                    case _:
                        self._sid = None
            self.look()
            await asyncio.sleep(self._pause())

    async def leave(self) -> None:
        """Says goodbye for good."""
        self._leaving = True
        if self._client is not None:
            try:
                async with asyncio.timeout(GOODBYE_S):
                    await self._client.goodbye()
            except TimeoutError:
                pass  # whoever hangs is cut off when its task ends

    @property
    def counters(self) -> Counters:
        """The sums over all its connections."""
        return self._earlier if self._client is None else total([self._earlier, self._client.counters])

    @property
    def latencies_s(self) -> list[float]:
        """Seconds from beat to pong, of its last beats."""
        return [*self._latencies_s, *(() if self._client is None else self._client.latencies_s)]

    def was_here(self) -> None:
        """An earlier run has left it online: it is counted until that is noticed."""
        self._covered_until = time.monotonic() + STALE_GUESS_S + DEATH_S
        self.look()

    def look(self) -> None:
        """Tells the truth how this mitra stands now."""
        now = time.monotonic()
        self._world.truth.note(self.mitra_id, self._standing(now), now)

    async def _work(self) -> None:
        if self._sid is None:
            async with self._world.postgres.acquire() as connection:
                self._sid = await create_account(connection, "mitra", self.mitra_id)
        urls = self._world.random.sample(self._world.urls, len(self._world.urls))
        self._intent, self._reconnects, self._pongs_when_thawed = None, 0, None
        async with MitraClient(urls, self._token, status=True, on_message=self._heard) as client:
            self._client = client
            try:
                await client.opened()
                self._intent = True
                self.look()
                while await self._one_more(client):
                    pass
            finally:
                self._client = None
                self._earlier = total([self._earlier, client.counters])
                self._latencies_s.extend(client.latencies_s)

    async def _one_more(self, client: MitraClient) -> bool:
        """Works for a while, then does something. False when the mitra has gone."""
        random, churn = self._world.random, self._world.churn
        try:
            async with asyncio.timeout(random.expovariate(churn / 60) if churn else None):
                await client.stopped()
                raise ClientStopped(client.stopped_because)
        except TimeoutError:
            pass
        match random.choices(list(HABITS), weights=list(HABITS.values()))[0]:
            case "goodbye":
                await self._goodbye(client)
                return False
            case "vanish":
                self._lose(client)
                return False
            case "drop":
                self._lose(client)
            case "toggle":
                await self._toggle(client)
            case "hang":
                await self._hang(client)
        return True

    async def _goodbye(self, client: MitraClient) -> None:
        self._covered_until = time.monotonic() + GOODBYE_S + COVER_SLACK_S
        await client.goodbye()
        self._covered_until = time.monotonic() + COVER_SLACK_S

    def _lose(self, client: MitraClient) -> None:
        self._covered_until = time.monotonic() + self._stale_s(client) + COVER_SLACK_S
        client.drop()
        self._world.truth.note(self.mitra_id, Standing(sure=False, possible=True), time.monotonic())

    async def _toggle(self, client: MitraClient) -> None:
        for online in (False, True):
            self._intent = None
            self.look()
            try:
                await client.set_status(online)
            except Answered:
                return  # a store is away; whatever the intent is now, it is not known here
            self._intent = online
            self.look()
            if not online:
                await asyncio.sleep(self._pause())

    async def _hang(self, client: MitraClient) -> None:
        self._frozen_at = time.monotonic()
        client.freeze()
        self.look()
        try:
            await asyncio.sleep(self._stale_s(client) * self._world.random.uniform(0.2, 1.4))
        finally:
            self._covered_until = self._frozen_at + self._stale_s(client) + COVER_SLACK_S
            self._frozen_at, self._pongs_when_thawed = None, client.counters.pongs
            client.thaw()

    def _heard(self, message: Mapping[str, Any]) -> None:
        """A connection that came after a loss: for a moment the mitra was away, seen or not."""
        client = self._client
        if message.get("type") != "hello" or client is None:
            return
        if client.counters.reconnects > self._reconnects:
            self._reconnects = client.counters.reconnects
            self._world.truth.note(self.mitra_id, Standing(sure=False, possible=True), time.monotonic())
        self.look()

    def _standing(self, now: float) -> Standing:
        client, covered = self._client, now < self._covered_until
        if client is None or client.stopped_because is not None:
            return Standing(sure=False, possible=covered)
        if self._frozen_at is not None:
            heard_of = now < self._frozen_at + self._stale_s(client) + COVER_SLACK_S
            return Standing(sure=False, possible=self._intent is not False and (heard_of or covered))
        if self._pongs_when_thawed is not None and client.counters.pongs > self._pongs_when_thawed:
            self._pongs_when_thawed = None
        state = client.state or {}
        sure = (
            client.connected
            and self._intent is True
            and self._pongs_when_thawed is None
            and not state.get("pending")
            and not state.get("sessions")
        )
        return Standing(sure=sure, possible=self._intent is not False)

    async def _token(self) -> str:
        return auth.mint(self._world.config, "mitra", self.mitra_id, self._sid or "", TOKEN_TTL_S)

    def _stale_s(self, client: MitraClient) -> float:
        return STALE_GUESS_S if client.hello is None else float(client.hello["stale_after_s"])

    def _pause(self) -> float:
        return self._world.random.uniform(*PAUSE_S)

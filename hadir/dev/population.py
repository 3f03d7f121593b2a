"""Simulated mitras: they come, go, toggle, freeze, lose their connection once or again and again, and come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from hadir.client import Answered, ClientStopped, Event, MitraClient
from hadir.dev import rules
from hadir.dev.desk import Desk
from hadir.dev.person import Person, stale_s
from hadir.dev.whereabouts import AWAY, State, Whereabouts
from hadir.dev.world import World
from hadir.errors import PostgresUnavailable

PAUSE_S = (2.0, 8.0)
"""How long one stays away, or keeps its toggle off."""
GOODBYE_S = 5.0
SECOND_LOOK_S = 0.5
SPELL_S = (10.0, 40.0)
"""How long a network stays flaky."""
FLAKY_UP_S = (0.2, 3.0)
"""How long a connection lasts meanwhile."""
FLAKY_POLL_S = 0.1
FLAKY_TIMES = 10.0
"""A flaky phone does something that much more often than others do."""
HABITS = {"goodbye": 30, "toggle": 30, "drop": 20, "flaky": 5, "vanish": 10, "hang": 5}
"""What a mitra does when it does something, by weight."""
FLAKY_HABITS = {"goodbye": 5, "toggle": 15, "drop": 5, "flaky": 65, "vanish": 5, "hang": 5}
"""The same of those whose network is bad for their whole life."""


class SimulatedMitra(Person):
    """One mitra's days: logs in, connects, works for a while, goes away in one of several ways, comes again."""

    ROLE = "mitra"

    def __init__(self, world: World, mitra_id: str, *, flaky: bool = False) -> None:
        super().__init__(world, mitra_id)
        self._habits = FLAKY_HABITS if flaky else HABITS
        self._churn = world.churn * (FLAKY_TIMES if flaky else 1.0)
        self._where = Whereabouts()
        self._leaving = False
        self._client: MitraClient | None = None
        self._desk: Desk | None = None

    async def live(self, comes_in_s: float) -> None:
        """Runs until cancelled, or until after `leave`."""
        await asyncio.sleep(comes_in_s)
        while not self._leaving:
            try:
                await self._work()
            except PostgresUnavailable:
                pass  # nobody can log in at the moment
            except ClientStopped as stopped:
                self._where.stopped = str(stopped) != "goodbye"
                match str(stopped):
                    case "displaced":
                        break  # somebody else has logged in as this mitra: it is theirs
                    case "deactivated" | "goodbye":
                        pass
                    case _:
                        self._sid = None
            self.look()
            await self._world.takes(PAUSE_S)

    async def leave(self) -> None:
        """Says goodbye for good."""
        self._leaving = True
        if self._client is not None:
            try:
                async with asyncio.timeout(GOODBYE_S):
                    await self._goodbye(self._client)
            except TimeoutError:
                pass  # whoever hangs is cut off when its task ends

    @property
    def state(self) -> State:
        return self._where.state(self._client, time.monotonic())

    @property
    def app(self) -> MitraClient:
        """Its app, while it has one."""
        assert self._client is not None
        return self._client

    def was_here(self) -> None:
        """An earlier run has left it online."""
        self._where.was_here(time.monotonic())
        self.look()

    def look(self) -> None:
        """Tells the truth how this mitra stands now."""
        now = time.monotonic()
        self._world.truth.note(self.person_id, self._where.standing(self._client, now), now)

    async def _work(self) -> None:
        await self.log_in()
        self._where.came()
        async with MitraClient(
            self._world.shuffled(), self._token, status=True, on_message=self._heard, on_event=self._happened
        ) as client:
            self._client = client
            self._opens(client)
            try:
                async with Desk(
                    self._world, self.person_id, client, self._where, self.look, lambda: self._lose(client)
                ) as self._desk:
                    await client.opened()
                    self._where.intent = True
                    self.look()
                    while await self._one_more(client):
                        pass
            finally:
                self._client = self._desk = None
                self._closes(client)

    async def _one_more(self, client: MitraClient) -> bool:
        """Works for a while, then does something. False when the mitra has gone."""
        random = self._world.random
        await self._go_on(client, random.expovariate(self._churn / 60) if self._churn else None)
        match self._world.habit(self._habits):
            case "goodbye":
                await self._goodbye(client)
                return False
            case "vanish":
                self._lose(client)
                return False
            case "drop":
                self._lose(client)
            case "flaky":
                await self._flicker(client)
            case "toggle":
                await self._toggle(client)
            case "hang":
                await self._hang(client)
        return True

    async def _go_on(self, client: MitraClient, for_s: float | None) -> None:
        """Raises `ClientStopped` when the client stops meanwhile."""
        try:
            async with asyncio.timeout(for_s):
                await client.stopped()
        except TimeoutError:
            return
        raise ClientStopped(client.stopped_because)

    async def _goodbye(self, client: MitraClient) -> None:
        self._where.says_goodbye(client, time.monotonic(), GOODBYE_S)
        await client.goodbye()
        self._where.said_goodbye(client, time.monotonic())

    def _lose(self, client: MitraClient) -> None:
        self._where.lost(client, time.monotonic())
        client.drop()
        self._world.truth.note(self.person_id, AWAY, time.monotonic())

    async def _flicker(self, client: MitraClient) -> None:
        """The network comes and goes for a while; after every loss the app comes back as after any other."""
        random = self._world.random
        until = time.monotonic() + random.uniform(*SPELL_S)
        while time.monotonic() < until:
            opens = client.counters.opens
            self._lose(client)
            while client.counters.opens == opens:
                await self._go_on(client, FLAKY_POLL_S)
            await self._go_on(client, random.uniform(*FLAKY_UP_S))

    async def _toggle(self, client: MitraClient) -> None:
        for online in (False, True):
            self._where.intent = None
            self.look()
            try:
                await client.set_status(online)
                self._where.intent = online
                if self._world.attendance is not None:
                    self._world.attendance.switched(self.person_id, online, time.time())
                self.look()
                await self._compare(client, online)
            except Answered:
                return  # a store is away; where it was the change, whatever the intent is now is not known here
            self.look()
            if not online:
                await self._world.takes(PAUSE_S)

    async def _compare(self, client: MitraClient, acknowledged: bool) -> None:
        """What `sync` tells now must be what was acknowledged; what is only under way it may take a moment for."""
        if rules.agreement(acknowledged, await client.sync()) is not None:
            await asyncio.sleep(SECOND_LOOK_S)
            if (wrong := rules.agreement(acknowledged, await client.sync())) is not None:
                self._world.tally.take_down(wrong, f"status {self.person_id} {client.connection_id} {acknowledged}")

    async def _hang(self, client: MitraClient) -> None:
        self._where.frozen_at = time.monotonic()
        client.freeze()
        self.look()
        try:
            await asyncio.sleep(stale_s(client) * self._world.random.uniform(0.2, 1.4))
        finally:
            self._where.thawed(client, time.monotonic())
            client.thaw()

    def _happened(self, event: Event) -> None:
        super()._happened(event)
        if self._world.attendance is not None:
            self._world.attendance.hear(self.person_id, event, time.time())

    def _heard(self, message: Mapping[str, Any]) -> None:
        told = self._hears(message)
        client = self._client
        if client is None:
            return
        if message.get("type") == "hello" and self._where.opened(client, time.monotonic()):
            # A connection that came after a loss: for a moment the mitra was away, seen or not.
            self._world.truth.note(self.person_id, AWAY, time.monotonic())
        if self._desk is not None:
            self._desk.hear(told)
        self.look()

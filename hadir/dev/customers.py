"""Simulated customers: they ask for a mitra, pay, chat, extend, ask for another one, end it, or simply leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from hadir.client import Answered, ClientStopped, CustomerApi, CustomerClient, Problem
from hadir.client.wire import Message
from hadir.dev.cashier import Cashier
from hadir.dev.memory import Memory
from hadir.dev.person import Person
from hadir.dev.rules import Wrong
from hadir.dev.told import Pairing, Session
from hadir.dev.world import World
from hadir.errors import PostgresUnavailable

PAUSE_S = (2.0, 10.0)
"""Between two visits."""
ASKS_TWICE, IMPATIENT, LEAVES_SEARCHING, LISTENS = 0.1, 0.08, 0.04, 0.6
EXTENDS, REROUTES = 0.2, 0.12
IMPATIENT_S = (0.5, 4.0)
DECIDED_S = 90.0
"""Longer than a pairing searches."""
WAIT_S, RETRY_S = 20, 1.0
SETTLES_S = 10.0
"""Within this, what has been paid is known."""
PAYING = {"pays": 75, "pays late": 10, "cancels": 6, "watches": 5, "leaves": 4}
PAYS_S, LATE_S = (0.5, 3.0), (5.0, 15.0)
WATCHES_S = 40.0
TALKS_S, TYPES_S = (6.0, 30.0), (1.0, 5.0)
LEAVING = {"socket": 35, "http": 30, "stays": 15, "leaves": 20}
STAYS_S = 120.0
PHRASES = ("Halo, sudah di mana?", "Saya di lobi.", "Pagar hijau ya.", "Terima kasih!", "Berapa lama lagi?", "Oke.")


class Left(Exception):
    """The customer has put the phone away."""


class SimulatedCustomer(Person):
    """Visits one after the other, until cancelled. What is still open from the last visit goes on in the next."""

    ROLE = "customer"

    def __init__(self, world: World, customer_id: str, cashier: Cashier) -> None:
        super().__init__(world, customer_id)
        self._cashier = cashier
        self._memory = Memory()

    async def live(self) -> None:
        while True:
            await self._world.takes(PAUSE_S)
            try:
                await self._visit()
            except (PostgresUnavailable, Left):
                pass
            except ClientStopped:
                self._sid = None

    async def _visit(self) -> None:
        await self.log_in()
        async with CustomerClient(
            self._world.shuffled(), self._token, on_message=self._heard, on_event=self._happened
        ) as app:
            self._opens(app)
            try:
                await app.opened()
                visit = Visit(self._world, self.person_id, app, self._memory, self._cashier, self._ask)
                await visit.go()
                await app.goodbye()
            finally:
                self._closes(app)

    def _heard(self, message: Mapping[str, Any]) -> None:
        self._memory.take(self._hears(message))

    async def _ask(self, request: Callable[[CustomerApi], Coroutine[Any, Any, Message]]) -> Message | None:
        """An answer of whichever instance; None where there is none, or it is a refusal."""
        api = CustomerApi(self._world.random.choice(self._world.urls), self._token)
        try:
            fields = await request(api)
        except Problem as problem:
            self._world.witness.dealings.refused[f"{problem.status} {problem.code}"] += 1
            return None
        except OSError:
            self._world.witness.dealings.refused["no answer"] += 1
            return None
        self._memory.take(self._reads(fields))
        return fields


Ask = Callable[[Callable[[CustomerApi], Coroutine[Any, Any, Message]]], Coroutine[Any, Any, Message | None]]


@dataclass(frozen=True, slots=True)
class Visit:
    """From opening the app to closing it."""

    world: World
    customer_id: str
    app: CustomerClient
    memory: Memory
    cashier: Cashier
    ask: Ask

    async def go(self) -> None:
        """Raises `Left` where the customer leaves things as they are."""
        while self.memory.unlisted:
            await self._learn_how_it_ended(self.memory.unlisted.pop())
        session = self.memory.open_session() or await self._go_on() or await self._pair()
        if session is None:
            return
        if session.status == "pending_payment":
            await self._pay(session.id)
        if (session := self.memory.session(session.id) or session).status == "active":
            await self._talk(session.id)
            await self._leave(session.id)

    async def _learn_how_it_ended(self, over: Pairing | Session) -> None:
        await self.ask(lambda api: api.session(over.id) if isinstance(over, Session) else api.pairing(over.id))

    # pairing

    async def _pair(self) -> Session | None:
        key, note, began = uuid4().hex, self.world.random.choice((None, "Lantai 3")), time.monotonic()
        asked = await self.ask(lambda api: api.create_pairing(key, note=note))
        if asked is None:
            return None
        pairing_id = str(asked["id"])
        self.world.witness.dealings.asked(pairing_id, began)
        if self.world.happens(ASKS_TWICE):
            self._same(pairing_id, await self.ask(lambda api: api.create_pairing(key, note=note)))
        if self.world.happens(LEAVES_SEARCHING):
            raise Left
        if self.world.happens(IMPATIENT):
            await self.world.takes(IMPATIENT_S)
            await self.ask(lambda api: api.cancel(pairing_id))
        return await self._session_of(pairing_id)

    async def _go_on(self) -> Session | None:
        """With what the last visit has left searching."""
        searching = self.memory.searching()
        return None if searching is None else await self._session_of(searching.id)

    async def _session_of(self, pairing_id: str) -> Session | None:
        pairing = await self._outcome(pairing_id)
        if pairing is None or pairing.session_id is None:
            return None
        return await self.memory.until(lambda: self.memory.session(pairing.session_id or ""), SETTLES_S)

    def _same(self, pairing_id: str, again: Message | None) -> None:
        if again is not None and again["id"] != pairing_id:
            wrong = Wrong(f"the key of pairing {pairing_id} made pairing {again['id']} too", "the same pairing")
            self.world.tally.take_down(wrong, wrong.found)

    async def _outcome(self, pairing_id: str) -> Pairing | None:
        """Some listen, some ask; who has listened for long enough asks too."""
        if self.world.happens(LISTENS):
            await self.memory.until(lambda: self._known(pairing_id) or None, DECIDED_S)
        until = time.monotonic() + DECIDED_S
        while self.memory.decided(pairing_id) is None and time.monotonic() < until:
            if await self.ask(lambda api: api.pairing(pairing_id, wait_s=WAIT_S)) is None:
                await asyncio.sleep(RETRY_S)
        return self.memory.decided(pairing_id)

    def _known(self, pairing_id: str) -> bool:
        """Whether it was told, or was missed while no connection stood."""
        return self.memory.decided(pairing_id) is not None or self.memory.is_unlisted(pairing_id)

    # payment

    async def _pay(self, session_id: str) -> None:
        match self.world.habit(PAYING):
            case "leaves":
                raise Left
            case "cancels":
                await self._end(session_id)
            case "watches":
                await self._until_over(session_id, WATCHES_S)
            case habit:
                await self.world.takes(LATE_S if habit == "pays late" else PAYS_S)
                if self.cashier.works and await self.cashier.pay(session_id):
                    await self.memory.until(lambda: self._not_pending(session_id), SETTLES_S)
                elif not self.cashier.works:
                    await self._end(session_id)

    def _not_pending(self, session_id: str) -> Session | None:
        session = self.memory.session(session_id)
        return session if session is not None and session.status != "pending_payment" else None

    # the session

    async def _talk(self, session_id: str) -> None:
        until = time.monotonic() + self.world.random.uniform(*TALKS_S) / self.world.pace
        extends, reroutes = self.world.happens(EXTENDS), self.world.happens(REROUTES)
        while time.monotonic() < until and self._open(session_id):
            await self.world.takes(TYPES_S)
            await self._say(session_id)
            if extends and self._open(session_id):
                extends = False
                await self._extend(session_id)
            elif reroutes and self._open(session_id):
                reroutes = False
                await self._reroute(session_id)

    async def _say(self, session_id: str) -> None:
        try:
            await self.app.send_message(session_id, self.world.random.choice(PHRASES))
        except Answered as refused:
            self.world.witness.dealings.refused[refused.code] += 1

    async def _extend(self, session_id: str) -> None:
        extension = await self.ask(lambda api: api.extend(session_id))
        if extension is None or not await self.cashier.pay(str(extension["external_id"])):
            return

        def longer() -> Session | None:
            session = self.memory.session(session_id)
            return session if session is not None and (session.extensions or not session.open) else None

        await self.memory.until(longer, SETTLES_S)

    async def _reroute(self, session_id: str) -> None:
        began = time.monotonic()
        pairing = await self.ask(lambda api: api.reroute(session_id))
        if pairing is not None:
            self.world.witness.dealings.asked(str(pairing["id"]), began)
            await self._outcome(str(pairing["id"]))

    async def _leave(self, session_id: str) -> None:
        match self.world.habit(LEAVING):
            case "leaves":
                raise Left
            case "stays":
                await self._until_over(session_id, STAYS_S)
            case habit:
                await self._end(session_id, over_http=habit == "http")

    async def _end(self, session_id: str, *, over_http: bool = True) -> None:
        if not self._open(session_id):
            return
        if over_http:
            await self.ask(lambda api: api.end(session_id))
            return
        try:
            await self.app.end_session(session_id)
        except Answered as refused:
            self.world.witness.dealings.refused[refused.code] += 1
        await self._until_over(session_id, SETTLES_S)

    async def _until_over(self, session_id: str, within_s: float) -> None:
        await self.memory.until(lambda: None if self._open(session_id) else True, within_s)

    def _open(self, session_id: str) -> bool:
        session = self.memory.session(session_id)
        return session is not None and session.open

"""Pairings, sessions and payments of one instance: what decides, what tells, and what time brings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import HadirError, Refused, StoreUnavailable
from hadir.realtime.availability import Availability
from hadir.realtime.batcher import Batcher, Later
from hadir.realtime.bell import Bell
from hadir.realtime.messages import (
    ChatSend,
    Command,
    OfferAccept,
    OfferDecline,
    OfferSeen,
    SessionEnd,
    encode,
    error,
)
from hadir.realtime.pairing import AcceptResult, DeclineResult
from hadir.realtime.pairings import Pairings
from hadir.realtime.party import Party
from hadir.realtime.payments import Payments
from hadir.realtime.sessions import Sessions
from hadir.realtime.timers import Timer
from hadir.realtime.told import Work
from hadir.realtime.work import WorkReader

log = logging.getLogger(__name__)

RECEIPTS_AT_ONCE = 1_000
RECEIPTS_MAX = 100_000
Receipt = tuple[str, str, bool]
"""(pairing, mitra, seen; else delivered)"""


class Market:
    """Use `async with`; `runs` are to be kept running meanwhile.

    `read` has the work of these, of a role, read again and heard.
    """

    def __init__(
        self,
        config: Config,
        postgres: Postgres,
        availability: Availability,
        work: WorkReader,
        bell: Bell,
        *,
        spawn: Callable[[Coroutine[None, None, None]], None],
        read: Callable[[str, Iterable[str]], None],
    ) -> None:
        self._postgres = postgres
        self._work = work
        self.spawn = spawn
        self._read = read
        self.bell = bell
        self.pairings = Pairings(config, postgres, availability, bell, wake=lambda: self._waves.wake())
        self.sessions = Sessions(config, postgres, bell)
        self.payments = Payments(config, postgres, bell, wake=lambda: self._events.wake())
        self._waves = Timer("waves", self.pairings.next_waves)
        self._expiries = Timer("pairing_expiry", self.pairings.expire)
        self._ends = Timer("session_ends", self.sessions.end_due)
        self._events = Timer("payments", self.payments.process)
        self._receipts: Batcher[Receipt, None] = Batcher(
            "receipts", self._store_receipts, flush_max=RECEIPTS_AT_ONCE, queue_max=RECEIPTS_MAX
        )

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(self._work)
        await self._stack.enter_async_context(self._receipts)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def runs(self) -> Sequence[Callable[[], Awaitable[None]]]:
        timers = (self._waves, self._expiries, self._ends, self._events)
        return [self.bell.run, *(timer.run for timer in timers)]

    # commands of parties

    async def answer(self, party: Party, command: Command) -> Sequence[str]:
        """The frames that answer a command, once Postgres has decided it."""
        try:
            return await self._decide(party, command)
        except StoreUnavailable:
            why = "The server cannot reach its database; ask again."
            return [error("unavailable", why, re=command.id)]
        except Refused as refusal:
            return [error(refusal.code, refusal.detail, field=refusal.field, re=command.id)]
        except Exception:  # whoever asked is told, and what it asks next is answered
            metrics.ERRORS.labels("command").inc()
            log.exception("command.crashed", extra={"command": type(command).__name__})
            return [error("internal", "This is a defect of the server.", re=command.id)]

    async def _decide(self, party: Party, command: Command) -> Sequence[str]:
        subject, re = party.subject_id, command.id
        match command:
            case OfferAccept(_, pairing_id):
                accepted = await self.pairings.accept(pairing_id, subject)
                result = _result(pairing_id, accepted.result, re, session=accepted.session)
                if accepted.result is AcceptResult.BUSY:  # the offer stays
                    return [result]
                return [result, *party.told.answered(pairing_id, accepted.session)]
            case OfferDecline(_, pairing_id):
                declined = await self.pairings.decline(pairing_id, subject)
                party.told.answered(pairing_id)
                if declined is DeclineResult.DECLINED:
                    return [encode("ack", re=re)]
                if declined is DeclineResult.WON:
                    return await self._decide(party, OfferAccept(re, pairing_id))  # which wins again
                return [_result(pairing_id, declined, re)]
            case OfferSeen(_, pairing_id):
                await self._receipt(pairing_id, subject, seen=True)
                return [encode("ack", re=re)]
            case SessionEnd(_, session_id):
                await self.sessions.end(session_id, subject, party.role)
                return [encode("ack", re=re)]
            case ChatSend(_, session_id, client_id, body):
                message = await self.sessions.send(session_id, subject, client_id, body)
                return [encode("ack", re=re, message=message)]

    # what parties are told

    def read_again(self, party: Party) -> None:
        self._read(party.role, [party.subject_id])

    def sync(self, party: Party, re: str | None) -> None:
        try:
            future = self._work.submit(party.role, party.told)
        except HadirError:
            self._unread(party, re)
            return
        future.add_done_callback(lambda done: self._synced(party, re, done))

    def _synced(self, party: Party, re: str | None, done: asyncio.Future[Work]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._unread(party, re)
        else:
            party.hear_work(done.result())
            party.tell_state(re)

    def _unread(self, party: Party, re: str | None) -> None:
        """As it was last known; what is news is told as soon as it can be read."""
        party.tell_state(re)
        self.read_again(party)

    def delivered(self, mitra_id: str, pairing_ids: Iterable[str]) -> None:
        for pairing_id in pairing_ids:
            try:
                self._receipt(pairing_id, mitra_id, seen=False).add_done_callback(_heed)
            except HadirError:
                return  # a mark for people: not worth a queue without end

    def _receipt(self, pairing_id: str, mitra_id: str, *, seen: bool) -> asyncio.Future[None]:
        return self._receipts.submit((pairing_id, mitra_id, seen), key=(pairing_id, mitra_id))

    async def _store_receipts(self, receipts: list[Receipt]) -> list[Later | None]:
        """Those whose offer somebody is just closing wait behind the others."""
        pairings, mitras = [each[0] for each in receipts], [each[1] for each in receipts]
        marks = [each[2] for each in receipts]
        marked = await self._postgres.fetch(sql("offers_receipts"), pairings, mitras, marks)
        done = {(record["pairing_id"], record["mitra_id"]) for record in marked}
        left = [each for each in receipts if each[:2] not in done]
        if not left:
            return [None] * len(receipts)
        asked = [each[0] for each in left], [each[1] for each in left]
        held = {tuple(record) for record in await self._postgres.fetch(sql("offers_known"), *asked)}
        return [Later() if each[:2] in held and each[:2] not in done else None for each in receipts]


def _result(pairing_id: str, result: AcceptResult | DeclineResult, re: str | None, **more: Any) -> str:
    return encode("offer.result", pairing_id=pairing_id, result=result, re=re, **more)


def _heed(future: asyncio.Future[None]) -> None:
    """Nobody waits for it."""
    if not future.cancelled():
        future.exception()

"""Offers, pairings, sessions and messages out of Postgres, for many mitras and customers at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.realtime.batcher import Batcher
from hadir.realtime.pairing import Offer, OfferNews, OfferStatus, Pairing, PairingStatus
from hadir.realtime.session import Message, Session, SessionStatus
from hadir.realtime.told import Told, Work

READ_AT_ONCE = 1_000
QUEUE_MAX = 50_000
MESSAGES_AT_ONCE = 200
"""Of one session in one reading; whoever is further behind reads once more."""
Found = TypeVar("Found", Pairing, Session)


class WorkReader:
    """Reads what concerns mitras and customers, for all that ask at the moment at once.

    What is read for one `Told` is read one after the other: no reading comes to be heard behind a newer one.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._batcher: Batcher[tuple[str, Told], Work] = Batcher(
            "work", self._flush, flush_max=READ_AT_ONCE, queue_max=QUEUE_MAX
        )

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._batcher.__aexit__(kind, error, trace)

    def submit(self, role: str, told: Told) -> asyncio.Future[Work]:
        """The work of a mitra or customer, beyond what it was told. The future fails with `PostgresUnavailable`.

        Raises `PostgresUnavailable`, and `Refused` (503) when too many wait.
        """
        return self._batcher.submit((role, told), key=told)

    async def _flush(self, asked: list[tuple[str, Told]]) -> list[Work]:
        mitras = _ids(told for role, told in asked if role == "mitra")
        customers = _ids(told for role, told in asked if role == "customer")
        by_id = [{*told.sessions, *told.pairings} for _, told in asked]  # more may be told while this is read
        offers = await self._offers(mitras, [told for role, told in asked if told.offers])
        pairings = await self._pairings(customers, {name for _, told in asked for name in told.pairings})
        sessions = await self._sessions(mitras, customers, {name for _, told in asked for name in told.sessions})
        own = [_own(told, sessions) for _, told in asked]  # what it is told of from now on, the next reading has
        messages = await self._messages(own, sessions)
        there = pairings.keys() | sessions.keys()
        return [
            Work(
                [each for each in offers.get(told.subject_id, ()) if role == "mitra"],
                _concerning(role, told, told.pairings, pairings) if role == "customer" else [],
                _concerning(role, told, told.sessions, sessions),
                [each for name in seqs for each in messages.get(name, ())],
                [name for name in seqs if len(messages.get(name, ())) < MESSAGES_AT_ONCE],
                [name for name in names if name not in there],
            )
            for (role, told), names, seqs in zip(asked, by_id, own, strict=True)
        ]

    async def _offers(self, mitras: list[str], told: Iterable[Told]) -> dict[str, list[OfferNews]]:
        if not mitras:
            return {}
        known = [(pairing_id, each.subject_id) for each in told for pairing_id in each.offers]
        records = await self._postgres.fetch(
            sql("offers_for"), mitras, [pairing_id for pairing_id, _ in known], [mitra_id for _, mitra_id in known]
        )
        found: dict[str, list[OfferNews]] = defaultdict(list)
        for record in records:
            offer = Offer(*(record[name] for name in OFFER_FIELDS))
            found[record["mitra_id"]].append(OfferNews(offer, OfferStatus(record["status"]), record["session_id"]))
        return found

    async def _pairings(self, customers: list[str], told: Collection[str]) -> dict[str, list[Pairing]]:
        """By whom they concern, if they are open or were made lately, and by themselves."""
        found: dict[str, list[Pairing]] = defaultdict(list)
        if customers:
            for record in await self._postgres.fetch(sql("pairings_for"), customers, list(told)):
                pairing = pairing_of(record)
                for name in _names(pairing, record["lately"], pairing.customer_id):
                    found[name].append(pairing)
        return found

    async def _sessions(
        self, mitras: list[str], customers: list[str], told: Collection[str]
    ) -> dict[str, list[Session]]:
        """By whom they concern, mitra and customer, if they are open or began lately, and by themselves."""
        records = await self._postgres.fetch(sql("sessions_for"), mitras, customers, list(told))
        found: dict[str, list[Session]] = defaultdict(list)
        for record in records:
            session = session_of(record)
            for name in _names(session, record["lately"], session.mitra_id, session.customer_id):
                found[name].append(session)
        return found

    async def _messages(
        self, own: Sequence[dict[str, int]], sessions: dict[str, list[Session]]
    ) -> dict[str, list[Message]]:
        last: dict[str, int] = {}
        for seqs in own:
            for name, seq in seqs.items():
                if any(seq < session.messages for session in sessions[name]):
                    last[name] = min(seq, last.get(name, seq))
        if not last:
            return {}
        records = await self._postgres.fetch(sql("messages_after"), list(last), list(last.values()), MESSAGES_AT_ONCE)
        found: dict[str, list[Message]] = defaultdict(list)
        for record in records:
            found[record["session_id"]].append(message_of(record))
        return found


def _ids(told: Iterable[Told]) -> list[str]:
    return list({each.subject_id for each in told})


def _own(told: Told, sessions: dict[str, list[Session]]) -> dict[str, int]:
    """The last messages told of sessions that are still its own: of others it hears none."""
    return {
        name: known.messages
        for name, known in told.sessions.items()
        if any(each.concerns(told.subject_id) for each in sessions.get(name, ()))
    }


def _names(found: Pairing | Session, lately: bool, *parties: str) -> set[str]:
    """Under which a reading has it."""
    return {found.id, *parties} if found.is_open or lately else {found.id}


def _concerning(role: str, told: Told, known: Iterable[str], found: dict[str, list[Found]]) -> list[Found]:
    """Those of this side, and those that it was told of, whosever they are now."""
    own = (each for each in found.get(told.subject_id, ()) if getattr(each, f"{role}_id") == told.subject_id)
    concerning = {each.id: each for each in own} | {each.id: each for name in known for each in found.get(name, ())}
    return sorted(concerning.values(), key=lambda each: (each.created_at, each.id))


OFFER_FIELDS = tuple(field.name for field in fields(Offer))
PAIRING_FIELDS = tuple(field.name for field in fields(Pairing))
SESSION_FIELDS = tuple(field.name for field in fields(Session))
MESSAGE_FIELDS = tuple(field.name for field in fields(Message))


def pairing_of(record: asyncpg.Record) -> Pairing:
    values: dict[str, Any] = {name: record[name] for name in PAIRING_FIELDS}
    return Pairing(**values | {"status": PairingStatus(record["status"])})


def session_of(record: asyncpg.Record) -> Session:
    values: dict[str, Any] = {name: record[name] for name in SESSION_FIELDS}
    return Session(**values | {"status": SessionStatus(record["status"])})


def message_of(record: asyncpg.Record) -> Message:
    return Message(*(record[name] for name in MESSAGE_FIELDS))


async def read_pairing(postgres: Postgres, pairing_id: str) -> Pairing | None:
    """Raises `PostgresUnavailable`."""
    record = await postgres.fetchrow(sql("pairing_by_id"), pairing_id)
    return None if record is None else pairing_of(record)


async def read_session(postgres: Postgres, session_id: str) -> Session | None:
    """Raises `PostgresUnavailable`."""
    record = await postgres.fetchrow(sql("session_by_id"), session_id)
    return None if record is None else session_of(record)

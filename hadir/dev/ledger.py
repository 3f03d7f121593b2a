"""All that anybody was told of pairings, sessions and messages, held against each other.

A fold: time comes with each `Told`. Like `hadir.dev.rules` it errs on one side: what lateness, an answer that was
overtaken, or two connections at once could explain is not called wrong.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from hadir.dev.rules import Wrong
from hadir.dev.told import Fate, Over, Pairing, Said, Session, State, Told

KEPT = 20_000
"""Of each kind: whoever simulates for days does not fill the memory."""
OVERLAP_S = 10.0
"""So long after a `hello` an older connection may still deliver what it had in its buffers."""
RANKS = {"pending_payment": 0, "active": 1, "ended": 2, "expired": 2, "cancelled": 2}
NOBODY = ("expired", "cancelled")
"""How a pairing ends that no mitra wins. Offers are told either word: an accept can be no more than too late."""
SILENT_ON_IT = ("busy", "withdrawn", "declined")
"""Results that concern one mitra, and say nothing of the pairing."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(OrderedDict[Key, Value], Generic[Key, Value]):
    """The last `KEPT` things that were new."""

    def __setitem__(self, key: Key, value: Value) -> None:
        super().__setitem__(key, value)
        if len(self) > KEPT:
            self.popitem(last=False)


@dataclass(slots=True)
class Stream:
    """One session's messages as they come to one person."""

    next_seq: int | None = None
    """None until something is known of where it begins."""
    begun: bool = False
    """A message has come on the present connection."""


class Ledger:
    """`hear` everything in the order in which it was told."""

    def __init__(self) -> None:
        self._winners: Recent[str, str] = Recent()
        self._without: Recent[str, str] = Recent()
        """Pairings that nobody wins, and who said so."""
        self._fates: Recent[tuple[str, str], str] = Recent()
        self._pairings: Recent[str, Pairing] = Recent()
        self._sessions: Recent[str, Session] = Recent()
        self._pushed: Recent[tuple[str, str], int] = Recent()
        self._messages: Recent[str, Said] = Recent()
        self._places: Recent[tuple[object, ...], str] = Recent()
        self._heard: Recent[tuple[str, str], None] = Recent()
        self._streams: Recent[str, dict[str, Stream]] = Recent()
        """By person, and by session."""
        self._greeted: dict[str, float] = {}

    def hear(self, told: Told) -> Iterator[Wrong]:
        """What is wrong with that, after all that was heard before. To be exhausted: it learns as it goes."""
        match told.what:
            case State():
                self._greet(told, told.what)
            case Fate():
                yield from self._fate(told, told.what)
            case Pairing():
                yield from self._pairing(told, told.what)
            case Session():
                yield from self._session(told, told.what)
            case Said():
                yield from self._said(told, told.what)

    def _greet(self, told: Told, state: State) -> None:
        """A pending connection has no sessions yet: where their messages go on is not known then."""
        if not state.greets:
            return
        self._greeted[told.who] = told.at
        known = {} if state.pending else self._streams.get(told.who, {})
        self._streams[told.who] = {
            each: Stream(next_seq=known[each].next_seq if each in known else None) for each in state.sessions
        }

    def _overlaps(self, told: Told) -> bool:
        return told.at < self._greeted.get(told.who, float("-inf")) + OVERLAP_S

    # pairings

    def _fate(self, told: Told, fate: Fate) -> Iterator[Wrong]:
        if fate.result in SILENT_ON_IT:
            return
        kind = "nobody" if fate.result in NOBODY else fate.result
        before = self._fates.setdefault((told.who, fate.pairing_id), kind)
        if before != kind:
            yield Wrong(f"mitra {told.who} is told {fate.result} of pairing {fate.pairing_id}", f"{before}, as before")
        elif fate.result == "won":
            yield from self._won(fate.pairing_id, told.who)
        elif fate.result == "taken" and self._winners.get(fate.pairing_id) == told.who:
            yield Wrong(f"mitra {told.who} is told taken of pairing {fate.pairing_id}", "won, as its customer was told")
        elif kind == "nobody":
            yield from self._unfilled(fate.pairing_id, fate.result)

    def _won(self, pairing_id: str, mitra_id: str) -> Iterator[Wrong]:
        winner = self._winners.setdefault(pairing_id, mitra_id)
        if winner != mitra_id:
            yield Wrong(f"pairing {pairing_id} is won by {mitra_id}", f"one winner, and that was {winner}")
        elif (ending := self._without.get(pairing_id)) is not None:
            yield Wrong(f"pairing {pairing_id} is won by {mitra_id}", f"nobody, since somebody was told {ending}")

    def _unfilled(self, pairing_id: str, ending: str) -> Iterator[Wrong]:
        self._without.setdefault(pairing_id, ending)
        if (winner := self._winners.get(pairing_id)) is not None:
            yield Wrong(f"pairing {pairing_id} is told to be {ending}", f"accepted, since {winner} has won it")

    def _pairing(self, told: Told, now: Pairing) -> Iterator[Wrong]:
        yield from self._not_theirs(told, "pairing", now.id, now.customer_id)
        yield from self._stale_push(told, "pairing", now.id, now.version)
        before = self._pairings.get(now.id)
        if before is not None and _contradict(before, now):
            found = f"pairing {now.id} is told to be {now.status} at version {now.version}"
            yield Wrong(found, f"nothing that contradicts {before.status} at version {before.version}")
        if before is None or now.version > before.version:
            self._pairings[now.id] = now
        if now.status == "accepted" and now.mitra_id is not None:
            yield from self._won(now.id, now.mitra_id)
        elif now.status in NOBODY:
            yield from self._unfilled(now.id, now.status)

    # sessions

    def _session(self, told: Told, now: Session) -> Iterator[Wrong]:
        yield from self._not_theirs(told, "session", now.id, now.customer_id)
        yield from self._stale_push(told, "session", now.id, now.version)
        before = self._sessions.get(now.id)
        if before is not None and _went_backwards(before, now):
            found = f"session {now.id} is told to be {now.status} at version {now.version}"
            yield Wrong(found, f"nothing that contradicts {before.status} at version {before.version}")
        if before is None or now.version > before.version:
            self._sessions[now.id] = now
        self._expect_after(told, now)

    def _stale_push(self, told: Told, kind: str, name: str, version: int) -> Iterator[Wrong]:
        if told.over is not Over.PUSH:
            return
        newest = self._pushed.get((told.who, name), version)
        if version < newest and not self._overlaps(told):
            found = f"{told.role} {told.who} is told version {version} of {kind} {name}"
            yield Wrong(found, f"nothing older than version {newest}, which it had been told")
        self._pushed[told.who, name] = max(version, newest)

    def _not_theirs(self, told: Told, kind: str, name: str, customer_id: str) -> Iterator[Wrong]:
        """A mitra is told of sessions that were its own, whoever has them now."""
        if told.role == "customer" and told.who != customer_id:
            yield Wrong(f"customer {told.who} is told of {kind} {name}", f"its customer alone, {customer_id}")

    # messages

    def _expect_after(self, told: Told, session: Session) -> None:
        """Messages up to `session.messages` are stored: the next one that is new has a higher number."""
        stream = self._stream(told.who, session.id)
        if not stream.begun:
            stream.next_seq = max(stream.next_seq or 0, session.messages + 1)

    def _said(self, told: Told, said: Said) -> Iterator[Wrong]:
        first = self._messages.setdefault(said.id, said)
        if first != said:
            yield Wrong(f"message {said.id} is told as {_brief(said)}", f"{_brief(first)}, as before")
        places: dict[tuple[object, ...], str] = {(said.session_id, said.seq): f"seq {said.seq} of its session"}
        if said.sender == "customer":  # a session may have had several mitras, and each has its own
            places[said.session_id, said.client_id] = f"the customer's client_id {said.client_id}"
        for place, name in places.items():
            holder = self._places.setdefault(place, said.id)
            if holder != said.id:
                yield Wrong(f"message {said.id} has {name}", f"only message {holder} to have it")
        if told.over is Over.PUSH and (told.who, said.id) not in self._heard:
            self._heard[told.who, said.id] = None
            yield from self._in_order(told, said)

    def _in_order(self, told: Told, said: Said) -> Iterator[Wrong]:
        stream = self._stream(told.who, said.session_id)
        expected, begins = stream.next_seq, not stream.begun
        stream.begun, stream.next_seq = True, max(expected or 0, said.seq + 1)
        if expected is None:
            return
        if said.seq > expected:
            yield Wrong(f"{told.role} {told.who} gets message {_brief(said)}", f"seq {expected} next")
        elif said.seq < expected and not self._overlaps(told):
            if begins:  # it was on its way when the number of messages was told
                stream.next_seq = said.seq + 1
            else:
                yield Wrong(f"{told.role} {told.who} gets message {_brief(said)}", f"it before seq {expected - 1}")

    def _stream(self, who: str, session_id: str) -> Stream:
        if who not in self._streams:
            self._streams[who] = {}
        return self._streams[who].setdefault(session_id, Stream())


def _contradict(one: Pairing, other: Pairing) -> bool:
    earlier, later = sorted((one, other), key=lambda each: each.version)
    if earlier.version == later.version or earlier.status != "searching":
        return (earlier.status, earlier.mitra_id) != (later.status, later.mitra_id)
    return False


def _went_backwards(one: Session, other: Session) -> bool:
    """As versions have it, not as they came: an answer may be overtaken by a push."""
    earlier, later = sorted((one, other), key=lambda each: each.version)
    if earlier.version == later.version or not earlier.open:
        return earlier.status != later.status
    return RANKS.get(later.status, -1) < RANKS.get(earlier.status, -1)


def _brief(said: Said) -> str:
    return f"seq {said.seq} of session {said.session_id} by {said.sender}: {said.body[:40]!r}"

"""What one socket was told of offers, pairings, sessions and messages, and what a reading therefore has to add.

Nothing is concluded from what a reading lacks: something is over when its row says so, or when it was asked for by
its id and has no row. What began lately is read although it is over: it may have begun and ended between two readings.
So readings may be late, doubled or out of order (R8), and still nobody hears anything twice, or less than its end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hadir.realtime.messages import encode
from hadir.realtime.pairing import CLOSED_BECAUSE, AcceptResult, Offer, OfferNews, OfferStatus, Pairing
from hadir.realtime.session import Message, Session

OVER_MAX = 1_000
"""More than may begin and end in the minute in which it is still read."""
MESSAGES_AT_ONCE = 100
"""Told by one reading; the rest by the next, so that a peer that reads is not taken for one that does not."""
FINAL = 2**62
"""Later than any version: offers have none, and never open again."""


@dataclass(slots=True)
class Work:
    """A reading of what concerns one mitra or customer: what is open, what began in the last minute, and what became
    of what it was told of."""

    offers: list[OfferNews] = field(default_factory=list)
    pairings: list[Pairing] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    complete: Collection[str] = ()
    """Sessions of which `messages` has all that there are after those told of: a number that is missing is no more."""
    gone: list[str] = field(default_factory=list)
    """Pairings and sessions that it was told of, of which there is no row any more."""


@dataclass(slots=True)
class News:
    """`frames` to send in this order; `offered`: pairings of which an offer was told; `behind`: read once more."""

    frames: list[str] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    behind: bool = False


class Told:
    """Of one socket of `subject_id`; a mitra has offers, a customer pairings, both have sessions."""

    __slots__ = ("_over", "offers", "pairings", "sessions", "subject_id")

    def __init__(self, subject_id: str) -> None:
        self.subject_id = subject_id
        self.offers: dict[str, Offer] = {}
        self.pairings: dict[str, Pairing] = {}
        self.sessions: dict[str, Session] = {}
        """`messages` of each is the last one that it was told, or that `hello` says it missed: never one behind it."""
        self._over: dict[str, int] = {}

    def hear(self, work: Work) -> News:
        """What is new in a reading; from now on it counts as told."""
        news = News()
        for offer in work.offers:
            self._hear_offer(offer, work.sessions, news)
        for pairing in work.pairings:
            self._hear_pairing(pairing, news)
        complete = work.complete if len(work.messages) <= MESSAGES_AT_ONCE else ()
        for message in work.messages[:MESSAGES_AT_ONCE]:
            self._hear_message(message, news)
        for session in work.sessions:
            self._hear_session(session, news, complete=session.id in complete)
        for name in work.gone:
            self.pairings.pop(name, None)
            self.sessions.pop(name, None)
        return news

    def answered(self, pairing_id: str, session: Session | None = None) -> list[str]:
        """The app is told the end of an offer in answer to what it said; the frames that go with that.

        The session that it won counts as told from now on: its end will be news, however soon it comes.
        """
        news = News()
        if self.offers.pop(pairing_id, None) is not None:
            self._end(pairing_id, FINAL)
        if session is not None and session.is_open:
            self._hear_session(session, news)
        return news.frames

    def withhold_offers(self) -> None:
        """Its mitra wants none at the moment; they are told anew when it does."""
        self.offers.clear()

    def state(self, kinds: Collection[str]) -> dict[str, Sequence[Any]]:
        """All that is open, as `hello` and `sync` have it."""
        return {kind: [*getattr(self, kind).values()] for kind in kinds}

    def _hear_offer(self, heard: OfferNews, sessions: Sequence[Session], news: News) -> None:
        pairing_id = heard.offer.pairing_id
        if heard.status is OfferStatus.OPEN:
            if pairing_id not in self.offers and pairing_id not in self._over:
                self.offers[pairing_id] = heard.offer
                news.offered.append(pairing_id)
                news.frames.append(encode("offer", **fields_of(heard.offer)))
        elif self.offers.pop(pairing_id, None) is not None:
            self._end(pairing_id, FINAL)
            if (reason := CLOSED_BECAUSE.get(heard.status)) is not None:
                news.frames.append(encode("offer.closed", pairing_id=pairing_id, reason=reason))
            else:
                session = next((each for each in sessions if each.id == heard.session_id), None)
                news.frames.append(
                    encode("offer.result", pairing_id=pairing_id, result=AcceptResult.WON, session=session)
                )

    def _hear_pairing(self, pairing: Pairing, news: News) -> None:
        if self._is_new(pairing, self.pairings.get(pairing.id)):
            self._keep(self.pairings, pairing, pairing.is_open)
            news.frames.append(encode("pairing.updated", pairing=pairing))

    def _hear_message(self, message: Message, news: News) -> None:
        """A reading has all that there are after a number that was told: what is missing between them was deleted."""
        known = self.sessions.get(message.session_id)
        if known is not None and message.seq > known.messages:
            self.sessions[known.id] = replace(known, messages=message.seq)
            news.frames.append(encode("chat.message", message=message))

    def _hear_session(self, session: Session, news: News, *, complete: bool = False) -> None:
        known, mine = self.sessions.get(session.id), session.concerns(self.subject_id)
        if known is not None and mine and known.messages < session.messages:
            if not complete:
                news.behind = True  # its last messages come before its end
                return
            known = self.sessions[known.id] = replace(known, messages=session.messages)  # the last ones were deleted
        if (mine or known is not None) and self._is_new(session, known):
            if known is not None:  # a session is read before its messages: more may have been told of it
                session = replace(session, messages=max(known.messages, session.messages))
            self._keep(self.sessions, session, session.is_open and mine)
            news.frames.append(encode("session.updated", session=session))

    def _is_new(self, found: Pairing | Session, known: Pairing | Session | None) -> bool:
        """Newer than what was told of it; or new, and not told to be over before."""
        if isinstance(found, Session) and isinstance(known, Session) and found.version == known.version:
            # Somebody held the row, and its version did not move with its mitra.
            return found.mitra_reachable != known.mitra_reachable
        if known is not None:
            return found.version > known.version
        return found.version > self._over.get(found.id, 0)

    def _keep(self, told: dict[str, Any], found: Pairing | Session, is_open: bool) -> None:
        if is_open:
            told[found.id] = found
        else:
            told.pop(found.id, None)
            self._end(found.id, found.version)

    def _end(self, name: str, version: int) -> None:
        self._over.pop(name, None)  # to the end of the line
        self._over[name] = version
        if len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]


def fields_of(value: Any) -> dict[str, Any]:
    """A value's fields, without going into them."""
    return {name: getattr(value, name) for name in value.__slots__}

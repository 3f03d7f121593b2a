"""Everything that simulated people were told, kept, and held against the rows that there are in the end. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hadir.dev.ledger import NOBODY, RANKS, Ledger
from hadir.dev.told import OPEN, Fate, Offered, Pairing, Said, Session, State, Told

Row = Mapping[str, Any]

KEPT = 1_000_000
SLACK = timedelta(seconds=5)
"""Times of rows are those of their transactions' starts: one that waited for a lock has an older one than it seems."""
ALWAYS, NEVER = (end.replace(tzinfo=UTC) for end in (datetime.max, datetime.min))


class History:
    """What was told, the last million of it."""

    def __init__(self) -> None:
        self._kept: deque[Told] = deque(maxlen=KEPT)

    def record(self, told: Told) -> None:
        self._kept.append(told)

    def events(self) -> Sequence[Told]:
        return list(self._kept)


@dataclass(frozen=True, slots=True)
class Rows:
    """The tables of the same names, whole or at least what the history names; ids as text or UUID."""

    pairings: Sequence[Row]
    pairing_offers: Sequence[Row]
    chat_sessions: Sequence[Row]
    chat_messages: Sequence[Row]


def inconsistencies(events: Iterable[Told], rows: Rows, *, capacity: int = 1) -> list[str]:
    """Sentences, one for each thing told that the rest of what was told or the rows contradict; best an empty list.

    `capacity`: how many open sessions a mitra may have.
    """
    told = sorted(events, key=lambda each: each.at)
    tables = _Tables(rows)
    found = [*_among_themselves(told), *_against_rows(told, tables), *_too_many_told(told, capacity)]
    found += [*_winners(tables), *_numbering(rows), *_too_many_held(rows, capacity)]
    return list(dict.fromkeys(found))


class _Tables:
    """Rows by their ids, as text."""

    def __init__(self, rows: Rows) -> None:
        self.pairings = {str(row["id"]): row for row in rows.pairings}
        self.offers = {(str(row["pairing_id"]), str(row["mitra_id"])): row for row in rows.pairing_offers}
        self.sessions = {str(row["id"]): row for row in rows.chat_sessions}
        self.messages = {str(row["id"]): row for row in rows.chat_messages}


def _among_themselves(told: Sequence[Told]) -> Iterator[str]:
    ledger = Ledger()
    for each in told:
        yield from (f"{wrong.found}, expected {wrong.expected}" for wrong in ledger.hear(each))


def _against_rows(told: Sequence[Told], tables: _Tables) -> Iterator[str]:
    for each in told:
        match each.what:
            case Offered(pairing_id):
                if (pairing_id, each.who) not in tables.offers:
                    yield f"mitra {each.who} was offered pairing {pairing_id}: there is no such row"
            case Fate():
                yield from _fate(each.who, each.what, tables)
            case Pairing():
                yield from _pairing(each.what, tables.pairings.get(each.what.id))
            case Session():
                yield from _session(each.what, tables.sessions.get(each.what.id))
            case Said():
                yield from _said(each.what, tables.messages.get(each.what.id))


def _fate(who: str, fate: Fate, tables: _Tables) -> Iterator[str]:
    told = f"mitra {who} was told {fate.result} of pairing {fate.pairing_id}"
    row = tables.pairings.get(fate.pairing_id)
    if row is None:
        yield f"{told}: there is no such row"
        return
    is_, winner = row["status"], _text(row["mitra_id"])
    in_fact = f"its row says {is_}" + (f", by {winner}" if winner else "")
    right = {
        "won": is_ == "accepted" and winner == who,
        "taken": is_ == "accepted" and winner != who,
        "expired": is_ == "expired" or (is_ == "cancelled" and not fate.closed),
        "cancelled": is_ == "cancelled",
    }
    if not right.get(fate.result, True):
        yield f"{told}: {in_fact}"


def _pairing(told: Pairing, row: Row | None) -> Iterator[str]:
    if row is None:
        yield f"pairing {told.id} was told: there is no such row"
    elif told.status != "searching":
        now = (row["status"], _text(row["mitra_id"]), _text(row["session_id"]))
        then = (told.status, told.mitra_id, told.session_id)
        if then != now:
            yield f"pairing {told.id} was told as {_listed(then)}: its row says {_listed(now)}"


def _session(told: Session, row: Row | None) -> Iterator[str]:
    if row is None:
        yield f"session {told.id} was told: there is no such row"
        return
    now, then = (row["status"], row["end_reason"]), (told.status, told.end_reason)
    if told.open:
        if RANKS.get(row["status"], -1) < RANKS.get(told.status, -1):
            yield f"session {told.id} was told as {told.status}: its row says {row['status']}"
    elif then != now:
        yield f"session {told.id} was told as {_listed(then)}: its row says {_listed(now)}"


def _said(told: Said, row: Row | None) -> Iterator[str]:
    if row is None:
        yield f"message {told.id} was told: there is no such row"
        return
    now = (str(row["session_id"]), row["seq"], row["sender"], row["client_id"], row["body"])
    then = (told.session_id, told.seq, told.sender, told.client_id, told.body)
    if then != now:
        yield f"message {told.id} was told as {_listed(then)}: its row says {_listed(now)}"


def _too_many_told(told: Sequence[Told], capacity: int) -> Iterator[str]:
    """By one `hello` or `sync`, whose list was read at one moment."""
    for each in told:
        if each.role == "mitra" and isinstance(each.what, State) and len(each.what.sessions) > capacity:
            yield f"mitra {each.who} was told of {len(each.what.sessions)} open sessions, capacity {capacity}"


def _winners(tables: _Tables) -> Iterator[str]:
    accepted = defaultdict(set)
    for (pairing_id, mitra_id), row in tables.offers.items():
        if row["status"] == "accepted":
            accepted[pairing_id].add(mitra_id)
    for pairing_id, row in tables.pairings.items():
        winner = {str(row["mitra_id"])} if row["status"] == "accepted" else set()
        if accepted[pairing_id] != winner:
            offers = _listed(sorted(accepted[pairing_id])) or "nobody"
            yield f"pairing {pairing_id} is {row['status']}, by {_text(row['mitra_id'])}: its offers say {offers}"
        if row["status"] in NOBODY and row["mitra_id"] is not None:
            yield f"pairing {pairing_id} is {row['status']}: its row names {row['mitra_id']}"


def _numbering(rows: Rows) -> Iterator[str]:
    numbers, names = defaultdict(list), defaultdict(list)
    for row in rows.chat_messages:
        numbers[str(row["session_id"])].append(row["seq"])
        names[str(row["session_id"]), str(row["sender_id"]), row["client_id"]].append(str(row["id"]))
    for session_id, seqs in numbers.items():
        if sorted(seqs) != list(range(1, len(seqs) + 1)):
            yield f"session {session_id} has messages with seq {_listed(sorted(seqs))}"
    for (session_id, sender, client_id), ids in names.items():
        if len(ids) > 1:
            yield f"client_id {client_id} of {sender} in session {session_id} is stored {len(ids)} times"


def _too_many_held(rows: Rows, capacity: int) -> Iterator[str]:
    """Had at one time, by the rows: from the accept until the end, or until another one took over."""
    for mitra_id, tenures in _tenures(rows).items():
        for begins, _ in tenures:
            held = sum(start <= begins and begins + SLACK < end for start, end in tenures)
            if held > capacity:
                yield f"mitra {mitra_id} had {held} open sessions at {begins.isoformat()}, capacity {capacity}"


def _tenures(rows: Rows) -> Mapping[str, list[tuple[datetime, datetime]]]:
    accepts: defaultdict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for row in rows.pairings:
        if row["status"] == "accepted" and row["session_id"] is not None:
            accepts[str(row["session_id"])].append((row["decided_at"], str(row["mitra_id"])))
    tenures: defaultdict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for session in rows.chat_sessions:
        end = ALWAYS if session["status"] in OPEN else session["ended_at"] or NEVER
        taken = sorted(accepts[str(session["id"])])
        for (begins, mitra_id), (ends, _) in pairwise([*taken, (end, "")]):
            tenures[mitra_id].append((begins, ends))
    return tenures


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _listed(values: Iterable[object]) -> str:
    return ", ".join("none" if value is None else str(value) for value in values)

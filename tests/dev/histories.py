"""Things told, written by hand: short words for tests of what is judged."""

from __future__ import annotations

from dataclasses import replace

from hadir.dev.ledger import Ledger
from hadir.dev.told import Fate, Offered, Over, Pairing, Role, Said, Session, State, Told, What

PAIRING = Pairing("p1", "c1", "searching", None, None, reroute=False, version=1)
ACCEPTED = replace(PAIRING, status="accepted", mitra_id="m1", session_id="s1", version=2)
SESSION = Session("s1", "c1", "m1", "pending_payment", None, extensions=0, messages=0, version=1)
ACTIVE = replace(SESSION, status="active", version=2)
ENDED = replace(SESSION, status="ended", end_reason="customer", version=3)
SAID = Said("x1", "s1", 1, "customer", "k1", "halo")


def to(who: str, what: What, at: float = 100.0, over: Over = Over.PUSH) -> Told:
    role: Role = "mitra" if who.startswith("m") else "customer"
    return Told(at, who, role, over, what)


def offered(who: str, pairing_id: str = "p1") -> Told:
    return to(who, Offered(pairing_id))


def result(who: str, what: str, pairing_id: str = "p1") -> Told:
    return to(who, Fate(pairing_id, what, closed=False), over=Over.ANSWER)


def closed(who: str, why: str, pairing_id: str = "p1") -> Told:
    return to(who, Fate(pairing_id, why, closed=True))


def greeted(who: str, *sessions: str, at: float = 0.0, pending: bool = False) -> Told:
    return to(who, State(sessions, (), pending=pending, greets=True), at, Over.STATE)


def says(seq: int, *, session_id: str = "s1") -> Said:
    return Said(f"{session_id}-{seq}", session_id, seq, "customer", f"k{seq}", "halo")


def wrongs(*told: Told) -> list[str]:
    """What a ledger finds in them, in this order."""
    ledger = Ledger()
    return [f"{wrong.found}, expected {wrong.expected}" for each in told for wrong in ledger.hear(each)]

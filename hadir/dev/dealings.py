"""What came of pairings, sessions, messages and payments, counted. Values: times are arguments."""

from __future__ import annotations

from collections import Counter

from hadir.dev.ledger import Recent
from hadir.dev.tally import Latency
from hadir.dev.told import Offered, Over, Pairing, Said, Session, Told

FIRST_OFFER, ACCEPTED = "request to first offer", "request to accepted"
KNOWN = "accept to customer told"


class Dealings:
    """Counts, from the start of the simulation on. Each pairing, session and message counts once."""

    def __init__(self, latencies: dict[str, Latency]) -> None:
        self._latencies = latencies
        self._began: Recent[str, float] = Recent()
        self._offered: Recent[str, float] = Recent()
        self._accepted: Recent[str, float] = Recent()
        self._told: Recent[str, float] = Recent()
        self._seen: Recent[str, None] = Recent()
        self._open: Recent[str, None] = Recent()
        self._searching: Recent[str, None] = Recent()
        self.pairings: Counter[str] = Counter()
        """By outcome, as their customers were told; `rerouted` is an accepted one of a session that went on."""
        self.accepts: Counter[str] = Counter()
        self.sessions: Counter[str] = Counter()
        """By how they ended."""
        self.payments: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Requests, by HTTP status and code, or the socket's code."""
        self.sent = 0
        self.delivered = 0
        """To the other side, over its socket."""

    @property
    def searching(self) -> int:
        return len(self._searching)

    @property
    def open(self) -> int:
        """Sessions."""
        return len(self._open)

    def asked(self, pairing_id: str, began: float) -> None:
        """A pairing was made by a request that began then."""
        if pairing_id not in self._began:
            self._began[pairing_id] = began
            self._time(FIRST_OFFER, self._began, self._offered, pairing_id)
            self._time(ACCEPTED, self._began, self._told, pairing_id)

    def accepted(self, pairing_id: str, result: str, began: float) -> None:
        """A mitra's accept, sent then, was answered."""
        self.accepts[result] += 1
        if result == "won" and pairing_id not in self._accepted:
            self._accepted[pairing_id] = began
            self._time(KNOWN, self._accepted, self._told, pairing_id)

    def hear(self, told: Told) -> None:
        match told.what:
            case Offered(pairing_id) if pairing_id not in self._offered:
                self._offered[pairing_id] = told.at
                self._time(FIRST_OFFER, self._began, self._offered, pairing_id)
            case Pairing():
                self._pairing(told.what, told.at)
            case Session():
                self._session(told.what)
            case Said():
                self._said(told, told.what)

    def _pairing(self, pairing: Pairing, now: float) -> None:
        if pairing.status == "searching":
            if pairing.id not in self._seen:
                self._searching[pairing.id] = None
        elif self._is_new(pairing.id):
            self._searching.pop(pairing.id, None)
            accepted = pairing.status == "accepted"
            self.pairings["rerouted" if accepted and pairing.reroute else pairing.status] += 1
            if accepted:
                self._told[pairing.id] = now
                self._time(KNOWN, self._accepted, self._told, pairing.id)
                self._time(ACCEPTED, self._began, self._told, pairing.id)

    def _session(self, session: Session) -> None:
        if session.open:
            if session.id not in self._seen:
                self._open[session.id] = None
        elif self._is_new(session.id):
            self._open.pop(session.id, None)
            self.sessions[f"{session.status} by {session.end_reason}".replace("_", " ")] += 1

    def _said(self, told: Told, said: Said) -> None:
        if told.role == said.sender:
            self.sent += self._is_new(f"{said.id} sent")
        elif told.over is Over.PUSH:
            self.delivered += self._is_new(f"{said.id} delivered")

    def _is_new(self, name: str) -> bool:
        if name in self._seen:
            return False
        self._seen[name] = None
        return True

    def _time(self, name: str, began: Recent[str, float], ended: Recent[str, float], pairing_id: str) -> None:
        if pairing_id in began and pairing_id in ended:
            self._latencies[name].add(max(0.0, ended[pairing_id] - began[pairing_id]))

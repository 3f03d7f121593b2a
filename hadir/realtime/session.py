"""Sessions as values: their states, what may happen to them, and what then becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

BODY_MAX = 2_000
CLIENT_ID_MAX = 64


class SessionStatus(StrEnum):
    """The first two count against the mitra's capacity; the others are final."""

    PENDING_PAYMENT = "pending_payment"
    ACTIVE = "active"
    ENDED = "ended"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What may happen to a session."""

    PAID = "paid"
    PAYMENT_TIMEOUT = "payment_timeout"
    END = "end"
    EXTENDED = "extended"
    REROUTED = "rerouted"
    TIME_OVER = "time_over"


MEANINGS: Mapping[Event, str] = {
    Event.PAID: "its payment came: it lasts `SESSION_SECONDS` from now",
    Event.PAYMENT_TIMEOUT: "`PAYMENT_TIMEOUT_SECONDS` went by without it",
    Event.END: "its customer, its mitra or an operator ends it",
    Event.EXTENDED: "the payment of an extension came: it lasts `SESSION_SECONDS` longer",
    Event.REROUTED: "another mitra accepted it: same id, payment and end",
    Event.TIME_OVER: "`expires_at` is reached",
}

TRANSITIONS: Mapping[tuple[SessionStatus, Event], SessionStatus] = {
    (SessionStatus.PENDING_PAYMENT, Event.PAID): SessionStatus.ACTIVE,
    (SessionStatus.PENDING_PAYMENT, Event.PAYMENT_TIMEOUT): SessionStatus.EXPIRED,
    (SessionStatus.PENDING_PAYMENT, Event.END): SessionStatus.CANCELLED,
    (SessionStatus.PENDING_PAYMENT, Event.REROUTED): SessionStatus.PENDING_PAYMENT,
    (SessionStatus.ACTIVE, Event.END): SessionStatus.ENDED,
    (SessionStatus.ACTIVE, Event.EXTENDED): SessionStatus.ACTIVE,
    (SessionStatus.ACTIVE, Event.REROUTED): SessionStatus.ACTIVE,
    (SessionStatus.ACTIVE, Event.TIME_OVER): SessionStatus.ENDED,
}
"""What each event makes of each state; what is not here is not possible and changes nothing."""

END_REASONS: Mapping[str, str] = {
    "customer": "its customer ended it",
    "mitra": "its mitra ended it",
    "operator": "an operator ended it",
    "payment_timeout": "it was not paid for in time",
    "time": "the time that was paid for is over",
    "external": "another program ended it, without saying why",
}
"""What `end_reason` of a session that is over says; another program may have written a text of its own."""

OPEN = frozenset({SessionStatus.PENDING_PAYMENT, SessionStatus.ACTIVE})


def steps(event: Event) -> tuple[list[str], list[str]]:
    """The states in which an event is possible, and what each becomes: what the statements of Postgres take."""
    before = [status for status, each in TRANSITIONS if each is event]
    return [*before], [TRANSITIONS[status, event] for status in before]


def described() -> str:
    """The table as Markdown, for docs/sessions.md."""
    head = ["what happens", *(f"`{status}`" for status in SessionStatus)]
    rows = [head, ["---"] * len(head)]
    for event in Event:
        cells = [TRANSITIONS.get((status, event)) for status in SessionStatus]
        rows.append([f"`{event}`: {MEANINGS[event]}", *(f"→ `{cell}`" if cell else "-" for cell in cells)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


@dataclass(frozen=True, slots=True)
class Session:
    """A session as both its sides see it; `messages` is the number of its last one."""

    id: str
    customer_id: str
    mitra_id: str
    mitra_name: str
    status: SessionStatus
    created_at: datetime
    payment_due_at: datetime | None
    started_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None
    extensions: int
    messages: int
    mitra_reachable: bool
    version: int

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    def concerns(self, subject_id: str) -> bool:
        """Whether it is this customer's or mitra's."""
        return subject_id in (self.customer_id, self.mitra_id)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a session's chat; `seq` counts from 1 without gaps, in the order in which they were stored."""

    id: str
    session_id: str
    seq: int
    sender: str
    client_id: str
    body: str
    at: datetime

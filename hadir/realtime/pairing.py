"""Pairings as values: what a customer asks for, what mitras are offered, and how it may be decided.

Who wins is decided by `pairing_accept` in Postgres, under the locks of the mitra and of the pairing (R7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

LATE_S = 5.0
"""The server decides this long after the deadline that is shown: who answers in time wins over slow networks, too."""
NOTE_MAX = 500


class PairingStatus(StrEnum):
    """`searching` is the only one that changes."""

    SEARCHING = "searching"
    ACCEPTED = "accepted"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class OfferStatus(StrEnum):
    """`open` is the only one that can be accepted."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    TAKEN = "taken"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"


class AcceptResult(StrEnum):
    """What accepting comes to. `busy`: no capacity now, the offer stays; `withdrawn`: there is none any more."""

    WON = "won"
    TAKEN = "taken"
    EXPIRED = "expired"
    BUSY = "busy"
    WITHDRAWN = "withdrawn"


class DeclineResult(StrEnum):
    """What declining comes to: `declined`, or what had been decided before."""

    DECLINED = "declined"
    WON = "won"
    TAKEN = "taken"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


CLOSED_BECAUSE: Mapping[OfferStatus, str] = {
    OfferStatus.DECLINED: "withdrawn",
    OfferStatus.TAKEN: "taken",
    OfferStatus.EXPIRED: "expired",
    OfferStatus.CANCELLED: "cancelled",
    OfferStatus.WITHDRAWN: "withdrawn",
}
"""The reason in `offer.closed`; an accepted offer ends with `offer.result` instead."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer as its mitra sees it; `expires_at` is the deadline that is shown."""

    pairing_id: str
    offered_at: datetime
    expires_at: datetime
    note: str
    reroute: bool


@dataclass(frozen=True, slots=True)
class OfferNews:
    """An offer, how it stands, and the session where it was won."""

    offer: Offer
    status: OfferStatus
    session_id: str | None


@dataclass(frozen=True, slots=True)
class Pairing:
    """A pairing as its customer sees it."""

    id: str
    customer_id: str
    status: PairingStatus
    note: str
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    mitra_id: str | None
    mitra_name: str | None
    session_id: str | None
    reroute: bool
    version: int

    @property
    def is_open(self) -> bool:
        return self.status == PairingStatus.SEARCHING

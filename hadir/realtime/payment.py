"""Payments as values: what an invoice's event says. https://developers.xendit.co/api-reference/#invoice-callback"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

EXTERNAL_ID = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?::([1-9][0-9]{0,3}))?")
PAID = frozenset({"PAID", "SETTLED"})
EXPIRED = "EXPIRED"
TEXT_MAX = 200
RUPIAH_MAX = 2**53


class NotOurs(Exception):
    """An event that is about no session of ours, or that says nothing which matters; the text says why."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice that was paid or has expired; `extension` 0 is the session itself. Amounts are whole rupiah."""

    external_id: str
    invoice_id: str
    session_id: str
    extension: int
    paid: bool
    amount: int | None
    paid_at: datetime | None


def external_id(session_id: str, extension: int) -> str:
    return f"{session_id}:{extension}" if extension else session_id


def session_named(body: Mapping[str, Any]) -> str | None:
    """The session that an event is about, if it says so."""
    named = body.get("external_id")
    parts = EXTERNAL_ID.fullmatch(named.lower()) if isinstance(named, str) else None
    return None if parts is None else parts.group(1)


def invoice_of(body: Mapping[str, Any]) -> Invoice:
    """What an event says. Raises `NotOurs`."""
    named, status, invoice_id = body.get("external_id"), body.get("status"), body.get("id")
    if not isinstance(named, str) or (parts := EXTERNAL_ID.fullmatch(named.lower())) is None:
        raise NotOurs("external_id is no session's")
    if not isinstance(invoice_id, str) or not 0 < len(invoice_id) <= TEXT_MAX:
        raise NotOurs("id is no invoice's")
    if not isinstance(status, str) or (status not in PAID and status != EXPIRED):
        raise NotOurs("status is neither PAID, SETTLED nor EXPIRED")
    session_id, extension = parts.group(1), int(parts.group(2) or 0)
    paid = status in PAID
    amount = _rupiah(body.get("paid_amount", body.get("amount")) if paid else body.get("amount"))
    return Invoice(
        external_id(session_id, extension),
        invoice_id,
        session_id,
        extension,
        paid,
        amount,
        _time(body.get("paid_at")) if paid else None,
    )


def _rupiah(value: Any) -> int | None:
    """None where it is no whole number of rupiah: the payment counts all the same."""
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return int(value) if whole and 0 <= value <= RUPIAH_MAX else None


def _time(value: Any) -> datetime | None:
    """None where it is no time with a zone that can be kept: when it came is known all the same."""
    try:
        when = datetime.fromisoformat(value)
        return when.astimezone(UTC) if when.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None

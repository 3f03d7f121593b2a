"""The days of a report: which are asked for, and when each begins in its time zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request

from hadir.db.queries import sql
from hadir.errors import Refused
from hadir.http.report_rows import Day
from hadir.http.requests import TEXT_MAX, node_of

DAYS_MAX = 92
DAYS = 7
"""A report of which nobody said when it begins: the last seven days."""
EARLIEST, LATEST = date(2000, 1, 1), date(2199, 12, 31)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """Days, first and last included, of a time zone; `days` are those that have begun."""

    first: date
    last: date
    tz: str
    days: Sequence[Day]

    def head(self) -> dict[str, Any]:
        return {"from": self.first, "to": self.last, "tz": self.tz}


async def period_of(request: Request) -> Period:
    """What `from`, `to` and `tz` ask for, by Postgres's clock. Raises `Refused` (422)."""
    tz = request.query_params.get("tz", "UTC")
    zone = _zone(tz)
    now: datetime = await node_of(request).postgres.fetchval(sql("clock"))
    last = _date(request, "to") or now.astimezone(zone).date()
    first = _date(request, "from") or max(EARLIEST, last - timedelta(days=DAYS - 1))
    if not first <= last < first + timedelta(days=DAYS_MAX):
        why = f"from must not be after to, and with both of them a report has at most {DAYS_MAX} days."
        raise Refused(422, "bad_field", why, field="from")
    return Period(first, last, tz, [day for day in days_of(first, last, zone) if day.starts <= now])


def days_of(first: date, last: date, zone: ZoneInfo) -> list[Day]:
    """Days, first and last included, each from its beginning to the next's: in summer time one has 23, one 25 hours."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 2)]
    begins = [_beginning(day, zone) for day in days]
    return [Day(*each) for each in zip(days, begins, begins[1:], strict=False)]


def _beginning(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a day: of a midnight that comes twice the first, of one left out what comes instead."""
    midnight = datetime.combine(day, time(), zone)
    early, late = midnight.replace(fold=1).astimezone(UTC), midnight.astimezone(UTC)
    if early >= late:
        return late
    # Left out: clocks go forward between the two, at the instant from which on the later offset holds.
    offset, low, high = late.astimezone(zone).utcoffset(), 0, round((late - early).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        is_after = (early + timedelta(seconds=middle)).astimezone(zone).utcoffset() == offset
        low, high = (low, middle) if is_after else (middle, high)
    return early + timedelta(seconds=high)


def _zone(tz: str) -> ZoneInfo:
    try:
        if 0 < len(tz) <= TEXT_MAX:
            return ZoneInfo(tz)
    except (KeyError, ValueError, OSError):  # no such file, no name of one, a folder of them
        pass
    raise Refused(422, "bad_field", "tz must be the IANA name of a time zone, as Asia/Jakarta.", field="tz")


def _date(request: Request, name: str) -> date | None:
    asked = request.query_params.get(name)
    if asked is None:
        return None
    try:
        found = date.fromisoformat(asked) if DAY.fullmatch(asked) else None
    except ValueError:
        found = None
    if found is None or not EARLIEST <= found <= LATEST:
        why = f"{name} must be a date as 2026-05-31, from {EARLIEST} to {LATEST}."
        raise Refused(422, "bad_field", why, field=name)
    return found

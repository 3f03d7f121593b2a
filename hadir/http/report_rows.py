"""The rows of reports out of Postgres, a bounded piece of work a statement: nobody holds a million mitras in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.realtime import rows as presence_rows

STATEMENT_S = 30.0
MITRA_DAYS = 2_000
"""How much of the log one statement reads: days times mitras."""
MITRAS_LEAST, MITRAS_MOST = 20, 1_000
PARTS_OF_DAY = 4
"""Offers are counted a part of a day at a time: there are many more of them than pairings."""
SUMMED = (
    "offers", "delivered", "seen", "declined", "offers_accepted", "offers_taken", "offers_expired",
    "offers_cancelled", "offers_withdrawn", "offers_open",
)  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a time zone, from its midnight to the next."""

    day: date
    starts: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of mitras in the order of their ids, up to and with `last`; None: nobody is left."""

    rows: Sequence[Row]
    last: str | None


async def online_time(
    postgres: Postgres, days: Sequence[Day], first: str, last: str, columns: Sequence[str]
) -> AsyncGenerator[Chunk]:
    """How long the mitras of these ids, first and last with them, were online on each day. Ordered by mitra and day.

    Raises `PostgresUnavailable`.
    """
    if not days:
        return
    at_once = min(MITRAS_MOST, max(MITRAS_LEAST, MITRA_DAYS // len(days)))
    span = days[0].starts, days[-1].ends
    columns_of_days = [each.day for each in days], [each.starts for each in days], [each.ends for each in days]
    following: str | None = first
    while following is not None:
        asked = following, last, at_once, *span, *columns_of_days
        records = await postgres.fetch(sql("report_online"), *asked, timeout=STATEMENT_S)
        looked_at = records[0]["last"]
        rows = [{name: each[name] for name in columns} for each in records if each["day"] is not None]
        following = None if looked_at is None else presence_rows.id_after(looked_at)
        if following is not None and following > last:
            following = None
        yield Chunk(rows, looked_at)


async def hours(postgres: Postgres, days: Sequence[Day]) -> AsyncIterator[Sequence[Row]]:
    """Availability against demand, hour by hour. Raises `PostgresUnavailable`."""
    for each in days:
        records = await postgres.fetch(sql("report_hours"), each.starts, each.ends, timeout=STATEMENT_S)
        yield [dict(record) for record in records]


async def funnel(postgres: Postgres, days: Sequence[Day]) -> AsyncIterator[Sequence[Row]]:
    """From asking to winning, day by day. Raises `PostgresUnavailable`."""
    for each in days:
        asked = await postgres.fetchrow(sql("report_funnel"), each.starts, each.ends, timeout=STATEMENT_S)
        assert asked is not None
        row = {"day": each.day, **asked} | dict.fromkeys(SUMMED, 0)
        for starts, ends in _parts(each) if asked["pairings"] else ():
            offers = await postgres.fetchrow(sql("report_offers"), starts, ends, timeout=STATEMENT_S)
            assert offers is not None
            for name in SUMMED:
                row[name] += offers[name]
        yield [row]


def _parts(day: Day) -> list[tuple[datetime, datetime]]:
    step = (day.ends - day.starts) / PARTS_OF_DAY
    cuts = [day.starts + number * step for number in range(PARTS_OF_DAY)]
    return list(zip(cuts, [*cuts[1:], day.ends], strict=True))

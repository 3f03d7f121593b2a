"""`/api/internal/reports/…`: paid online time, availability against demand, the funnel of offers; as JSON or CSV."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hadir.errors import Refused
from hadir.http import report_rows
from hadir.http.auth import reader
from hadir.http.csv_stream import CsvStream
from hadir.http.pages import LAST_ID, LIMIT, LIMIT_MAX, cursor, pack
from hadir.http.periods import LATEST, Period, period_of
from hadir.http.report_rows import Day, Row
from hadir.http.requests import json_response, node_of, until_gone, whole
from hadir.realtime import rows as presence_rows
from hadir.realtime.messages import is_uuid

FORMATS = ("json", "csv")
MAKE_S = 60.0
"""How long a report that is not sent as it is made may take."""
AT_ONCE = 4
"""Reports that one instance makes at the same time: they are work for Postgres that others wait behind."""
CHUNKS_MAX = 20
"""A page that finds little ends after so many statements, however few rows it has: the next one goes on."""
DONE_WITH = LATEST.isoformat()
"""As the day of a cursor: nothing more of this mitra."""
T = TypeVar("T")
ONLINE_TIME = ("day", "mitra_id", "display_name", "online_s", "intervals")
HOURS = (
    "hour", "online_avg", "available_avg", "available_min", "busy_avg",
    "asked", "accepted", "expired", "cancelled", "accept_p50_s",
)  # fmt: skip
FUNNEL = (
    "day", "pairings", "accepted", "expired", "cancelled", "offers", "delivered", "seen", "declined",
    "offers_accepted", "offers_taken", "offers_expired", "offers_cancelled", "offers_withdrawn", "offers_open",
    "accept_p50_s", "accept_p95_s", "waves_avg",
)  # fmt: skip


class Reports:
    """The endpoints, and how many reports are being made at the moment."""

    def __init__(self) -> None:
        self._making = 0

    async def online_time(self, request: Request) -> Response:
        """What mitras are paid for: how long each was online, a row a mitra and day."""
        node = node_of(request)
        await reader(node, request)
        whose = _mitra(request)
        with self._place() as keep:
            period, as_csv = await period_of(request), _as_csv(request)
            first, last = whose or presence_rows.FIRST_ID, whose or LAST_ID
            if not as_csv:
                page = await _in_time(request, _page(request, period, first, last))
                return json_response(period.head() | page)
            chunks = report_rows.online_time(node.postgres, period.days, first, last, ONLINE_TIME)
            return keep(_stream(request, "online-time", period, ONLINE_TIME, (each.rows async for each in chunks)))

    async def hours(self, request: Request) -> Response:
        """Availability against demand, a row an hour."""
        return await self._answer(request, "hours", HOURS, report_rows.hours)

    async def funnel(self, request: Request) -> Response:
        """From asking to winning, a row a day."""
        return await self._answer(request, "funnel", FUNNEL, report_rows.funnel)

    async def _answer(
        self,
        request: Request,
        name: str,
        columns: Sequence[str],
        rows_of: Callable[[Any, Sequence[Day]], AsyncIterator[Sequence[Row]]],
    ) -> Response:
        node = node_of(request)
        await reader(node, request)
        with self._place() as keep:
            period, as_csv = await period_of(request), _as_csv(request)
            pieces = rows_of(node.postgres, period.days)
            if as_csv:
                return keep(_stream(request, name, period, columns, pieces))
            return json_response(period.head() | {"rows": await _in_time(request, _rows(pieces, columns))})

    @contextmanager
    def _place(self) -> Iterator[Callable[[CsvStream], CsvStream]]:
        """One of a few places, until the report is made; `keep` keeps it until a stream ends.

        Raises `Refused` (503).
        """
        if self._making >= AT_ONCE:
            raise Refused(503, "overloaded", "Too many reports are being made; ask again.", retry_after=5)
        self._making += 1
        streams: list[CsvStream] = []

        def keep(stream: CsvStream) -> CsvStream:
            streams.append(stream)
            stream.when_over(self._leave)
            return stream

        try:
            yield keep
        finally:
            if not streams:
                self._leave()

    def _leave(self) -> None:
        self._making -= 1


async def _in_time(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to. Raises `Refused` (503) when it takes too long, `ClientDisconnect` when nobody waits."""
    making, leaving = asyncio.create_task(work), asyncio.create_task(until_gone(request.receive))
    try:
        await asyncio.wait((making, leaving), timeout=MAKE_S, return_when=asyncio.FIRST_COMPLETED)
        if making.done():
            return making.result()
        if leaving.done():
            raise ClientDisconnect
        why = "This report takes too long; ask for fewer days, or for CSV."
        raise Refused(503, "overloaded", why, retry_after=5)
    finally:
        making.cancel()
        leaving.cancel()
        await asyncio.wait((making, leaving))


async def _rows(pieces: AsyncIterator[Sequence[Row]], columns: Sequence[str]) -> list[Row]:
    return [{column: row[column] for column in columns} async for piece in pieces for row in piece]


async def _page(request: Request, period: Period, first: str, last: str) -> dict[str, Any]:
    """Rows behind the cursor, by mitra and day; where few mitras have any, perhaps fewer than asked for."""
    limit = whole(request, "limit", LIMIT, 1, LIMIT_MAX)
    before = cursor(request, ("mitra_id", "day"))
    after = ("", "") if before is None else (str(before["mitra_id"]), str(before["day"]))
    rows: list[Row] = []
    looked, node = 0, node_of(request)
    begin = max(first, after[0])
    async with aclosing(report_rows.online_time(node.postgres, period.days, begin, last, ONLINE_TIME)) as chunks:
        async for chunk in chunks:
            rows += [row for row in chunk.rows if (row["mitra_id"], row["day"].isoformat()) > after]
            looked += 1
            if len(rows) > limit:
                following = {name: str(rows[limit - 1][name]) for name in ("mitra_id", "day")}
                return {"rows": rows[:limit], "next": pack(following)}
            if looked >= CHUNKS_MAX and chunk.last is not None:
                return {"rows": rows, "next": pack({"mitra_id": chunk.last, "day": DONE_WITH})}
    return {"rows": rows, "next": None}


def _mitra(request: Request) -> str | None:
    asked = request.query_params.get("mitra_id")
    if asked is not None and not is_uuid(asked.lower()):
        raise Refused(422, "bad_field", "mitra_id must be a UUID.", field="mitra_id")
    return asked and asked.lower()


def _as_csv(request: Request) -> bool:
    asked = request.query_params.get("format", "json")
    if asked not in FORMATS:
        raise Refused(422, "bad_field", f"format must be one of {', '.join(FORMATS)}.", field="format")
    return asked == "csv"


def _stream(
    request: Request, name: str, period: Period, columns: Sequence[str], pieces: AsyncIterator[Sequence[Row]]
) -> CsvStream:
    async def still_may() -> None:
        await reader(node_of(request), request)

    return CsvStream(f"{name}_{period.first}_{period.last}.csv", columns, pieces, still_may)

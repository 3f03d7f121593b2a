"""A CSV file that is sent as it is made, piece by piece."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from hadir.errors import Refused, StoreUnavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/csv"
READ_S = 30.0
"""How long a reader may take for one piece."""
WHOLE_S = 900.0
"""And for all of them."""
CHECK_EVERY = 10
"""Pieces after which it is asked again whether the reader still may."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CsvStream(StreamingResponse):
    """Where it cannot be made to its end, its connection is cut: what arrived is then known to be incomplete.

    `still_may` raises `Refused` once its reader may read it no more.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        pieces: AsyncIterator[Sequence[Mapping[str, Any]]],
        still_may: Callable[[], Awaitable[None]],
    ) -> None:
        headers = {"cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'}
        super().__init__(self._lines(columns, pieces), 200, headers, MEDIA_TYPE)
        self._still_may = still_may
        self._over: Callable[[], None] = lambda: None

    def when_over(self, tell: Callable[[], None]) -> None:
        """`tell` is called once, when the last piece was sent or the stream has failed."""
        self._over = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(READ_S):
                await send(message)

        try:
            async with asyncio.timeout(WHOLE_S):
                await super().__call__(scope, receive, in_time)
        except ClientDisconnect:
            pass  # it has what it wanted, or not; nobody is there to be told
        except (Refused, StoreUnavailable, TimeoutError) as error:
            log.warning("report.cut_off", extra={"error": str(error) or type(error).__name__})
        finally:
            self._over()

    async def _lines(
        self, columns: Sequence[str], pieces: AsyncIterator[Sequence[Mapping[str, Any]]]
    ) -> AsyncIterator[str]:
        yield lines([columns])
        number = 0
        async for rows in pieces:
            number += 1
            if number % CHECK_EVERY == 0:
                await self._still_may()
            if rows:
                yield lines([[row[name] for name in columns] for row in rows])


def lines(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as lines of CSV (RFC 4180)."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """What a spreadsheet would take for a formula is marked as a text: names come from outside."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value

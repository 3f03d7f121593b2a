"""Pages of lists: a cursor is what the page before gave, and where the next one begins."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime

import asyncpg
import orjson
from starlette.requests import Request

from hadir.errors import Refused
from hadir.http.requests import node_of, whole
from hadir.realtime.messages import is_uuid

LIMIT_MAX = 200
LIMIT = 50
Position = Mapping[str, str | datetime]
"""The columns that order a list, as they are in one of its rows."""
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
NEWEST: Position = {"created_at": LATEST, "id": LAST_ID}
LINE_MAX = 2**63 - 1
NEWEST_LINE: Position = {"line": str(LINE_MAX)}
"""Before every line of `audit_log`."""


async def page(
    request: Request, statement: str, start: Position, *args: str, first: Sequence[str] = ()
) -> tuple[list[asyncpg.Record], str | None]:
    """What follows the query's `cursor` (without one: `start`, which is before every row), and the next cursor.

    The statement's arguments: `first`, the position, how many rows, `args`. Raises `Refused` (422).
    """
    limit = whole(request, "limit", LIMIT, 1, LIMIT_MAX)
    after = cursor(request, start) or start
    records = await node_of(request).postgres.fetch(statement, *first, *after.values(), limit + 1, *args)
    return cut(records, limit, start)


def cut(records: list[asyncpg.Record], limit: int, columns: Iterable[str]) -> tuple[list[asyncpg.Record], str | None]:
    """The rows of a page out of one more than it may have, and the cursor of the next; None: there is none."""
    found = records[:limit]
    return found, pack({name: found[-1][name] for name in columns}) if len(records) > limit else None


def pack(position: Position) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def cursor(request: Request, columns: Iterable[str]) -> dict[str, str | datetime] | None:
    """The position that `next` gave. Raises `Refused` (422) for anything else."""
    packed = request.query_params.get("cursor")
    if packed is None:
        return None
    try:
        position = orjson.loads(base64.b64decode(packed + "=" * (-len(packed) % 4), altchars="-_", validate=True))
        fits = list(position) == list(columns) and all(isinstance(value, str) for value in position.values())
        if not fits or "\0" in "".join(position.values()):
            raise ValueError(position)
        return {name: PARSERS[name](value) for name, value in position.items()}
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise Refused(422, "bad_cursor", "cursor must be what `next` of this list said.", field="cursor") from None


def _time(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(text)
    return when.astimezone(UTC)


def _uuid(text: str) -> str:
    if not is_uuid(text):
        raise ValueError(text)
    return text


def _line(text: str) -> str:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(LINE_MAX)) and int(text) <= LINE_MAX):
        raise ValueError(text)
    return text


def _day(text: str) -> str:
    return date.fromisoformat(text).isoformat()


PARSERS: Mapping[str, Callable[[str], str | datetime]] = {
    "name_key": str,
    "mitra_id": _uuid,
    "id": _uuid,
    "invoice_id": str,
    "tie": str,
    "line": _line,
    "day": _day,
    "at": _time,
    "recorded_at": _time,
    "created_at": _time,
    "changed_at": _time,
}

"""Pages of lists: a cursor is what the page before gave, and where the next one begins."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import orjson
from starlette.requests import Request

from hadir.errors import Refused
from hadir.realtime.messages import is_uuid

LIMIT_MAX = 200
LIMIT = 50
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def pack(position: Mapping[str, str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def cursor(request: Request, fields: Sequence[str]) -> dict[str, str] | None:
    """The position that `next` gave. Raises `Refused` (422) for anything else."""
    packed = request.query_params.get("cursor")
    if packed is None:
        return None
    try:
        position = orjson.loads(base64.b64decode(packed + "=" * (-len(packed) % 4), altchars="-_", validate=True))
        fits = list(position) == list(fields) and all(isinstance(value, str) for value in position.values())
        if not fits or "\0" in "".join(position.values()):
            raise ValueError(position)
        for name, value in position.items():
            CHECKS[name](value)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise Refused(422, "bad_cursor", "cursor must be what `next` of this list said.", field="cursor") from None
    return dict(position)


def time_of(text: str) -> datetime:
    """A time of a cursor. Raises ValueError."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(text)
    return when.astimezone(UTC)


def _uuid(text: str) -> None:
    if not is_uuid(text):
        raise ValueError(text)


CHECKS: Mapping[str, Callable[[str], object]] = {
    "name_key": str,
    "mitra_id": _uuid,
    "id": _uuid,
    "invoice_id": str,
    "at": time_of,
    "recorded_at": time_of,
    "created_at": time_of,
    "changed_at": time_of,
}

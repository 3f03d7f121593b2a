"""Presence rows out of Postgres and back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.realtime.messages import is_uuid
from hadir.realtime.presence import AuthSession, Row

FIRST_ID = "00000000-0000-0000-0000-000000000000"
COLUMNS = tuple(field.name for field in fields(Row))


@dataclass(frozen=True, slots=True)
class Reading:
    """Rows with the store's clock at the time they were read, so that ages can be told later."""

    rows: Sequence[Row]
    now: datetime | None
    read_at: float

    def age_s(self, row: Row) -> float:
        """How long ago the row's last sign of life was."""
        if self.now is None:
            return 0.0
        return max(0.0, (self.now - row.last_sign).total_seconds() + time.monotonic() - self.read_at)


def row_of(record: asyncpg.Record) -> Row:
    return Row(*[record[name] for name in COLUMNS])


def session_of(record: asyncpg.Record) -> AuthSession | None:
    if record["subject_id"] is None:
        return None
    return AuthSession(record["subject_id"], record["role"], record["expires_at"], record["revoked_at"])


def reading_of(records: Sequence[asyncpg.Record], read_at: float) -> Reading:
    return Reading([row_of(record) for record in records], records[0]["now"] if records else None, read_at)


async def read(postgres: Postgres, mitra_ids: Iterable[str]) -> Reading:
    """The rows of these mitras, as they are now."""
    return await read_by(postgres, "presence_by_id", list(mitra_ids))


async def read_page(postgres: Postgres, after: str, limit: int) -> Reading:
    """The next rows by id."""
    return await read_by(postgres, "presence_page", after, limit)


def columns_of(rows: Sequence[Row]) -> list[list[Any]]:
    """The written columns of `presence_store.sql`, in its order."""
    return [[getattr(row, name) for row in rows] for name in STORED]


STORED = (
    "mitra_id",
    "is_active",
    "wants_online",
    "is_online",
    "suspect_since",
    "connection_id",
    "instance_id",
    "sid",
    "claimed_at",
    "online_since",
    "last_heartbeat_at",
    "reason",
    "actor",
)


def only_beat_differs(before: Row, after: Row) -> bool:
    """Whether a write is a mere beat, which leaves the version as it is."""
    return replace(before, last_heartbeat_at=after.last_heartbeat_at) == after


def chunked(mitra_ids: Iterable[str], size: int) -> Iterable[list[str]]:
    left = sorted(mitra_ids)
    return (left[n : n + size] for n in range(0, len(left), size))


def uuids(texts: Iterable[str]) -> list[str]:
    """Those that are ids; what another program publishes need not be."""
    return [text for text in texts if is_uuid(text)]


async def read_by(postgres: Postgres, query: str, *args: Any) -> Reading:
    """The rows that a named query answers."""
    at = time.monotonic()
    return reading_of(await postgres.fetch(sql(query), *args), at)


def id_after(mitra_id: str) -> str | None:
    """The id that follows; None behind the last that there can be."""
    number = UUID(mitra_id).int + 1
    return str(UUID(int=number)) if number < 2**128 else None

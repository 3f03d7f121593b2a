"""What happened last: what operators did, what became of pairings and instances. Each entry is found once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import asyncpg

from hadir.db.pool import Postgres
from hadir.db.queries import sql

SHOWN = 50
AT_ONCE = 1_000
"""What is looked at; of more within one reading the oldest are neither listed nor counted."""
OVERLAP_S = 10.0
"""An entry that was committed this long after it was written is still found."""
EVER_S = 10 * 365 * 86_400.0
FIELDS = ("at", "kind", "subject", "what", "actor", "mitra_id", "took_s")


class Activity:
    """The last entries as this instance has read them; `total` is the number of the last one."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._recent: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        self._seen: frozenset[str] = frozenset()
        self._read_at: float | None = None
        self.total = 0

    async def read(self) -> None:
        """Finds what is new. Raises `PostgresUnavailable`."""
        asked_at = time.monotonic()
        back_s = EVER_S if self._read_at is None else asked_at - self._read_at + OVERLAP_S
        records = await self._postgres.fetch(sql("activity"), back_s, AT_ONCE)
        new = [record for record in reversed(records) if record["key"] not in self._seen]
        self._seen = frozenset(record["key"] for record in records)
        self._read_at = asked_at
        self._recent.extend(_entry(record) for record in new)
        self.total += len(new)

    def between(self, after: int, last: int) -> tuple[list[dict[str, Any]], int]:
        """The entries behind number `after` up to `last`, oldest first, and how many of them are not kept any more."""
        first = self.total - len(self._recent)
        kept = list(self._recent)[max(0, after - first) : max(0, last - first)]
        return kept, max(0, last - after) - len(kept)


async def read_last(postgres: Postgres, limit: int) -> Sequence[dict[str, Any]]:
    """The last entries, newest first. Raises `PostgresUnavailable`."""
    return [_entry(record) for record in await postgres.fetch(sql("activity"), EVER_S, limit)]


def _entry(record: asyncpg.Record) -> dict[str, Any]:
    return {name: record[name] for name in FIELDS}

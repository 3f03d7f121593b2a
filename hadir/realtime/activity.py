"""What happened last: what operators did, what became of pairings and instances. Each entry is found once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from hadir.db.pool import Postgres
from hadir.db.queries import sql

SHOWN = 50
AT_ONCE = 1_000
"""What is looked at of each kind; of more within one reading the oldest are neither listed nor counted."""
SEEN_MAX = 10_000
"""Keys that are remembered: all of a reading, and those of many before it, wherever the next one begins."""
OVERLAP_S = 10.0
"""An entry that was committed this long after it was written is still found."""
EVER_S = 10 * 365 * 86_400.0
FIELDS = ("at", "kind", "subject", "what", "actor", "mitra_id", "took_s")
MANY = "pairing"
"""The kind of which there may be so many that nobody would see the others among them."""

Numbered = tuple[int, dict[str, Any]]


class Activity:
    """The last entries as this instance has read them; `total` is the number of the last one.

    What the first reading finds is history: it ends with number 0, so that it is news to nobody.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._few: deque[Numbered] = deque(maxlen=SHOWN)
        self._many: deque[Numbered] = deque(maxlen=SHOWN)
        self._seen: dict[str, None] = {}
        self._read_at: float | None = None
        self.total = 0

    async def read(self) -> None:
        """Finds what is new. Raises `PostgresUnavailable`."""
        asked_at = time.monotonic()
        back_s = EVER_S if self._read_at is None else asked_at - self._read_at + OVERLAP_S
        records = await self._postgres.fetch(sql("activity"), back_s, AT_ONCE)
        new = [record for record in reversed(records) if record["key"] not in self._seen]
        if self._read_at is None:
            self.total -= len(new)
        self._read_at = asked_at
        self._saw(record["key"] for record in records)
        for record in new:
            self.total += 1
            (self._many if record["kind"] == MANY else self._few).append((self.total, _entry(record)))

    def _saw(self, keys: Iterable[str]) -> None:
        """The last ones are forgotten last: a late reading, or one by a clock that was set back, begins earlier."""
        for key in keys:
            self._seen.pop(key, None)
            self._seen[key] = None
        while len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]

    def between(self, after: int, last: int) -> tuple[list[dict[str, Any]], int]:
        """Entries behind number `after` up to `last`, oldest first, and how many of them are left out.

        All that fit are listed but for pairings; these have the room that is left.
        """
        few = [each for each in self._few if after < each[0] <= last]
        room = SHOWN - len(few)
        many = [each for each in self._many if after < each[0] <= last][-room:] if room else []
        listed = [entry for _, entry in sorted(few + many, key=_number)]
        return listed, max(0, last - after) - len(listed)

    def until(self, last: int) -> list[dict[str, Any]]:
        """The last entries up to that number, of whatever kind, oldest first."""
        known = sorted((each for each in (*self._few, *self._many) if each[0] <= last), key=_number)
        return [entry for _, entry in known[-SHOWN:]]


async def read_last(postgres: Postgres, limit: int) -> Sequence[dict[str, Any]]:
    """The last entries, newest first. Raises `PostgresUnavailable`."""
    records = await postgres.fetch(sql("activity"), EVER_S, limit)
    return [_entry(record) for record in records[:limit]]


def _number(numbered: Numbered) -> int:
    return numbered[0]


def _entry(record: asyncpg.Record) -> dict[str, Any]:
    return {name: record[name] for name in FIELDS}

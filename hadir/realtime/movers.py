"""Of whom something was heard, and what became of them: each change is found once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import asyncpg

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable
from hadir.realtime import rows as presence_rows
from hadir.realtime.board import change_of
from hadir.realtime.errand import Errand
from hadir.realtime.mirror import chunks

READ_AT_ONCE = 1_000
LISTED_MAX = 100
PENDING_MAX = 50_000
TOLD_MAX = 100_000


class Movers:
    """`total` changes were taken. `late` is called when some were found that nobody waited for any more."""

    def __init__(self, postgres: Postgres, *, late: Callable[[], None]) -> None:
        self._postgres = postgres
        self._pending: dict[str, None] = {}
        self._found: list[dict[str, Any]] = []
        self._recent: dict[str, tuple[int, dict[str, Any]]] = {}
        """Of the mitras that were taken last: the number of the change, and what it was."""
        self.total = 0
        self._told: dict[str, int] = {}
        """The version of each mitra that was found last: one change may be heard of in several ways."""
        self._reading = Errand(self._read, late=late)

    @property
    def due(self) -> bool:
        """Whether there may be something to take, now or soon."""
        return bool(self._pending or self._found or self._reading.under_way)

    def heard(self, mitra_ids: Iterable[str]) -> None:
        if len(self._pending) < PENDING_MAX:
            self._pending.update(dict.fromkeys(mitra_ids))

    def clear(self) -> None:
        """Nobody wants to know."""
        self._pending.clear()
        self._found.clear()

    def cancel(self) -> None:
        self._reading.cancel()

    async def take(self, patience_s: float) -> bool:
        """Whether anything became of them, as far as it is known in that time; the rest another time."""
        if self._pending:
            await self._reading.go(patience_s)
        found, self._found = self._found, []
        for change in found:
            self.total += 1
            self._recent.pop(change["mitra_id"], None)
            self._recent[change["mitra_id"]] = self.total, change
        while len(self._recent) > LISTED_MAX:
            del self._recent[next(iter(self._recent))]
        return bool(found)

    def since(self, number: int) -> tuple[Sequence[dict[str, Any]], int]:
        """Who changed after that number, each at its newest, as far as they are kept, and how many changes are not."""
        listed = [change for at, change in self._recent.values() if at > number]
        return listed, self.total - number - len(listed)

    async def _read(self) -> None:
        asked, self._pending = self._pending, {}
        records: list[asyncpg.Record] = []
        try:
            for chunk in chunks(presence_rows.uuids(list(asked)), READ_AT_ONCE):
                records += await self._postgres.fetch(sql("mitras_by_id"), chunk)
        except PostgresUnavailable:
            self._pending = asked | self._pending  # for another time
            return
        for record in records:
            if self._told.get(record["mitra_id"], 0) < record["version"]:
                self._told[record["mitra_id"]] = record["version"]
                self._found.append(change_of(presence_rows.row_of(record), record["display_name"]))
        if len(self._told) > TOLD_MAX:
            self._told.clear()

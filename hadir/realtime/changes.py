"""Rows that changed since a time, each told once, however often they are found."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.realtime.rows import FIRST_ID

PAGE = 5_000


class Changes:
    """Of one table, by a query of (id, changed_at, …) after a time and an id."""

    def __init__(self, postgres: Postgres, query: str) -> None:
        self._postgres = postgres
        self._query = query
        self._seen: dict[str, datetime] = {}
        self._found: dict[str, datetime] = {}

    async def new(self, since: datetime) -> list[asyncpg.Record]:
        """Those that were not found before as they are now; again, until `settle`. Raises `PostgresUnavailable`."""
        found: dict[str, asyncpg.Record] = {}
        cursor, last_id = since, FIRST_ID
        while True:
            records = await self._postgres.fetch(sql(self._query), cursor, last_id, PAGE)
            found |= {record["id"]: record for record in records}
            if len(records) < PAGE:
                break
            cursor, last_id = records[-1]["changed_at"], records[-1]["id"]
        new = [record for name, record in found.items() if self._seen.get(name) != record["changed_at"]]
        self._found = {name: record["changed_at"] for name, record in found.items()}
        return new

    def settle(self) -> None:
        """Whoever is concerned by what `new` found is known by now."""
        self._seen = self._found

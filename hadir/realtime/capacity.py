"""Mitras without a capacity of their own follow the configured one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.realtime import rows as presence_rows
from hadir.realtime.mirror import Mirror
from hadir.realtime.presence import Row

AT_ONCE = 500


async def follow_default(postgres: Postgres, mirror: Mirror, changed: Callable[[Sequence[Row]], None]) -> int:
    """Moves those that differ, a chunk of mitras at a time; answers how many.

    Each chunk reads the configured value anew, so that two of these agree. Whatever stops it halfway, the leader's
    next sweep goes on. Raises `PostgresUnavailable`.
    """
    moved, after = 0, presence_rows.FIRST_ID
    while True:
        at = time.monotonic()
        records = await postgres.fetch(sql("capacity_resize"), after, AT_ONCE)
        reading = presence_rows.reading_of([each for each in records if each["mitra_id"] is not None], at)
        moved += len(reading.rows)
        await mirror.apply(reading)
        if reading.rows:
            changed(reading.rows)
        after = records[0]["last"]
        if after is None:
            return moved

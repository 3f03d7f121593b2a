"""The fleet's counts of the last days, one row for each slot of ten seconds, so that a fresh page is not empty."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import HadirError
from hadir.realtime.availability import Availability
from hadir.realtime.board import read_pairings, read_sessions
from hadir.realtime.liveness import DEAD_S, Instance

log = logging.getLogger(__name__)

STEP_S = 10
WRITTEN_S = 2.0
"""A slot has its row this long after its time, or it stays without one."""
RETRY_S = 1.0
MINUTES_MAX = 1_440
THIN_S = 3_600.0
WHOLE_DAYS, KEPT_DAYS = 7, 100
"""Then one row a minute is left, then none: reports over a quarter still find them."""
COLUMNS = (
    "online",
    "suspect",
    "available",
    "busy",
    "deactivated",
    "sockets",
    "pending_payment",
    "active",
    "waiting",
    "accept_p50_s",
    "beats_per_s",
)
"""As `series_store.sql` and `series_read.sql` have them."""


class Series:
    """Written by whoever leads. Two who both believe to lead write one row; one that dies leaves at most one gap."""

    def __init__(
        self,
        postgres: Postgres,
        availability: Availability,
        *,
        is_leader: Callable[[], bool],
        connected: Callable[[], int],
        instances: Callable[[], Sequence[Instance]],
    ) -> None:
        self._postgres = postgres
        self._availability = availability
        self._is_leader = is_leader
        self._connected = connected
        self._instances = instances
        self._thinned_at = -math.inf

    async def run(self) -> None:
        while True:
            try:
                await asyncio.sleep(await self._until_next_s())
                if self._is_leader():
                    await self.write()
                    await self._thin()
            except HadirError as error:
                log.info("series.not_written", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _until_next_s(self) -> float:
        """By Postgres's clock, which all instances share."""
        now = await self._postgres.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(STEP_S - now % STEP_S)

    async def write(self) -> None:
        """The counts of this slot, where nobody has written them. Raises `StoreUnavailable`."""
        counts = await self._availability.counts()
        sessions, pairings = await read_sessions(self._postgres), await read_pairings(self._postgres)
        said = [each.beats_per_s for each in self._instances() if each.age_s < DEAD_S and each.beats_per_s is not None]
        row = {
            "online": counts.online,
            "suspect": counts.suspect,
            "available": counts.available,
            "busy": counts.busy,
            "deactivated": counts.deactivated,
            "sockets": self._connected(),
            "pending_payment": sessions["pending_payment"],
            "active": sessions["active"],
            "waiting": pairings["waiting"],
            "accept_p50_s": pairings["accept_p50_s"],
            "beats_per_s": sum(said) if said else None,
        }
        await self._postgres.execute(sql("series_store"), float(STEP_S), *(row[name] for name in COLUMNS))

    async def _thin(self) -> None:
        now = time.monotonic()
        if now - self._thinned_at >= THIN_S:
            await self._postgres.execute(sql("series_thin"), WHOLE_DAYS, KEPT_DAYS)
            self._thinned_at = now


async def read_series(postgres: Postgres, minutes: int) -> dict[str, Any]:
    """The last minutes: `at` in epoch seconds, oldest first, and a list as long of each count.

    None where nobody counted. Raises `PostgresUnavailable`.
    """
    slots = minutes * 60 // STEP_S
    records = await postgres.fetch(sql("series_read"), float(STEP_S), slots, WRITTEN_S)
    return {
        "step_s": STEP_S,
        "at": [record["slot"] for record in records],
        "series": {name: [record[name] for record in records] for name in COLUMNS},
    }

"""What the control centre shows of the whole system, as last read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import StoreUnavailable
from hadir.realtime.activity import Activity
from hadir.realtime.availability import Availability
from hadir.realtime.liveness import Instance
from hadir.realtime.peer import utc_now
from hadir.realtime.presence import Row

MARKET_S = 0.9
"""Sessions, pairings and what happened are read no more often; the live counts whenever they are asked for."""
MARKET_OLD_S = 5.0
"""Then sessions and pairings are not shown any more."""
COUNTED = ("online", "suspect", "available", "busy", "deactivated")
SESSION_STATES = ("pending_payment", "active", "ended", "expired", "cancelled")
INSTANCES_MAX = 200
NAME_MAX = 100


class Board:
    """`count` and `read_market` read; the rest is what was read. `connected` and `instances` tell what the node knows.

    They are read apart: Postgres, which may be slow, does not hold back the counts, which Valkey tells.
    """

    def __init__(
        self,
        postgres: Postgres,
        availability: Availability,
        *,
        connected: Callable[[], int],
        instances: Callable[[], Sequence[Instance]],
    ) -> None:
        self._postgres = postgres
        self._availability = availability
        self._connected = connected
        self._instances = instances
        self.activity = Activity(postgres)
        self.counted_at = -math.inf
        """When it was last tried (monotonic): its end, so that all who wait for it share it."""
        self._counts: dict[str, Any] = {**dict.fromkeys(COUNTED), "connected": 0, "state": "stale"}
        self._as_of: str | None = None
        self._market_at = -math.inf
        self._market: tuple[dict[str, int], dict[str, Any]] | None = None

    async def count(self) -> None:
        """Reads who is there now; where nobody can tell, the last known counts stay, marked `stale`."""
        try:
            self._counts = asdict(await self._availability.counts())
            self._as_of = utc_now()
        except StoreUnavailable:
            self._counts = {**self._counts, "state": "stale"}
        self._counts["connected"] = self._connected()
        self.counted_at = time.monotonic()

    async def read_market(self) -> None:
        """Reads sessions, pairings and what happened. Raises `PostgresUnavailable`."""
        asked_at = time.monotonic()
        self._market = await read_sessions(self._postgres), await read_pairings(self._postgres)
        self._market_at = asked_at
        await self.activity.read()

    @property
    def market_age_s(self) -> float:
        """Since sessions and pairings were last read."""
        return time.monotonic() - self._market_at

    @property
    def _shown(self) -> tuple[dict[str, int] | None, dict[str, Any] | None]:
        """Sessions and pairings, or None: nobody can tell any more."""
        if self._market is None or not self._postgres.available or self.market_age_s > MARKET_OLD_S:
            return None, None
        return self._market

    @property
    def fields(self) -> dict[str, Any]:
        """As `hello` and `counts` have them."""
        sessions, pairings = self._shown
        return {
            "counts": self._counts,
            "sessions": sessions,
            "pairings": pairings,
            "instances": [asdict(each) for each in self._instances()[:INSTANCES_MAX]],
            "as_of": self._as_of,
        }

    @property
    def standing(self) -> object:
        """What of it is news when it differs: all but what only time moves."""
        instances = [
            (each.id, each.state, each.sockets, each.beats_per_s, each.loop_lag_s) for each in self._instances()
        ]
        return self._counts, self._shown, instances


async def read_sessions(postgres: Postgres) -> dict[str, int]:
    """Sessions by state; what is over counts for a day. Raises `PostgresUnavailable`."""
    records = await postgres.fetch(sql("sessions_by_state"))
    return dict.fromkeys(SESSION_STATES, 0) | {record["status"]: record["sessions"] for record in records}


async def read_pairings(postgres: Postgres) -> dict[str, Any]:
    """How many wait, for how long the oldest has, and how long others waited. Raises `PostgresUnavailable`."""
    record = await postgres.fetchrow(sql("pairings_standing"))
    assert record is not None, "it counts"
    oldest_s, p50_s, p95_s = record["oldest_s"], record["accept_p50_s"], record["accept_p95_s"]
    return {
        "waiting": record["waiting"],
        "oldest_s": None if oldest_s is None else max(0, round(oldest_s)),
        "accept_p50_s": None if p50_s is None else round(p50_s, 2),
        "accept_p95_s": None if p95_s is None else round(p95_s, 2),
    }


def change_of(row: Row, display_name: str) -> dict[str, Any]:
    """A mitra in a `presence` message."""
    return {
        "mitra_id": row.mitra_id,
        "display_name": display_name[:NAME_MAX],
        "state": row.state.value,
        "is_active": row.is_active,
        "reason": row.reason,
        "at": row.changed_at,
        "open_sessions": row.open_sessions,
        "max_sessions": row.max_sessions,
    }

"""Who can take work: Valkey, else Postgres. The one fallback in the program, and it says which it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from hadir import metrics
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, StoreUnavailable, ValkeyUnavailable
from hadir.realtime.mirror import Mirror

STALE_ANSWER_S = 300.0
STALE_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Beacon:
    """A rendered answer. `expires` (monotonic) is its `as_of` + `max_age_s`; `state` as R10 says."""

    body: bytes
    state: str
    expires: float


@dataclass(frozen=True, slots=True)
class Counts:
    """The live counts; `state` is `live` from the mirror, `rebuilding` from Postgres."""

    online: int
    suspect: int
    available: int
    busy: int
    deactivated: int
    state: str


class Availability:
    """Where Postgres alone judges: the sockets of `live_instances` are there, and any other mitra whose beat is at most
    `postgres_fresh_s` old, since Postgres hears of beats late.
    """

    def __init__(
        self,
        mirror: Mirror,
        postgres: Postgres,
        *,
        cache_s: float,
        postgres_fresh_s: float,
        live_instances: Callable[[], Sequence[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mirror = mirror
        self._postgres = postgres
        self._cache_s = cache_s
        self._postgres_fresh_s = postgres_fresh_s
        self._live_instances = live_instances
        self._clock = clock
        self._beacon: Beacon | None = None
        self._known: tuple[Any, float] | None = None
        self._refreshing = asyncio.Lock()

    def known(self) -> Beacon | None:
        """The beacon's answer where nobody need be asked for it."""
        return self._beacon if self._beacon is not None and self._clock() < self._beacon.expires else None

    async def beacon(self) -> Beacon:
        """The beacon's answer, at most one count a TTL. Raises `StoreUnavailable` when nothing is known."""
        if self._beacon is None or self._clock() >= self._beacon.expires:
            async with self._refreshing:
                if self._beacon is None or self._clock() >= self._beacon.expires:
                    self._beacon = await self._count()
        return self._beacon

    async def _count(self) -> Beacon:
        asked_at = self._clock()
        try:
            found = await self._mirror.snapshot(self._cache_s)
            metrics.BEACON_QUERIES.labels("valkey").inc()
        except ValkeyUnavailable:
            found = None
        if found is not None:
            body = found[0].encode()
            self._known = orjson.loads(body), asked_at
            return Beacon(body, "live", asked_at + found[1])
        try:
            return await self._count_in_postgres(asked_at)
        except PostgresUnavailable:
            return self._last_known(asked_at)

    async def _count_in_postgres(self, asked_at: float) -> Beacon:
        metrics.BEACON_QUERIES.labels("postgres").inc()
        record = await self._postgres.fetchrow(sql("counts"), *self._there())
        assert record is not None
        fields = {
            "available": record["available"],
            "online": record["online"],
            "as_of": iso(record["now"]),
            "max_age_s": _short(self._cache_s),
            "state": "rebuilding",
        }
        self._known = fields, asked_at
        return Beacon(orjson.dumps(fields), "rebuilding", asked_at + self._cache_s)

    def _last_known(self, asked_at: float) -> Beacon:
        if self._known is None or asked_at - self._known[1] > STALE_ANSWER_S:
            raise StoreUnavailable("Neither store answers, and what was last known is too old.")
        return Beacon(orjson.dumps(self._known[0] | {"state": "stale"}), "stale", asked_at + STALE_RETRY_S)

    async def counts(self) -> Counts:
        """Counted now. Raises `PostgresUnavailable` when neither store can tell."""
        try:
            found = await self._mirror.counts()
        except ValkeyUnavailable:
            found = None
        if found is not None:
            return Counts(found.online, found.suspect, found.available, found.busy, found.deactivated, "live")
        record = await self._postgres.fetchrow(sql("counts"), *self._there())
        assert record is not None
        names = ("online", "suspect", "available", "busy", "deactivated")
        return Counts(**{name: record[name] for name in names}, state="rebuilding")

    async def queue(self, limit: int) -> tuple[list[str], str]:
        """Ids of who can take work, whom to offer first at the head; `live` or `rebuilding` as in counts.

        Raises `PostgresUnavailable`.
        """
        try:
            ids = await self._mirror.pool(limit)
        except ValkeyUnavailable:
            ids = None
        if ids is not None:
            return ids, "live"
        records = await self._postgres.fetch(sql("available_pool"), *self._there(), limit)
        return [record["mitra_id"] for record in records], "rebuilding"

    def _there(self) -> tuple[float, Sequence[str]]:
        return self._postgres_fresh_s, self._live_instances()

    async def pool(self, limit: int) -> tuple[Sequence[asyncpg.Record], str]:
        """The head of the queue as rows with names. Raises `PostgresUnavailable`."""
        ids, state = await self.queue(limit)
        found = {record["mitra_id"]: record for record in await self._postgres.fetch(sql("mitras_by_id"), ids)}
        return [found[mitra_id] for mitra_id in ids if mitra_id in found], state


def iso(when: datetime) -> str:
    """UTC with milliseconds, as the mirror's scripts print it."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _short(seconds: float) -> float | int:
    return int(seconds) if seconds == int(seconds) else seconds

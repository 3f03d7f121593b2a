"""Who can be offered something, asked again and again: when the dead left the pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import StoreUnavailable
from hadir.realtime import rows as presence_rows
from hadir.realtime.availability import Availability
from hadir.realtime.keys import Keys
from hadir.realtime.liveness import DEAD_S
from hadir.realtime.mirror import Mirror
from hadir.realtime.valkey import Valkey

EVERY_S = 0.05
INSTANCES_S = 1.0
ALL = 100_000


class PoolWatch:
    """Reads the pool as every instance does for its waves: the mirror while it is warm, else Postgres.

    `dead` answers when each mitra died, by id. `rows_too`: some instance is cut off from Valkey and reads the pool in
    Postgres; then somebody is out only once both say so.
    """

    def __init__(self, config: Config, dead: Callable[[], dict[str, float]], *, rows_too: bool = False) -> None:
        self._fresh_s = config.postgres_fresh_s
        self._dead = dead
        self._rows_too = rows_too
        self._postgres = Postgres(config.database_url, pool_max=3, pooler="none")
        self._valkey = Valkey(config.valkey_url)
        self._live: list[str] = []
        mirror = Mirror(
            self._valkey,
            Keys(config.valkey_hash_tag),
            stale_s=config.heartbeat_stale_s,
            interval_s=config.heartbeat_interval_s,
            postgres_fresh_s=config.postgres_fresh_s,
            lease_s=config.instance_lease_s,
            reread=lambda ids: presence_rows.read(self._postgres, ids),
            live_instances=lambda: self._live,
            on_backwards=lambda: None,
            on_overflow=lambda: None,
        )
        self._availability = Availability(
            mirror, self._postgres, cache_s=1.0, postgres_fresh_s=self._fresh_s, live_instances=lambda: self._live
        )
        self.seen: dict[str, float] = {}
        """When (wall clock) the last reading began that had a dead mitra."""
        self.left: dict[str, float] = {}
        """When the first reading was there that had it not, and none after it had."""
        self.spacing: list[float] = []
        """Seconds from one reading to the next."""

    async def __aenter__(self) -> Self:
        await self._postgres.__aenter__()
        await self._valkey.__aenter__()
        self._tasks = [asyncio.create_task(self._follow_instances()), asyncio.create_task(self._sample())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._valkey.__aexit__(kind, error, trace)
        await self._postgres.__aexit__(kind, error, trace)

    def check(self) -> None:
        """Raises what ended the watching, if something did."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _follow_instances(self) -> None:
        while True:
            try:
                records = await self._postgres.fetch(sql("instances_all"))
                self._live = [r["id"] for r in records if r["age_s"] < DEAD_S and r["state"] != "starting"]
            except StoreUnavailable:
                pass  # those that lived a moment ago
            await asyncio.sleep(INSTANCES_S)

    async def _sample(self) -> None:
        before: float | None = None
        while True:
            asked = time.time()
            try:
                pool = await self._read()
            except StoreUnavailable:
                pool = None  # nobody can be offered anything, and nobody knows who is there
            answered = time.time()
            if pool is not None:
                for mitra_id, died in self._dead().items():
                    if mitra_id in pool:
                        self.seen[mitra_id] = asked
                        self.left.pop(mitra_id, None)
                    elif died < asked:
                        self.left.setdefault(mitra_id, answered)
                if before is not None:
                    self.spacing.append(answered - before)
                before = answered
            await asyncio.sleep(max(0.0, asked + EVERY_S - time.time()))

    async def _read(self) -> set[str]:
        ids, _ = await self._availability.queue(ALL)
        if not self._rows_too:
            return set(ids)
        records = await self._postgres.fetch(sql("available_pool"), self._fresh_s, self._live, ALL)
        return {*ids, *(str(record["mitra_id"]) for record in records)}

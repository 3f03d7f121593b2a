"""The seed: every row of Postgres into the mirror, under a lease, until the sentinel says which run it is for."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hadir import metrics
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import StoreUnavailable
from hadir.realtime import rows as presence_rows
from hadir.realtime.keys import Keys
from hadir.realtime.mirror import Mirror

log = logging.getLogger(__name__)

LEASE_S = 10.0
RETRY_S = 0.2
PAGE = 200
Page = Callable[[str, int], Awaitable[tuple[int, list[str]]]]
"""A page of the ids in a key, after a cursor."""


class Seeder:
    """Seeds when asked; whoever holds the lease does it, the others see that it is done.

    `on_seeded` is called when the mirror turns out to be seeded, after a start or after it may not have been.
    """

    def __init__(self, mirror: Mirror, postgres: Postgres, keys: Keys) -> None:
        self._mirror = mirror
        self._postgres = postgres
        self._keys = keys
        self._cold = asyncio.Event()
        self._missed = False
        self.on_seeded: list[Callable[[], None]] = []

    def went_cold(self) -> None:
        self._cold.set()

    async def went_back(self) -> None:
        """Postgres is older than the mirror, or the mirror's clock jumped: begin from nothing."""
        await self._mirror.wipe()
        self.went_cold()

    def missed(self) -> None:
        """The mirror lacks rows that nobody remembers: everything must be applied, though it counts as seeded."""
        self._missed = True
        self.went_cold()

    async def valkey_back(self) -> None:
        """After an outage: what failed meanwhile is applied again (by the feed too), or everything if it was wiped."""
        if not await self._mirror.is_seeded():
            self.went_cold()
            return
        await self._mirror.make_up()  # before it is beaten into, and counts as warm
        self._seeded()

    def _seeded(self) -> None:
        for tell in self.on_seeded:
            tell()

    async def run(self) -> None:
        while True:
            await self._cold.wait()
            try:
                if (not self._missed and await self._mirror.is_seeded()) or await self.seed("cold"):
                    self._missed = False
                    self._cold.clear()
                    self._seeded()
                    continue
            except StoreUnavailable as error:
                log.info("mirror.seed_waits", extra={"error": str(error)})
            await asyncio.sleep(RETRY_S)

    async def seed(self, why: str) -> bool:
        """True when this call seeded the mirror; False when somebody else holds the lease, or it was wiped midway.

        Raises `StoreUnavailable`. A mirror that is warm stays so, and is put right. What one that is cold holds (of an
        old replica) goes first: its beats may be of another clock, its leases of instances that have not beaten since.
        """
        token = secrets.token_hex(8)
        try:
            return await self._seed(token, why)
        except (StoreUnavailable, asyncio.CancelledError):
            with suppress(StoreUnavailable):  # the lease ends by itself, but until then nobody could seed
                await self._mirror.seed_lease(token, "drop", LEASE_S)
            raise

    async def _seed(self, token: str, why: str) -> bool:
        if not await self._mirror.seed_lease(token, "take", LEASE_S):
            return False
        instances = await self._postgres.fetch(sql("instances_all"))  # whoever starts, or repairs, does not know them
        if not await self._mirror.wipe(token, [record["id"] for record in instances]):
            return False
        started = time.monotonic()
        was_empty = await self._mirror.is_empty()
        page, count = await presence_rows.read_page(self._postgres, presence_rows.FIRST_ID, PAGE), 0
        while page.rows:
            count += len(page.rows)
            applied, page = await asyncio.gather(
                self._mirror.apply_seed(page, token),
                presence_rows.read_page(self._postgres, page.rows[-1].mitra_id, PAGE),
            )
            if not applied or not await self._renew(token):
                return False
        if not was_empty and not await self._forget_unknown(token, count):  # empty, nobody can be
            return False
        if not await self._mirror.seed_lease(token, "finish", LEASE_S):
            return False
        metrics.MIRROR_SEEDS.labels(why).inc()
        metrics.MIRROR_SEED_SECONDS.observe(time.monotonic() - started)
        log.info("mirror.seeded", extra={"why": why, "rows": count, "seconds": round(time.monotonic() - started, 3)})
        return True

    async def _renew(self, token: str) -> bool:
        return await self._mirror.seed_lease(token, "renew", LEASE_S)

    async def _forget_unknown(self, token: str, rows: int) -> bool:
        """Removes ids that Postgres, asked after they were found, does not have.

        Each row that was read left its version. So what has none is unknown, or new; and while there are no more
        versions than rows, nobody else can be.
        """
        pages: list[tuple[str, Page]] = [
            (key, self._mirror.strays) for key in self._keys.sets_of_ids if key != self._keys.versions
        ]
        if await self._mirror.version_count() > rows:
            pages.append((self._keys.versions, self._mirror.scan_ids))
        for key, page in pages:
            cursor = 0
            while True:
                cursor, found = await page(key, cursor)
                unknown = await self._unknown(found) if found else []
                if unknown:
                    metrics.MIRROR_DRIFT_ROWS.inc(len(unknown))
                if not await self._mirror.forget(unknown, token) or not await self._renew(token):
                    return False
                if cursor == 0:
                    break
        return True

    async def _unknown(self, mitra_ids: list[str]) -> list[str]:
        wellformed = presence_rows.uuids(mitra_ids)
        known = {record["mitra_id"] for record in await self._postgres.fetch(sql("presence_known"), wellformed)}
        return [mitra_id for mitra_id in mitra_ids if mitra_id not in known]

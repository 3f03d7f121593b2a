"""Who has to hear of what was committed: rung at once here, and through the bus wherever they are held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import StoreUnavailable
from hadir.realtime import rows as presence_rows
from hadir.realtime.bus import Bus
from hadir.realtime.feed import Feed
from hadir.realtime.mirror import Mirror
from hadir.realtime.presence import Row

NAMED_AT_ONCE = 2_000


class Bell:
    """Everything is enqueued at once and conflated; what a store cannot tell at the moment, the feeds find.

    Mitras are rung on the instance that holds their socket, as the mirror has it. `changed` hears of presence rows
    that moved with sessions.
    """

    def __init__(
        self,
        postgres: Postgres,
        mirror: Mirror,
        bus: Bus,
        feed: Feed,
        instance_id: str,
        *,
        changed: Callable[[Sequence[Row]], None],
    ) -> None:
        self._postgres = postgres
        self._mirror = mirror
        self._bus = bus
        self._feed = feed
        self._instance_id = instance_id
        self._changed = changed
        self._mitras: dict[str, None] = {}
        self._customers: dict[str, None] = {}
        self._decided: dict[str, None] = {}
        self._over: dict[str, None] = {}
        self._moved: dict[str, None] = {}
        self._reached: dict[str, None] = {}
        self._wake = asyncio.Event()

    def ring(
        self,
        *,
        mitras: Iterable[str | None] = (),
        customers: Iterable[str | None] = (),
        decided: Iterable[str] = (),
        over: Iterable[str] = (),
        moved: Iterable[str] = (),
    ) -> None:
        """After a commit. `decided`: pairings, whose offers are now closed; `over`: sessions, for which nobody is
        searched any more; `moved`: mitras whose capacity changed."""
        for waiting, names in (
            (self._mitras, mitras),
            (self._customers, customers),
            (self._decided, decided),
            (self._over, over),
            (self._moved, moved),
        ):
            waiting.update(dict.fromkeys(name for name in names if name is not None))
        self._wake.set()

    def reachable(self, rows: Iterable[Row]) -> None:
        """Presence rows changed: who has a session with one of these mitras sees whether it is reachable."""
        self._reached.update((row.mitra_id, None) for row in rows if row.open_sessions > 0)
        if self._reached:
            self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            # Customers first: they are few, and wait.
            for step in (self._ring_customers, self._ring_mitras, self._mirror_moved, self._ring_reached):
                await self._try(step)

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except StoreUnavailable:
            return  # the feeds find it; presence rows are the leader's to apply

    async def _ring_customers(self) -> None:
        customers, self._customers = self._customers, {}
        if customers:
            self._feed.read("customer", customers)
            self._bus.publish("customer", customers)

    async def _ring_mitras(self) -> None:
        mitras, self._mitras = self._mitras, {}
        decided, self._decided = self._decided, {}
        over, self._over = self._over, {}
        if decided or over:
            records = await self._postgres.fetch(sql("pairings_offered"), list(decided), list(over))
            mitras |= {record["mitra_id"]: None for record in records}
        if not mitras:
            return
        self._feed.read("mitra", mitras)
        for instance_id, held in (await self._routes(list(mitras))).items():
            if instance_id != self._instance_id:
                self._bus.publish("mitra", held, instance_id)

    async def _routes(self, mitras: list[str]) -> dict[str | None, list[str]]:
        """By the instance that holds them; None for those that no socket holds: requests may wait anywhere."""
        routes: dict[str | None, list[str]] = {}
        for start in range(0, len(mitras), NAMED_AT_ONCE):
            chunk = mitras[start : start + NAMED_AT_ONCE]
            for mitra_id, instance_id in zip(chunk, await self._mirror.instances_of(chunk), strict=True):
                routes.setdefault(instance_id, []).append(mitra_id)
        return routes

    async def _mirror_moved(self) -> None:
        moved, self._moved = self._moved, {}
        if moved:
            at = time.monotonic()
            reading = await presence_rows.read(self._postgres, moved)
            await self._mirror.apply(reading, committed_at=at)
            self._changed(reading.rows)

    async def _ring_reached(self) -> None:
        reached, self._reached = self._reached, {}
        if reached:
            records = await self._postgres.fetch(sql("customers_of"), list(reached))
            self._customers.update((record["customer_id"], None) for record in records)
            await self._ring_customers()

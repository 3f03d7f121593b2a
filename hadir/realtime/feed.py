"""What changed in Postgres, read in one way and delivered in one way; only what wakes it differs (R8)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from hadir import metrics
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused
from hadir.realtime import rows as presence_rows
from hadir.realtime.appconfig import AppConfig
from hadir.realtime.bus import BusEvent
from hadir.realtime.changes import Changes
from hadir.realtime.connection import Connection
from hadir.realtime.customers import Customer
from hadir.realtime.mirror import Mirror, chunks
from hadir.realtime.party import Party
from hadir.realtime.presence import Revoke, Row
from hadir.realtime.registry import Registry
from hadir.realtime.transitions import Transitions
from hadir.realtime.waiters import Waiters
from hadir.realtime.waiting import happens
from hadir.realtime.work import READ_AT_ONCE, WorkReader

log = logging.getLogger(__name__)

INTERVAL_S = 3.0
INTERVAL_WITHOUT_BUS_S = 1.0
OVERLAP = timedelta(seconds=10)
"""A transaction that committed this long after it wrote is still found."""
PAGE = 5_000


class Feed:
    """Wakes by an event (then only what it names), by the clock, and after every gap of the bus."""

    def __init__(
        self,
        postgres: Postgres,
        mirror: Mirror,
        transitions: Transitions,
        registry: Registry[Connection],
        customers: Registry[Customer],
        work: WorkReader,
        waiters: Waiters,
        app_config: AppConfig,
        *,
        bus_up: Callable[[], bool],
        is_leader: Callable[[], bool],
        led_until: Callable[[], datetime | None],
    ) -> None:
        self._postgres = postgres
        self._mirror = mirror
        self._transitions = transitions
        self._registry = registry
        self._customers = customers
        self._work = work
        self._waiters = waiters
        self._app_config = app_config
        self._bus_up = bus_up
        self._is_leader = is_leader
        self._led_until = led_until
        self._wake = asyncio.Event()
        self._mitras: set[str] = set()
        self._logins: set[str] = set()
        self._parties: Mapping[str, Registry[Any]] = {"customer": customers, "mitra": registry}
        self._work_of: dict[str, set[str]] = {role: set() for role in self._parties}
        """Whose offers, pairings and sessions are to be read again, by role."""
        self._pairing_changes = Changes(postgres, "pairings_changed")
        self._session_changes = Changes(postgres, "sessions_changed")
        self._config = False
        self._all = True
        self.since: datetime | None = None
        """What changed before this, on the store's clock, has been delivered."""
        self._seen: dict[str, Row] = {}
        self._led = False
        self.on_changed: list[Callable[[Iterable[str]], None]] = []
        """Hear the ids of all mitras about whom something changed, held here or not."""
        self.on_revoked: list[Callable[[Iterable[str]], None]] = []
        """Hear the logins that were revoked."""

    # what wakes it

    def hear(self, event: BusEvent) -> None:
        match event.type:
            case "presence":
                for tell in self.on_changed:
                    tell(event.ids)
                self.read_again(event.ids)
            case "mitra" | "customer":
                self.read(event.type, event.ids)
            case "revoked":
                self.revoked(event.ids)
            case "config":
                self._config = True
                self._wake.set()

    def read_again(self, mitra_ids: Iterable[str]) -> None:
        """Reads the rows of these mitras if anybody here is concerned."""
        ids = list(mitra_ids)
        self._mitras.update(self._registry.held(ids), self._waiters.of(ids))
        if self._mitras:
            self._wake.set()

    def read(self, role: str, subject_ids: Iterable[str]) -> None:
        """Something changed about the offers, pairings or sessions of these.

        Requests that wait read by themselves; for sockets it is read here.
        """
        ids = list(subject_ids)
        for name in self._waiters.of(ids):
            self._waiters.wake(name)
        if here := self._parties[role].held(ids):
            self._work_of[role].update(here)
            self._wake.set()

    def revoked(self, sids: Iterable[str]) -> None:
        """Reads whether these logins are revoked."""
        self._logins.update(sids)
        self._wake.set()

    def gap(self) -> None:
        """Events may have been missed: read everything that changed."""
        self._all = True
        self._wake.set()

    # reading

    async def run(self) -> None:
        polled_at = 0.0
        while True:
            interval = INTERVAL_S if self._bus_up() else INTERVAL_WITHOUT_BUS_S
            if not await happens(self._wake, polled_at + interval - time.monotonic()):
                self._all = True
            self._wake.clear()
            try:
                if self._all:
                    self._all = False
                    polled_at = time.monotonic()
                    await self._poll()
                await self._read_named()
            except (PostgresUnavailable, Refused):
                polled_at = time.monotonic()  # the clock asks again; what was named is among what changed
                self._all = False

    async def _read_named(self) -> None:
        mitras, self._mitras = self._mitras, set()
        logins, self._logins = self._logins, set()
        config, self._config = self._config, False
        # Customers first: they are few, and wait.
        await self._read_work("customer")
        if mitras:
            self.deliver((await presence_rows.read(self._postgres, mitras)).rows)
        if logins:
            revoked = await self._postgres.fetch(sql("revoked_by_id"), presence_rows.uuids(logins))
            await self._deliver_revoked([(record["id"], record["subject_id"]) for record in revoked])
        if config:
            await self._app_config.reread()
        await self._read_work("mitra")

    async def _read_work(self, role: str) -> None:
        """Has the sockets of those named hear what their work is now."""
        ids, self._work_of[role] = self._work_of[role], set()
        parties: list[Party] = [party for each in sorted(ids) for party in self._parties[role].of(each)]
        try:
            asked = [self._work.submit(role, party.told) for party in parties]
            works = await asyncio.gather(*asked, return_exceptions=True)
        except BaseException:
            self._work_of[role].update(ids)  # with the next reading: nobody may come to name them again
            raise
        for party, work in zip(parties, works, strict=True):
            if isinstance(work, BaseException):
                self._work_of[role].add(party.subject_id)
            else:
                party.hear_work(work)
        for work in works:
            if isinstance(work, BaseException):
                raise work

    async def _poll(self) -> None:
        """Everything since the watermark, a page at a time; the watermark stays behind by the overlap."""
        started = time.monotonic()
        await self._mirror.make_up()
        leads, led, self._led = self._is_leader(), self._led, False
        now = await self._postgres.fetchval("SELECT clock_timestamp()")
        since = min(self.since, now) if self.since else now
        if leads and not led:
            self._seen = {}  # nobody may have applied what changed while nobody led
            since = min(since, self._led_until() or now)
        await self._poll_work(since - OVERLAP)
        await self._app_config.reread()
        revoked = await self._postgres.fetch(sql("revoked_since"), since - OVERLAP)
        await self._deliver_revoked([(record["id"], record["subject_id"]) for record in revoked])
        fresh: dict[str, Row] = {}
        cursor, last_id = since - OVERLAP, presence_rows.FIRST_ID
        while True:
            at = time.monotonic()
            records = await self._postgres.fetch(sql("presence_changed"), cursor, last_id, PAGE)
            reading = presence_rows.reading_of(records, at)
            fresh |= {row.mitra_id: row for row in reading.rows}
            new = [row for row in reading.rows if self._is_new(row)]
            if new and leads:
                await self._mirror.apply(presence_rows.Reading(new, reading.now, at))
            self.deliver(new)
            if len(records) < PAGE:
                break
            cursor, last_id = reading.rows[-1].changed_at, reading.rows[-1].mitra_id
        if leads:
            self._revoke_rows([(r["id"], r["subject_id"]) for r in revoked if r["role"] == "mitra"])
        self._seen = fresh
        self._led = leads
        self.since = now
        metrics.FEED_SECONDS.observe(time.monotonic() - started)

    async def _poll_work(self, since: datetime) -> None:
        """Whom pairings and sessions concern that changed; read at once, since they may wait for it."""
        pairings, sessions = await self._pairing_changes.new(since), await self._session_changes.new(since)
        self.read("customer", {record["customer_id"] for record in (*pairings, *sessions)})
        mitras = {mitra_id for record in sessions for mitra_id in record["mitras"]}
        for chunk in chunks([record["id"] for record in pairings], READ_AT_ONCE):
            offered = await self._postgres.fetch(sql("pairings_offered"), list(chunk), [])
            mitras.update(record["mitra_id"] for record in offered)
        self.read("mitra", mitras)
        self._pairing_changes.settle()
        self._session_changes.settle()
        await self._read_named()

    def _is_new(self, row: Row) -> bool:
        seen = self._seen.get(row.mitra_id)
        return seen is None or seen.version != row.version

    # delivering

    def deliver(self, rows: Sequence[Row]) -> None:
        """The one way in which this process's sockets and waiting requests hear of rows."""
        for row in rows:
            for connection in self._registry.of(row.mitra_id):
                connection.hear(row)
            self._waiters.wake(row.mitra_id)
        for tell in self.on_changed:
            tell([row.mitra_id for row in rows])

    async def _deliver_revoked(self, revoked: Sequence[tuple[str, str]]) -> None:
        """Their rows first: a deactivation revokes too, and is the truer reason."""
        for tell in self.on_revoked:
            tell([sid for sid, _ in revoked])
        if held := self._registry.held(subject_id for _, subject_id in revoked):
            self.deliver((await presence_rows.read(self._postgres, held)).rows)
        for sid, subject_id in revoked:
            for party in (*self._registry.of(subject_id), *self._customers.of(subject_id)):
                party.revoked(sid)

    def _revoke_rows(self, revoked: Sequence[tuple[str, str]]) -> None:
        """Another program's revocation: the row follows, wherever its socket is, or none (HTTP)."""
        for sid, subject_id in revoked:
            self._transitions.submit(subject_id, Revoke(sid), durable=True)

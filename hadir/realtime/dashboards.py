"""What dashboards are told: the live counts and who changed, read once, encoded once, for all of an instance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import asyncpg

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused, StoreUnavailable
from hadir.realtime import rows as presence_rows
from hadir.realtime.availability import Availability
from hadir.realtime.dialogue import Dialogue
from hadir.realtime.liveness import Instance
from hadir.realtime.messages import DASHBOARD_SENDS, CloseCode, encode
from hadir.realtime.mirror import chunks
from hadir.realtime.peer import Login, Peer, Verify, greeting_of, new_dialogue, utc_now
from hadir.realtime.presence import Row

FRAME_S = 0.5
"""At most one round of frames in this time; the first change after so much quiet goes at once."""
QUIET_ROUND_S = 0.05
RECOUNT_S = 1.0
"""Counts also change without any event: beats grow stale, sockets open elsewhere."""
LISTED_MAX = 200
READ_AT_ONCE = 1_000
PENDING_MAX = 50_000
TOLD_MAX = 100_000
DASHBOARDS_MAX = 200
SESSION_STATES = ("pending_payment", "active", "ended", "expired", "cancelled")


class Dashboard(Peer):
    """One dashboard's socket. While it does not read, what it misses is only counted."""

    __slots__ = ("_dashboards", "checked", "missed")

    kind = "dashboard"

    def __init__(
        self, dashboards: Dashboards, login: Login, session: Dialogue, verify: Verify, *, checked: bool
    ) -> None:
        super().__init__(login, session, verify)
        self._dashboards = dashboards
        self.checked = checked
        """Whether Postgres could be asked for its login; else it is asked as soon as it can be."""
        self.missed: int | None = None
        """How many changes it was not told of since it is behind; None while it is not."""

    def hello(self) -> str:
        return self._dashboards.hello(self)

    def send_state(self, re: str | None) -> None:
        self.send(encode("sync", re=re, server_time=utc_now(), **self._dashboards.snapshot))

    def sent(self) -> None:
        """It reads again: the counts as they are now, and how much it missed."""
        if self.missed is not None:
            missed, self.missed = self.missed, None
            self.send(encode("counts", **self._dashboards.counts))
            if missed:
                self.send(encode("presence", changes=[], more=missed))

    def ended(self, code: int | None) -> None:
        super().ended(code)
        self._dashboards.remove(self)


class Dashboards:
    """Those of this instance. `changed` wakes it; `connected` and `instances` tell what the node knows."""

    def __init__(
        self,
        config: Config,
        instance_id: str,
        postgres: Postgres,
        availability: Availability,
        *,
        verify: Verify,
        connected: Callable[[], int],
        instances: Callable[[], Sequence[Instance]],
    ) -> None:
        self._config = config
        self._instance_id = instance_id
        self._postgres = postgres
        self._availability = availability
        self._verify = verify
        self._connected = connected
        self._instances = instances
        self._open: set[Dashboard] = set()
        self._pending: dict[str, None] = {}
        self._told: dict[str, int] = {}
        """The version of each mitra that was told last: one change may be heard of in several ways."""
        self._wake = asyncio.Event()
        self._sent_at = 0.0
        self._sent: dict[str, Any] = {}
        self._counting = asyncio.Lock()
        self._counted_at = -RECOUNT_S
        self.counts: dict[str, Any] = {}
        """The fields of the `counts` message, as last read; `as_of` is when."""

    def __iter__(self) -> Iterator[Dashboard]:
        return iter(list(self._open))

    def __len__(self) -> int:
        return len(self._open)

    async def admit(self, login: Login, *, checked: bool) -> Dashboard:
        """A dashboard for a login, `checked` or to be checked. Raises `Refused` (503) when there are too many.

        The caller must call `Peer.ended` in the end, whatever happens.
        """
        if len(self._open) >= DASHBOARDS_MAX:
            raise Refused(503, "full", "This instance holds as many dashboards as it may.", retry_after=5)
        session = new_dialogue(self._config, login, time.monotonic(), DASHBOARD_SENDS)
        dashboard = Dashboard(self, login, session, self._verify, checked=checked)
        self._open.add(dashboard)
        metrics.CONNECTIONS.labels("dashboard").set(len(self._open))
        try:
            async with self._counting:
                if time.monotonic() - self._counted_at > 2 * RECOUNT_S:
                    await self._count()  # nobody has kept them up to date
        except BaseException:
            dashboard.ended(None)
            raise
        self._wake.set()
        return dashboard

    def remove(self, dashboard: Dashboard) -> None:
        self._open.discard(dashboard)
        metrics.CONNECTIONS.labels("dashboard").set(len(self._open))

    def changed(self, mitra_ids: Iterable[str]) -> None:
        """Something changed about these mitras."""
        ids = dict.fromkeys(mitra_ids)
        if self._open and ids:
            if len(self._pending) < PENDING_MAX:
                self._pending.update(ids)
            self._wake.set()

    def revoked(self, sids: Iterable[str]) -> None:
        gone = set(sids)
        for dashboard in self:
            if dashboard.sid in gone:
                dashboard.revoked(dashboard.sid)

    @property
    def snapshot(self) -> dict[str, Any]:
        """All that a dashboard starts from."""
        instances = [asdict(each) for each in self._instances()]
        return {**self.counts, "instances": instances}

    def hello(self, dashboard: Dashboard) -> str:
        common = greeting_of(self._config, dashboard.session)
        return encode("hello", instance=self._instance_id, role=dashboard.role, **common, **self.snapshot)

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RECOUNT_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if not self._open:
                self._pending.clear()
                self._wake.clear()
                continue
            await asyncio.sleep(max(0.0, self._sent_at + FRAME_S - time.monotonic()))
            self._wake.clear()
            if not await self._round():
                await asyncio.sleep(QUIET_ROUND_S)

    async def _round(self) -> bool:
        """Reads what is new and sends it; False when nothing is."""
        pending, self._pending = self._pending, {}
        changes: list[dict[str, Any]] = []
        try:
            await self._check()
            changes = await self._changes(list(pending))
        except PostgresUnavailable:
            self._pending = pending | self._pending  # for the next round
        async with self._counting:
            await self._count()
        frames = []
        if self._sent != _without_time(self.counts):
            frames.append(encode("counts", **self.counts))
        if changes:
            listed, more = changes[:LISTED_MAX], max(0, len(changes) - LISTED_MAX)
            frames.append(encode("presence", changes=listed, more=more))
        if frames:
            self._sent_at, self._sent = time.monotonic(), _without_time(self.counts)
        for dashboard in self:
            self._send(dashboard, frames, len(changes))
        return bool(frames)

    async def _check(self) -> None:
        """Asks for the logins that could not be asked for at the door. Raises `PostgresUnavailable`."""
        for dashboard in self:
            if not dashboard.checked:
                login = dashboard.sid, dashboard.subject_id, dashboard.role
                if not await self._postgres.fetchval(sql("session_valid"), *login):
                    dashboard.close(CloseCode.REVOKED)
                dashboard.checked = True

    def _send(self, dashboard: Dashboard, frames: Sequence[str], changes: int) -> None:
        if dashboard.missed is None and not dashboard.busy:
            for frame in frames:
                dashboard.send(frame)
        elif dashboard.started and frames:
            dashboard.missed = (dashboard.missed or 0) + changes

    async def _changes(self, mitra_ids: Sequence[str]) -> list[dict[str, Any]]:
        """What became of these mitras, as far as it was not told yet. Raises `PostgresUnavailable`."""
        records: list[asyncpg.Record] = []
        for chunk in chunks(presence_rows.uuids(mitra_ids), READ_AT_ONCE):
            records += await self._postgres.fetch(sql("mitras_by_id"), chunk)
        found = []
        for record in records:
            if self._told.get(record["mitra_id"], 0) < record["version"]:
                self._told[record["mitra_id"]] = record["version"]
                found.append(change_of(presence_rows.row_of(record), record["display_name"]))
        if len(self._told) > TOLD_MAX:
            self._told.clear()
        return found

    async def _count(self) -> None:
        """The counts as they are now; where nobody can tell, the last ones, marked `stale`."""
        self._counted_at = time.monotonic()
        try:
            counts = asdict(await self._availability.counts())
            sessions = await self._sessions()
        except StoreUnavailable:
            known = self.counts.get("counts", dict.fromkeys(("online", "suspect", "available", "busy", "deactivated")))
            self.counts = {**self.counts, "counts": {**known, "connected": self._connected(), "state": "stale"}}
            return
        counts["connected"] = self._connected()
        self.counts = {"counts": counts, "sessions": sessions, "as_of": utc_now()}

    async def _sessions(self) -> dict[str, int] | None:
        """Sessions by state; what is over counts for a day. None while Postgres is away."""
        try:
            records = await self._postgres.fetch(sql("sessions_by_state"))
        except PostgresUnavailable:
            return None
        return dict.fromkeys(SESSION_STATES, 0) | {record["status"]: record["sessions"] for record in records}


def change_of(row: Row, display_name: str) -> dict[str, Any]:
    """A mitra in a `presence` message."""
    return {
        "mitra_id": row.mitra_id,
        "display_name": display_name,
        "state": row.state.value,
        "is_active": row.is_active,
        "reason": row.reason,
        "at": row.changed_at,
        "open_sessions": row.open_sessions,
        "max_sessions": row.max_sessions,
    }


def _without_time(counts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name != "as_of"}

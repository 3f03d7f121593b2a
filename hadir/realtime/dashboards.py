"""What dashboards are told: the live counts and who changed, read once, encoded once, for all of an instance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import asyncpg

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused
from hadir.realtime import rows as presence_rows
from hadir.realtime.board import Board, change_of
from hadir.realtime.messages import DASHBOARD_SENDS, CloseCode, encode
from hadir.realtime.mirror import chunks
from hadir.realtime.peer import Login, Verify, greeting_of, new_dialogue, utc_now
from hadir.realtime.watch import Mark, Stream, Watcher, silent_dialogue

FRAME_S = 0.5
"""One frame a round, one round in this time at most; the first change after so much quiet goes at once."""
QUIET_ROUND_S = 0.05
RECOUNT_S = 1.0
"""Counts also change without any event: beats grow stale, sockets open elsewhere."""
COUNTS_S = 5.0
"""So often they are told although nothing in them is news: a page sees that it is live."""
LISTED_MAX = 100
READ_AT_ONCE = 1_000
PENDING_MAX = 50_000
TOLD_MAX = 100_000
DASHBOARDS_MAX = 200


class Dashboards:
    """Those of this instance, streams included. `changed` wakes it."""

    def __init__(self, config: Config, instance_id: str, postgres: Postgres, board: Board, *, verify: Verify) -> None:
        self._config = config
        self._instance_id = instance_id
        self._postgres = postgres
        self._board = board
        self._verify = verify
        self._open: set[Watcher] = set()
        self._pending: dict[str, None] = {}
        self._told: dict[str, int] = {}
        """The version of each mitra that was told last: one change may be heard of in several ways."""
        self._wake = asyncio.Event()
        self._counting = asyncio.Lock()
        self._sent_at = 0.0
        self._counts_at = 0.0
        self._standing: object = None
        """What the counts were that were told last."""
        self._counts_next = False
        """Whose turn it is where both counts and changes are due."""
        self.mark = Mark()

    def __iter__(self) -> Iterator[Watcher]:
        return iter(list(self._open))

    def __len__(self) -> int:
        return len(self._open)

    async def admit(self, login: Login, *, checked: bool, stream: bool = False) -> Watcher:
        """A dashboard, or a stream, for a login, `checked` or to be checked. Raises `Refused` (503): too many.

        The caller must call `Peer.ended` in the end, whatever happens.
        """
        if len(self._open) >= DASHBOARDS_MAX:
            raise Refused(503, "full", "This instance holds as many dashboards as it may.", retry_after=5)
        now, kind = time.monotonic(), Stream if stream else Watcher
        session = silent_dialogue(login, now) if stream else new_dialogue(self._config, login, now, DASHBOARD_SENDS)
        watcher = kind(self, login, session, self._verify, checked=checked)
        self._open.add(watcher)
        self._gauge()
        try:
            await self._be_up_to_date()
        except BaseException:
            watcher.ended(None)
            raise
        self.wake()
        return watcher

    async def _be_up_to_date(self) -> None:
        """Whoever is the first finds what nobody has read for long; others are told of it by the next frame."""
        async with self._counting:
            counted_at, first = self._board.counted_at, len(self._open) == 1
            if counted_at is None or time.monotonic() - counted_at > 2 * RECOUNT_S:
                await self._board.count()
                if first:
                    self._counts_at, self._standing = time.monotonic(), self._board.standing
                    self.mark = replace(self.mark, activity=self._board.activity.total)

    def remove(self, watcher: Watcher) -> None:
        self._open.discard(watcher)
        self._gauge()

    def _gauge(self) -> None:
        metrics.CONNECTIONS.labels("dashboard").set(len(self._open))

    def wake(self) -> None:
        self._wake.set()

    def changed(self, mitra_ids: Iterable[str]) -> None:
        """Something changed about these mitras."""
        ids = dict.fromkeys(mitra_ids)
        if self._open and ids:
            if len(self._pending) < PENDING_MAX:
                self._pending.update(ids)
            self.wake()

    def revoked(self, sids: Iterable[str]) -> None:
        gone = set(sids)
        for watcher in self:
            if watcher.sid in gone:
                watcher.revoked(watcher.sid)

    def _snapshot(self) -> dict[str, Any]:
        """All that a dashboard starts from."""
        activity, _ = self._board.activity.between(0, self.mark.activity)
        return self._board.fields | {"activity": activity}

    def hello(self, watcher: Watcher) -> str:
        common = greeting_of(self._config, watcher.session)
        return encode("hello", instance=self._instance_id, role=watcher.role, **common, nulls=self._snapshot())

    def state(self, re: str | None) -> str:
        return encode("sync", re=re, server_time=utc_now(), nulls=self._snapshot())

    async def run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RECOUNT_S):
                    await self._wake.wait()
            if not self._open:
                self._pending.clear()
                self._wake.clear()
                continue
            await asyncio.sleep(max(0.0, self._sent_at + FRAME_S - time.monotonic()))
            self._wake.clear()
            if not await self._round():
                await asyncio.sleep(QUIET_ROUND_S)

    async def _round(self) -> bool:
        """Reads what is new and tells it, one frame to each; False when nothing is."""
        before = self.mark
        with suppress(PostgresUnavailable):
            await self._check()
        frame = await self._next_frame()
        at = time.monotonic()
        told = [watcher for watcher in self if self._tell(watcher, before, frame)]
        if frame is None and not told:
            return False
        self._sent_at = at
        if told and (self._pending or any(each.told != self.mark for each in told)):
            self.wake()
        return True

    async def _check(self) -> None:
        """Asks for the logins that could not be asked for at the door. Raises `PostgresUnavailable`."""
        for watcher in self:
            if not watcher.checked:
                login = watcher.sid, watcher.subject_id, watcher.role
                if not await self._postgres.fetchval(sql("session_valid"), *login):
                    watcher.close(CloseCode.REVOKED)
                watcher.checked = True

    async def _next_frame(self) -> str | None:
        """Counts and changes take turns where both are due; None: nothing is news."""
        if self._pending and not self._counts_next and (frame := await self._presence()) is not None:
            return frame
        async with self._counting:
            await self._board.count()
        standing, total = self._board.standing, self._board.activity.total
        quiet = time.monotonic() - self._counts_at < COUNTS_S
        if quiet and standing == self._standing and total == self.mark.activity:
            return await self._presence() if self._pending else None
        self._counts_at, self._standing, self._counts_next = time.monotonic(), standing, False
        after, self.mark = self.mark.activity, replace(self.mark, counts=self.mark.counts + 1, activity=total)
        return self._counts(after)

    def _counts(self, after: int) -> str:
        """With what happened behind the entry `after`, as far as it has been told to those who read."""
        activity, more = self._board.activity.between(after, self.mark.activity)
        return encode("counts", nulls=self._board.fields | {"activity": activity, "more_activity": more})

    async def _presence(self) -> str | None:
        pending, self._pending = self._pending, {}
        try:
            changes = await self._changes(list(pending))
        except PostgresUnavailable:
            self._pending = pending | self._pending  # for another round
            return None
        if not changes:
            return None
        self._counts_next = True
        self.mark = replace(self.mark, changes=self.mark.changes + len(changes))
        return encode("presence", changes=changes[:LISTED_MAX], more=max(0, len(changes) - LISTED_MAX))

    def _tell(self, watcher: Watcher, before: Mark, frame: str | None) -> bool:
        """The frame, which is what is new since `before`; who was told less is told something of its own instead."""
        if watcher.busy:
            return False
        if frame is not None and watcher.told == before:
            watcher.told, watcher.recounted = self.mark, False
        elif (frame := self._make_up(watcher)) is None:
            return False
        watcher.send(frame)
        return True

    def _make_up(self, watcher: Watcher) -> str | None:
        """For one that did not read: the counts as they are, then how many changes it missed."""
        told, mark = watcher.told, self.mark
        recount = (told.counts, told.activity) != (mark.counts, mark.activity)
        if told.changes != mark.changes and (watcher.recounted or not recount):
            watcher.told, watcher.recounted = replace(told, changes=mark.changes), False
            return encode("presence", changes=[], more=mark.changes - told.changes)
        if recount:
            watcher.told, watcher.recounted = replace(mark, changes=told.changes), True
            return self._counts(told.activity)
        return None

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

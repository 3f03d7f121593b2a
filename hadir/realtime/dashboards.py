"""What dashboards are told: the live counts and who changed, read once, encoded once, for all of an instance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused
from hadir.realtime.board import MARKET_S, Board
from hadir.realtime.errand import Errand
from hadir.realtime.messages import DASHBOARD_SENDS, CloseCode, encode
from hadir.realtime.movers import Movers
from hadir.realtime.peer import Login, Verify, greeting_of, new_dialogue, utc_now
from hadir.realtime.waiting import happens
from hadir.realtime.watch import Mark, Stream, Watcher, silent_dialogue

FRAME_S = 0.5
"""One frame a round, one round in this time at most; the first change after so much quiet goes at once."""
QUIET_ROUND_S = 0.05
RECOUNT_S = 1.0
"""Counts also change without any event: beats grow stale, sockets open elsewhere."""
COUNTS_S = 5.0
"""So often they are told although nothing in them is news: a page sees that it is live."""
PATIENCE_S, PATIENCE_OF_FIRST_S = 0.1, 1.0
"""So long a round waits for what only Postgres knows, and so long a new dashboard; then they do without."""
DASHBOARDS_MAX = 200
DASHBOARDS_OF_ONE_MAX = 10
"""Of one account, so that its script does not take all places."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a round tells: who changed, or else the counts."""

    text: str
    of_changes: bool


class Dashboards:
    """Those of this instance, streams included. `changed` wakes it."""

    def __init__(self, config: Config, instance_id: str, postgres: Postgres, board: Board, *, verify: Verify) -> None:
        self._config = config
        self._instance_id = instance_id
        self._postgres = postgres
        self._board = board
        self._verify = verify
        self._open: set[Watcher] = set()
        self._asking = Errand(self._ask, late=self.wake)
        self._movers = Movers(postgres, late=self.wake)
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
        """A dashboard, or a stream, for a login, `checked` or to be checked. Raises `Refused` (429, 503): too many.

        The caller must call `Peer.ended` in the end, whatever happens.
        """
        if len(self._open) >= DASHBOARDS_MAX:
            raise Refused(503, "full", "This instance holds as many dashboards as it may.", retry_after=5)
        if sum(each.subject_id == login.subject_id for each in self._open) >= DASHBOARDS_OF_ONE_MAX:
            why = f"An account may have at most {DASHBOARDS_OF_ONE_MAX} dashboards and streams at an instance."
            raise Refused(429, "too_many", why, retry_after=5)
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
        first = len(self._open) == 1
        async with self._counting:
            if time.monotonic() - self._board.counted_at > 2 * RECOUNT_S:
                await self._board.count()
        if self._board.market_age_s > 2 * RECOUNT_S:
            await self._asking.go(PATIENCE_OF_FIRST_S)
            await self._asking.wait(PATIENCE_OF_FIRST_S)
        if first:
            self._counts_at, self._standing = time.monotonic(), self._board.standing
            self.mark = replace(self.mark, activity=self._board.activity.total)

    async def _ask(self) -> None:
        """What only Postgres knows: whether logins are valid that could not be checked at the door, and the market."""
        with suppress(PostgresUnavailable):
            for watcher in self:
                if not watcher.checked:
                    login = watcher.sid, watcher.subject_id, watcher.role
                    if not await self._postgres.fetchval(sql("session_valid"), *login):
                        watcher.close(CloseCode.REVOKED)
                    watcher.checked = True
            await self._board.read_market()

    def remove(self, watcher: Watcher) -> None:
        self._open.discard(watcher)
        self._gauge()

    def _gauge(self) -> None:
        metrics.CONNECTIONS.labels("dashboard").set(len(self._open))

    def wake(self) -> None:
        self._wake.set()

    def changed(self, mitra_ids: Iterable[str]) -> None:
        """Something changed about these mitras."""
        ids = list(mitra_ids)
        if self._open and ids:
            self._movers.heard(ids)
            self.wake()

    def revoked(self, sids: Iterable[str]) -> None:
        gone = set(sids)
        for watcher in self:
            if watcher.sid in gone:
                watcher.revoked(watcher.sid)

    def _snapshot(self) -> dict[str, Any]:
        """All that a dashboard starts from."""
        return self._board.fields | {"activity": self._board.activity.until(self.mark.activity)}

    def hello(self, watcher: Watcher) -> str:
        common = greeting_of(self._config, watcher.session)
        hello = encode("hello", instance=self._instance_id, role=watcher.role, **common, nulls=self._snapshot())
        watcher.not_before = time.monotonic() + FRAME_S
        asyncio.get_running_loop().call_later(FRAME_S + QUIET_ROUND_S, self.wake)  # what it was not told till then
        return hello

    def state(self, re: str | None) -> str:
        return encode("sync", re=re, server_time=utc_now(), nulls=self._snapshot())

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            self._asking.cancel()
            self._movers.cancel()

    async def _run(self) -> None:
        while True:
            await happens(self._wake, RECOUNT_S)
            if not self._open:
                self._movers.clear()
                self._wake.clear()
                continue
            await asyncio.sleep(max(0.0, self._sent_at + FRAME_S - time.monotonic()))
            self._wake.clear()
            if not await self._round():
                await asyncio.sleep(QUIET_ROUND_S)

    async def _round(self) -> bool:
        """Reads what is new and tells it, one frame to each; False when nothing is."""
        before = self.mark
        frame = await self._next_frame()
        at = time.monotonic()
        told = [watcher for watcher in self if self._tell(watcher, at, before, frame)]
        if frame is None and not told:
            return False
        self._sent_at = time.monotonic()  # the last one was told: telling takes time, too
        if told and (self._movers.due or any(each.told != self.mark for each in told)):
            self.wake()
        return True

    async def _next_frame(self) -> Frame | None:
        """Counts and changes take turns where both are due; None: nothing is news."""
        if not self._counts_next and (frame := await self._presence()) is not None:
            return frame
        async with self._counting:
            await self._board.count()
        if self._board.market_age_s >= MARKET_S:
            await self._asking.go(PATIENCE_S)
        standing, total = self._board.standing, self._board.activity.total
        quiet = time.monotonic() - self._counts_at < COUNTS_S and not self._owes_counts()
        if quiet and standing == self._standing and total == self.mark.activity:
            return await self._presence()
        self._counts_at, self._standing, self._counts_next = time.monotonic(), standing, False
        after, self.mark = self.mark.activity, replace(self.mark, counts=self.mark.counts + 1, activity=total)
        return Frame(self._counts(after), of_changes=False)

    def _owes_counts(self) -> bool:
        """Whether somebody who reads missed them, and changes would keep them from ever being told."""
        behind = (each.told.counts != self.mark.counts for each in self if not each.busy)
        return self._counts_next and self._movers.due and any(behind)

    def _counts(self, after: int) -> str:
        """With what happened behind the entry `after`, as far as it has been told to those who read."""
        activity, more = self._board.activity.between(after, self.mark.activity)
        return encode("counts", nulls=self._board.fields | {"activity": activity, "more_activity": more})

    async def _presence(self) -> Frame | None:
        if not await self._movers.take(PATIENCE_S):
            return None
        self._counts_next = True
        before, self.mark = self.mark.changes, replace(self.mark, changes=self._movers.total)
        return Frame(self._changes(before), of_changes=True)

    def _changes(self, after: int) -> str:
        changes, more = self._movers.since(after)
        return encode("presence", changes=changes, more=more)

    def _tell(self, watcher: Watcher, at: float, before: Mark, frame: Frame | None) -> bool:
        """The frame, which is what is new since `before`; its like to who was told less; or what it asked for."""
        if watcher.busy or at < watcher.not_before:
            return False
        if watcher.asked:
            watcher.answer()
            return True
        text = self._text_for(watcher, before, frame)
        if text is not None:
            watcher.send(text)
        return text is not None

    def _text_for(self, watcher: Watcher, before: Mark, frame: Frame | None) -> str | None:
        """What was missed comes with the next frame of its kind; by itself where there is none: the counts first."""
        told, mark = watcher.told, self.mark
        recount = (told.counts, told.activity) != (mark.counts, mark.activity)
        missed = told.changes != mark.changes and (watcher.recounted or not recount) and not self._movers.due
        if missed or (frame is not None and frame.of_changes):
            watcher.told, watcher.recounted = replace(told, changes=mark.changes), False
            shared = frame is not None and frame.of_changes and told.changes == before.changes
            return frame.text if frame is not None and shared else self._changes(told.changes)
        if recount:
            shared = frame is not None and told.activity == before.activity
            watcher.told, watcher.recounted = replace(mark, changes=told.changes), told.changes != mark.changes
            return frame.text if frame is not None and shared else self._counts(told.activity)
        return None

"""The one coalescing primitive: every caller awaits its own result, what arrives meanwhile rides the next flush."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from hadir import metrics
from hadir.db.pool import CONFLICTS
from hadir.errors import PostgresUnavailable, Refused
from hadir.realtime.waiting import happens

log = logging.getLogger(__name__)

RETRY_S = 0.25
BUSY_S = 0.02
PACE_PER_ITEM_S, PACE_MAX_S = 0.005, 0.3
"""How long a paced flush keeps the next one from beginning: the more items it had, the longer, so that a storm costs
few statements; a lone call waits for nobody, but for the end of a storm. A full flush waits for nothing."""
HELD_S = 5.0
"""How long an item that is not durable waits for what somebody else holds."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Later:
    """The answer for an item that must wait, while others need not: somebody else holds what it is about."""


@dataclass(eq=False, slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    key: Hashable
    durable: bool
    future: asyncio.Future[Result]
    since: float


class Batcher(Generic[Item, Result]):
    """Collects items and hands them, at most `flush_max` and one per key at a time, to `flush`, in order.

    `flush` answers one result per item, or `Later`. A caller that goes away does not withdraw its item. Durable
    items wait while Postgres is away; the others fail with `PostgresUnavailable` at once. Deadlocks and lost
    outcomes repeat the flush, which must therefore be idempotent. An item that breaks a flush fails alone.
    """

    def __init__(
        self,
        name: str,
        flush: Callable[[list[Item]], Awaitable[Sequence[Result | Later]]],
        *,
        flush_max: int,
        queue_max: int,
        paced: bool = False,
    ) -> None:
        self._name = name
        self._flush = flush
        self._flush_max = flush_max
        self._queue_max = queue_max
        self._paced = paced
        self._not_before = 0.0
        self._full = asyncio.Event()
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._in_flight: list[_Entry[Item, Result]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._blocked = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"{self._name} batcher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        for entry in [*self._in_flight, *self._waiting]:
            self._fail(entry, PostgresUnavailable("This instance stops."))

    def submit(self, item: Item, *, key: Hashable, durable: bool = False, must: bool = False) -> asyncio.Future[Result]:
        """Enqueues at once. A full queue refuses (503) unless the item must be kept whatever comes."""
        if len(self._waiting) >= self._queue_max and not must:
            raise Refused(503, "overloaded", "Too many changes are waiting to be written.", retry_after=2)
        if self._blocked and not durable:
            raise PostgresUnavailable("Postgres cannot be reached; nothing was changed.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(item, key, durable, future, time.monotonic()))
        self._idle.clear()
        self._wake.set()
        if len(self._waiting) >= self._flush_max:
            self._full.set()
        return future

    async def join(self) -> None:
        """Returns when nothing waits and nothing is in flight."""
        await self._idle.wait()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._keep_pace()
            self._in_flight = self._take()
            if not self._in_flight:
                self._wake.clear()
                self._idle.set()
                continue
            if self._paced:
                self._not_before = time.monotonic() + min(PACE_MAX_S, PACE_PER_ITEM_S * len(self._in_flight))
            await self._settle(self._in_flight)
            self._in_flight = []

    async def _keep_pace(self) -> None:
        """Waits while more may come, unless there is enough for a flush."""
        self._full.clear()
        left = self._not_before - time.monotonic()
        if left > 0 and 0 < len(self._waiting) < self._flush_max:
            await happens(self._full, left)

    def _take(self) -> list[_Entry[Item, Result]]:
        """The next flush: at most one entry a key, later ones of a key stay in their order."""
        taken: dict[Hashable, _Entry[Item, Result]] = {}
        kept: list[_Entry[Item, Result]] = []
        while self._waiting and len(taken) < self._flush_max:
            entry = self._waiting.popleft()
            if entry.key in taken:
                kept.append(entry)
            else:
                taken[entry.key] = entry
        self._waiting.extendleft(reversed(kept))
        return list(taken.values())

    async def _settle(self, entries: list[_Entry[Item, Result]]) -> None:
        """Flushes until every entry has its result or its error."""
        while entries:
            started = time.monotonic()
            try:
                results = await self._flush([entry.item for entry in entries])
            except PostgresUnavailable as error:
                entries = self._keep_durable(entries, error)
                await asyncio.sleep(RETRY_S)
            except CONFLICTS:
                metrics.BATCH_RETRIES.labels(self._name).inc()
            except Exception as error:  # whatever it is, it belongs to one of the items
                if len(entries) == 1:
                    metrics.ERRORS.labels("batch").inc()
                    log.exception("batch.item_failed", extra={"batcher": self._name})
                    self._fail(entries[0], error)
                    return
                middle = len(entries) // 2
                await self._settle(entries[:middle])
                await self._settle(entries[middle:])
                return
            else:
                self._blocked = False
                metrics.BATCH_ITEMS.labels(self._name).observe(len(entries))
                metrics.BATCH_SECONDS.labels(self._name).observe(time.monotonic() - started)
                postponed = []
                for entry, result in zip(entries, results, strict=True):
                    if isinstance(result, Later):
                        postponed.append(entry)
                    elif not entry.future.done():
                        entry.future.set_result(result)
                if postponed:
                    self._postpone(postponed)
                    if len(postponed) == len(entries):
                        await asyncio.sleep(BUSY_S)
                return

    def _postpone(self, entries: list[_Entry[Item, Result]]) -> None:
        """Puts them at the end, and behind them what else waits of their keys: nobody else waits for them."""
        held = {entry.key for entry in entries}
        others = [entry for entry in self._waiting if entry.key not in held]
        postponed = [*entries, *(entry for entry in self._waiting if entry.key in held)]
        now = time.monotonic()
        for entry in postponed:
            if not entry.durable and now - entry.since > HELD_S:
                self._fail(entry, PostgresUnavailable("Somebody else holds this row in Postgres; nothing was changed."))
        self._waiting = deque([*others, *(entry for entry in postponed if entry.durable or not entry.future.done())])

    def _keep_durable(
        self, entries: list[_Entry[Item, Result]], error: PostgresUnavailable
    ) -> list[_Entry[Item, Result]]:
        self._blocked = any(entry.durable for entry in entries)
        metrics.BATCH_RETRIES.labels(self._name).inc()
        for entry in [*entries, *self._waiting]:
            if not entry.durable:
                self._fail(entry, error)
        self._waiting = deque(entry for entry in self._waiting if entry.durable)
        return [entry for entry in entries if entry.durable]

    def _fail(self, entry: _Entry[Item, Result], error: Exception) -> None:
        if not entry.future.done():
            entry.future.set_exception(error)
            entry.future.exception()  # seen: a caller that went away leaves no "never retrieved" behind

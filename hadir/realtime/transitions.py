"""The one way in which this program changes a presence row: lock, decide, write, commit, apply, tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import asyncpg

from hadir import metrics
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.realtime import rows as presence_rows
from hadir.realtime.batcher import Batcher, Later
from hadir.realtime.mirror import Mirror
from hadir.realtime.presence import Decision, Event, Moment, Outcome, Row, Rules, act_of, decide
from hadir.realtime.rows import Reading

FLUSH_MAX = 1_000
QUEUE_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Request:
    """An event for a mitra; `at` is when it happened (monotonic seconds of this process)."""

    mitra_id: str
    event: Event
    at: float


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a request; `row` as committed, None for a mitra that Postgres does not know."""

    outcome: Outcome
    row: Row | None
    before: Row | None


class Transitions:
    """Batches presence events. `on_rows` hears every committed change, after the mirror has it."""

    def __init__(self, postgres: Postgres, mirror: Mirror, rules: Rules) -> None:
        self._postgres = postgres
        self._mirror = mirror
        self._rules = rules
        self._batcher: Batcher[Request, Result] = Batcher(
            "transitions", self._flush, flush_max=FLUSH_MAX, queue_max=QUEUE_MAX, paced=True
        )
        self.on_rows: list[Callable[[Sequence[Row]], None]] = []

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._batcher.__aexit__(kind, error, trace)

    @property
    def waiting(self) -> int:
        return len(self._batcher)

    async def join(self) -> None:
        await self._batcher.join()

    def submit(
        self,
        mitra_id: str,
        event: Event,
        *,
        at: float | None = None,
        durable: bool = False,
        must: bool = False,
    ) -> asyncio.Future[Result]:
        """Enqueues an event at once; the future has its result when it is committed and mirrored.

        Durable events wait while Postgres is away, others fail with `PostgresUnavailable`. `must` is for what
        may not be refused by a full queue: the close of a connection whose claim was accepted.
        """
        request = Request(mitra_id, event, time.monotonic() if at is None else at)
        return self._batcher.submit(request, key=mitra_id, durable=durable, must=must)

    async def _flush(self, requests: list[Request]) -> list[Result | Later]:
        sids = [getattr(request.event, "sid", None) for request in requests]
        async with self._postgres.transaction() as connection:
            asked_at = time.monotonic()
            records = await connection.fetch(sql("presence_lock"), [r.mitra_id for r in requests], sids)
            locked = {record["mitra_id"]: record for record in records}
            held = await self._held_by_others(connection, [r.mitra_id for r in requests if r.mitra_id not in locked])
            decisions = {
                request.mitra_id: self._decide(request, locked[request.mitra_id], asked_at)
                for request in requests
                if request.mitra_id in locked
            }
            before = {mitra_id: presence_rows.row_of(record) for mitra_id, record in locked.items()}
            stored = await self._store(connection, before, decisions)
            await self._note_acts(connection, requests, before, decisions)
        committed_at = time.monotonic()
        after = {mitra_id: decision.row for mitra_id, decision in decisions.items()} | stored
        now = records[0]["now"] if records else None
        beats = {mitra_id for mitra_id, decision in decisions.items() if decision.beat}
        await self._mirror.apply(Reading(list(after.values()), now, asked_at), beats=beats, committed_at=committed_at)
        changed = [row for mitra_id, row in stored.items() if row.version != before[mitra_id].version]
        for tell in self.on_rows:
            tell(changed)
        return [
            Later() if request.mitra_id in held else self._result(request, decisions, before, after)
            for request in requests
        ]

    async def _held_by_others(
        self, connection: asyncpg.Connection[asyncpg.Record], missing: list[str]
    ) -> frozenset[str]:
        """Those of the rows that were not locked which exist all the same."""
        if not missing:
            return frozenset()
        return frozenset(record["mitra_id"] for record in await connection.fetch(sql("presence_known"), missing))

    def _decide(self, request: Request, record: asyncpg.Record, asked_at: float) -> Decision:
        now = record["now"]
        occurred = now - timedelta(seconds=max(0.0, asked_at - request.at))
        session = presence_rows.session_of(record)
        return decide(presence_rows.row_of(record), request.event, session, Moment(now, occurred), self._rules)

    async def _store(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        before: dict[str, Row],
        decisions: dict[str, Decision],
    ) -> dict[str, Row]:
        """Writes the rows that decisions changed; answers them as Postgres now has them."""
        rows = [decision.row for mitra_id, decision in decisions.items() if decision.row != before[mitra_id]]
        if not rows:
            return {}
        columns = presence_rows.columns_of(rows)
        renewed = [presence_rows.only_beat_differs(before[row.mitra_id], row) for row in rows]
        records = await connection.fetch(sql("presence_store"), *columns, [not only for only in renewed])
        return {record["mitra_id"]: presence_rows.row_of(record) for record in records}

    async def _note_acts(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        requests: Sequence[Request],
        before: dict[str, Row],
        decisions: dict[str, Decision],
    ) -> None:
        """What operators did is on record with the rows that it changed, or neither is."""
        done = [
            (act.actor, act.action, request.mitra_id, before[request.mitra_id].state.value)
            for request in requests
            if (act := act_of(request.event)) is not None
            and request.mitra_id in decisions
            and decisions[request.mitra_id].outcome is Outcome.DONE
        ]
        if done:
            await connection.fetch(sql("audit_mitras"), *map(list, zip(*done, strict=True)))

    def _result(
        self,
        request: Request,
        decisions: dict[str, Decision],
        before: dict[str, Row],
        after: dict[str, Row],
    ) -> Result:
        decision = decisions.get(request.mitra_id)
        outcome = Outcome.UNKNOWN_SUBJECT if decision is None else decision.outcome
        metrics.TRANSITIONS.labels(type(request.event).__name__.lower(), outcome.value).inc()
        return Result(outcome, after.get(request.mitra_id), before.get(request.mitra_id))

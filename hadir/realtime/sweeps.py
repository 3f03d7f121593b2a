"""What one leased instance does by the clock: graces that end, the stale, beats to Postgres, reseeds, the log."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import HadirError, PostgresUnavailable, StoreUnavailable
from hadir.realtime.capacity import follow_default
from hadir.realtime.heartbeats import CLOCK_JUMP_S, mirror_beats
from hadir.realtime.mirror import Mirror
from hadir.realtime.presence import LONG_GRACE_REASONS, Event, Expire, Outcome, Row, Stale, expiry_is_held
from hadir.realtime.seeding import Seeder
from hadir.realtime.transitions import Result, Transitions

log = logging.getLogger(__name__)

EXPIRY_S = 1.0
EXPIRY_AT_ONCE = 2_000
EXPIRY_YIELDS_ABOVE = 200
"""Expiry waits while this many transitions wait: connects go first (R15)."""
DUE_MAX = 20_000
STALE_AT_ONCE = 1_000
LOG_MONTHS_S = 300.0
"""Often, though months are long: who leads may not do so for an hour, and the log's writers go first."""


class Sweeps:
    """Each sweep runs on its own cadence while this instance leads, and answers None where it could not be done."""

    def __init__(
        self,
        config: Config,
        postgres: Postgres,
        mirror: Mirror,
        transitions: Transitions,
        seeder: Seeder,
        *,
        is_leader: Callable[[], bool],
        ready_since: Callable[[], float | None],
        leased_since: Callable[[], float | None],
        instances: Callable[[], Sequence[str]],
        changed: Callable[[Sequence[Row]], None],
    ) -> None:
        self._config = config
        self._postgres = postgres
        self._mirror = mirror
        self._transitions = transitions
        self._seeder = seeder
        self._is_leader = is_leader
        self._ready_since = ready_since
        self._leased_since = leased_since
        self._instances = instances
        self._changed = changed
        self._mirrored_at: float | None = None
        self._clock_offset: float | None = None
        self._clock_jumped_at = -math.inf
        self._hold_known = True
        """Whether a hold may be on record; then it has to be ended there."""

    async def run(self) -> None:
        config = self._config
        async with asyncio.TaskGroup() as tasks:
            for cadence, sweep in (
                (EXPIRY_S, self.expire),
                (config.auto_offline_sweep_s, self.find_stale),
                (config.heartbeat_mirror_interval_s, self.mirror_beats),
                (config.online_mirror_sweep_s, self.reseed),
                (config.online_mirror_sweep_s, self.resize),
                (LOG_MONTHS_S, self.keep_log_months),
            ):
                tasks.create_task(self._every(cadence, sweep), name=sweep.__name__)
            tasks.create_task(self._know_the_clock(), name="clock")

    async def _every(self, cadence_s: float, sweep: Callable[[], Awaitable[int | None]]) -> None:
        name, led = sweep.__name__, False
        while True:
            await asyncio.sleep(cadence_s)
            if not self._is_leader():
                self._mirrored_at, self._hold_known = None, True
                if led:
                    self._no_longer_says(name)
                led = False
                continue
            done = metrics.SWEEP_DONE_TIMESTAMP_SECONDS.labels(name)
            if not led:
                done.set_to_current_time()
            led = True
            try:
                if await sweep() is not None:
                    done.set_to_current_time()
            except HadirError as error:
                log.info("sweep.aborted", extra={"sweep": name, "error": str(error)})

    def _no_longer_says(self, sweep: str) -> None:
        """What the gauges of a leader say is the next one's to say."""
        metrics.SWEEP_DONE_TIMESTAMP_SECONDS.remove(sweep)
        metrics.EXPIRY_HELD.set(0)
        metrics.EXPIRY_HOLD_ACTIVE.set(0)

    def amnesty(self) -> bool:
        """R15: a grace counts only while coming back was possible, to here, Postgres writable, its clock steady."""
        now, grace = time.monotonic(), self._config.offline_grace_s
        if now - self._clock_jumped_at < self._config.long_grace_s:
            return True
        since = [self._ready_since(), self._postgres.available_since]
        return any(at is None or now - at < grace for at in since)

    async def expire(self) -> int | None:
        """Ends graces that are over, unless they are suspiciously many (R5); answers how many."""
        if self.amnesty():
            return None
        config = self._config
        asked = (sql("expiry_due"), config.offline_grace_s, config.long_grace_s, list(LONG_GRACE_REASONS), DUE_MAX)
        due = await self._postgres.fetch(*asked, False)
        if not await self._watch_clock() or self.amnesty():  # after it: a jump before is seen
            return None
        if await self._is_held(due[0]["unproven"] if due else 0):
            due = await self._postgres.fetch(*asked, True)
        if self._transitions.waiting > EXPIRY_YIELDS_ABOVE:
            return None
        events = [(record["mitra_id"], Expire(record["version"])) for record in due[:EXPIRY_AT_ONCE]]
        if not events:
            return 0
        expired = [result for result in await self._submit(events) if result.outcome is Outcome.DONE]
        for result in expired:
            if result.row is not None:
                metrics.EXPIRIES.labels(result.row.reason).inc()
        return len(expired)

    async def _know_the_clock(self) -> None:
        """Whether or not this instance leads: the lease itself may fall to it by a jump."""
        while True:
            with suppress(PostgresUnavailable):
                await self._watch_clock()
            await asyncio.sleep(EXPIRY_S)

    async def _watch_clock(self) -> bool:
        """Postgres's clock against ours: graces are judged by the former, and a jump makes all of them wrong.

        False when it could not be looked at.
        """
        asked_at = time.monotonic()
        clock = await self._postgres.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        answered_at = time.monotonic()
        if answered_at - asked_at > CLOCK_JUMP_S:
            return False  # it, or we, stood still: nobody knows when it looked
        offset = clock - (asked_at + answered_at) / 2
        if self._clock_offset is not None and abs(offset - self._clock_offset) > CLOCK_JUMP_S:
            log.error("postgres.clock_jumped", extra={"seconds": round(offset - self._clock_offset, 3)})
            self._clock_jumped_at = time.monotonic()
        self._clock_offset = offset
        return True

    async def _is_held(self, unproven: int) -> bool:
        fraction = self._config.auto_offline_max_fraction
        over = unproven > 0 and expiry_is_held(unproven, await self._postgres.fetchval(sql("online_count")), fraction)
        if not over and not self._hold_known:
            return False
        hold = await self._postgres.fetchrow(sql("expiry_hold"), unproven if over else 0)
        assert hold is not None, "the migration makes the one row of expiry_hold"
        held_s, self._hold_known = hold["held_s"], over
        held = over and not hold["released"] and (held_s or 0.0) < self._config.auto_offline_hold_s
        metrics.EXPIRY_HELD.set(unproven if held else 0)
        metrics.EXPIRY_HOLD_ACTIVE.set(held)
        if held:
            log.warning("expiry.held", extra={"due": unproven, "held_s": round(held_s or 0.0)})
        return held

    async def find_stale(self) -> int | None:
        """Those whose beats stopped, by the mirror's word and the row's; aborts on any doubt about the mirror.

        A new seed has the beats that Postgres knows: an instance that cannot reach it has yet to send its own. One that
        is silent and has no lease is judged first: its mitras get the long grace (R15).
        """
        since = self._leased_since()
        if since is None or time.monotonic() - since < self._config.heartbeat_interval_s:
            return None
        stale_s, beaten = self._config.heartbeat_stale_s, self._instances()
        candidates = await self._mirror.beats_by_age(
            oldest_s=None, youngest_s=stale_s, limit=STALE_AT_ONCE, beaten=beaten
        )
        if candidates is None:
            why = "the mirror is cold, or a silent instance has yet to be judged"
            log.info("sweep.aborted", extra={"sweep": "find_stale", "error": why})
            return None
        if not candidates:
            return 0
        events = [(mitra_id, Stale(age)) for mitra_id, age in candidates]
        found = sum(result.outcome is Outcome.DONE for result in await self._submit(events))
        metrics.STALE.inc(found)
        return found

    async def _submit(self, events: Sequence[tuple[str, Event]]) -> list[Result]:
        futures = [self._transitions.submit(mitra_id, event) for mitra_id, event in events]
        results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, StoreUnavailable):
                raise result
        return [result for result in results if isinstance(result, Result)]

    async def mirror_beats(self) -> int | None:
        """Beats since the last time, to Postgres; the first time as many as are not stale."""
        now = time.monotonic()
        since = self._config.heartbeat_stale_s if self._mirrored_at is None else now - self._mirrored_at + 1.0
        copied = await mirror_beats(self._mirror, self._postgres, since)
        if copied is not None:
            self._mirrored_at = now
        return copied

    async def reseed(self) -> bool | None:
        """Heals whatever drifted."""
        return await self._seeder.seed("periodic") or None

    async def resize(self) -> int:
        """Goes on with a change of the configured capacity that was stopped halfway, or that another program made."""
        return await follow_default(self._postgres, self._mirror, self._changed)

    async def keep_log_months(self) -> int | None:
        """Months of the log ahead, and none that is too old; None where it gave way to whoever writes the log."""
        kept = [record[0] for record in await self._postgres.fetch(sql("log_months"), self._config.presence_log_months)]
        return None if None in kept else sum(kept)

"""Beats of this process's sockets: behind the pings, one script call a flush; Postgres while the mirror is not warm."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, ValkeyUnavailable
from hadir.realtime.connection import Connection
from hadir.realtime.mirror import BEATS_PER_SCRIPT, BeatAnswer, Mirror, chunks
from hadir.realtime.registry import Registry
from hadir.realtime.waiting import happens

log = logging.getLogger(__name__)

IDLE_FLUSH_S = 1.0
CLOCK_JUMP_S = 2.0
POSTGRES_CHUNK = 2_000


class Heartbeats:
    """Flushes every `heartbeat_flush_s`; `on_cold` is called when the mirror turns out unseeded.

    After any failure, and whenever the mirror was wiped, the instance's lease is taken back, the true ages of
    all its sockets are sent, and only then does the lease say `beaten`: the mirror is warm again.
    """

    def __init__(
        self,
        config: Config,
        instance_id: str,
        mirror: Mirror,
        postgres: Postgres,
        registry: Registry[Connection],
        *,
        reclaim: Callable[[Iterable[Connection]], None],
        on_cold: Callable[[], None],
        on_clock_jump: Callable[[], Awaitable[None]],
    ) -> None:
        self._config = config
        self._instance_id = instance_id
        self._mirror = mirror
        self._postgres = postgres
        self._registry = registry
        self._reclaim = reclaim
        self._on_cold = on_cold
        self._on_clock_jump = on_clock_jump
        self._dirty: dict[Connection, None] = {}
        """In the order in which they beat: those of one millisecond are then cheap for the mirror."""
        self._all_again = True
        self._now = asyncio.Event()
        self._lease_due = 0.0
        self._flushed_at = 0.0
        self._offset: float | None = None
        self._to_postgres_at = 0.0
        self.warm = False
        """Whether the mirror was, when that was last looked at: where it was not, readers use Postgres."""
        self.leased_since: float | None = None
        """Since when (monotonic) the mirror has had all our beats without a break; None while it has not."""

    def note(self, connection: Connection) -> None:
        """A beat came; it is recorded by the next flush."""
        self._dirty[connection] = None

    def start_over(self) -> None:
        """Nothing that was sent counts any more."""
        self._all_again = True
        self.leased_since = None

    def hurry(self) -> None:
        """The mirror can take beats again: the next flush is now."""
        self._now.set()

    async def run(self) -> None:
        while True:
            await happens(self._now, self._config.heartbeat_flush_s)
            self._now.clear()
            try:
                await self.flush()
            except ValkeyUnavailable:
                self.start_over()
            await self._to_postgres()

    async def flush(self) -> None:
        """Records what is due. Raises `ValkeyUnavailable`; nothing noted is lost by that."""
        if self._all_again:
            await self._send_all()
            return
        now = time.monotonic()
        if not self._dirty and now < min(self._flushed_at + IDLE_FLUSH_S, self._lease_due):
            return
        batch, self._dirty = self._dirty, {}
        try:
            seeded = await self._send([held for held in batch if held.wants_online])
        except ValkeyUnavailable:
            self._dirty = batch | self._dirty
            raise
        if not seeded:
            self._went_cold()
        elif now >= self._lease_due:
            if await self._mirror.lease(self._instance_id, "beaten"):
                self._lease_due = now + self._config.instance_lease_s / 4
            else:
                self.start_over()

    async def _send_all(self) -> None:
        self._dirty.clear()
        if not await self._mirror.lease(self._instance_id, "begin"):
            self._went_cold()
            return
        everyone = [held for held in self._registry if held.wants_online]
        if await self._send(everyone) and await self._mirror.lease(self._instance_id, "beaten"):
            self._all_again = False
            self._lease_due = time.monotonic() + self._config.instance_lease_s / 4
            self.leased_since = time.monotonic()

    def _went_cold(self) -> None:
        self.start_over()
        self._on_cold()

    async def _send(self, connections: Sequence[Connection]) -> bool:
        """True when the mirror was seeded all along. At least one call is made, to learn that."""
        seeded = True
        for chunk in chunks(connections, BEATS_PER_SCRIPT) if connections else [[]]:
            now = time.monotonic()
            answer = await self._mirror.beat(
                [held.subject_id for held in chunk],
                [held.owner for held in chunk],
                [now - held.session.last_beat for held in chunk],
            )
            self._flushed_at = time.monotonic()
            metrics.BEAT_FLUSH_SECONDS.observe(self._flushed_at - now)
            metrics.BEAT_FLUSH_IDS.observe(len(chunk))
            seeded = seeded and answer.seeded
            self._act_on(answer, chunk)
            if self._flushed_at - now < CLOCK_JUMP_S:  # otherwise nobody knows when it looked at its clock
                await self._watch_clock(answer.now_s - (now + self._flushed_at) / 2)
        return seeded

    def _act_on(self, answer: BeatAnswer, connections: Iterable[Connection]) -> None:
        # Refused either way; whether it is deactivated, or the mirror drifted, only Postgres can say.
        if refused := {*answer.deactivated, *answer.strangers}:
            self._reclaim(held for held in connections if held.mitra_id in refused)

    async def _watch_clock(self, offset: float) -> None:
        """Valkey's clock against ours: beats are scored by the former, and a jump makes all of them wrong."""
        if self._offset is not None and abs(offset - self._offset) > CLOCK_JUMP_S:
            log.error("mirror.clock_jumped", extra={"seconds": round(offset - self._offset, 3)})
            await self._on_clock_jump()
            self.start_over()
        self._offset = offset  # only now: what failed above is tried again

    async def _to_postgres(self) -> None:
        """While readers use Postgres, the last beats of our sockets go there, every half interval.

        Not only without Valkey: when another instance has lost it, the mirror is not warm for anybody.
        """
        now = time.monotonic()
        if now < self._to_postgres_at:
            return
        self._to_postgres_at = now + self._config.heartbeat_interval_s / 2
        self.warm = await self._is_warm()
        if self.warm:
            return
        everyone = [held for held in self._registry if held.wants_online]
        try:
            for chunk in chunks(everyone, POSTGRES_CHUNK):
                now = time.monotonic()
                ages = [now - held.session.last_beat for held in chunk]
                await store_beats(self._postgres, [held.mitra_id for held in chunk], ages)
        except PostgresUnavailable:
            log.warning("heartbeats.both_stores_away")

    async def _is_warm(self) -> bool:
        try:
            return await self._mirror.is_warm()
        except ValkeyUnavailable:
            return False

    def valkey_lost(self) -> None:
        self._to_postgres_at = 0.0


async def store_beats(postgres: Postgres, mitra_ids: Sequence[str], ages_s: Sequence[float]) -> None:
    """Last beats into `last_heartbeat_at`, never lowering it; rows that somebody holds are left to the next time."""
    await postgres.execute(sql("beats_store"), list(mitra_ids), list(ages_s))


async def mirror_beats(mirror: Mirror, postgres: Postgres, since_s: float) -> int | None:
    """Copies the beats of the last `since_s` seconds from the mirror to Postgres; answers how many.

    None: the mirror is cold, and has nothing to copy. Raises `StoreUnavailable`.
    """
    copied, oldest = 0, since_s
    while True:
        found = await mirror.beats_by_age(oldest_s=oldest, youngest_s=0, limit=POSTGRES_CHUNK)
        if found is None:
            return None
        if not found:
            return copied
        await store_beats(postgres, [mitra_id for mitra_id, _ in found], [age for _, age in found])
        copied += len(found)
        last = found[-1][1]
        if len(found) < POSTGRES_CHUNK:
            return copied
        # Ties at the page's edge are read twice; a page of nothing but ties is stepped over.
        oldest = last if last < found[0][1] else max(0.0, last - 0.001)

"""The mirror: Valkey as a pure function of presence rows, plus beats. Each method is one script."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from hadir import metrics
from hadir.errors import PostgresUnavailable, ValkeyUnavailable
from hadir.realtime.keys import Keys
from hadir.realtime.presence import HTTP_OWNER, Row
from hadir.realtime.rows import Reading
from hadir.realtime.valkey import Valkey

log = logging.getLogger(__name__)

ROWS_PER_SCRIPT = 100
SEED_ROWS_PER_SCRIPT = 50
"""Fewer: a seed runs for long, and nobody waits for it, but everybody for its scripts."""
BEATS_PER_SCRIPT = 300
"""More cost the server's other clients too long a wait, where the mirror holds a million."""
FAILED_MAX = 10_000
MAKE_UP_AT_ONCE = 1_000
SCAN_AT_ONCE = 1_000
QUEUE_LOOK = 20_000
"""How far down the queue somebody fresh is looked for."""
NO_OWNER = ""
NO_TOKEN = ""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """`strangers`: not held as online and owned by who beats. Unseeded, nothing was recorded."""

    seeded: bool
    now_s: float
    deactivated: list[str]
    strangers: list[str]


@dataclass(frozen=True, slots=True)
class MirrorCounts:
    """Counts of a warm mirror; `available` has capacity and is fresh."""

    online: int
    suspect: int
    available: int
    busy: int
    deactivated: int


@dataclass(frozen=True, slots=True)
class Held:
    """All that the mirror holds of one mitra."""

    version: int | None
    online: bool
    deactivated: bool
    beat_ms: int | None
    available: bool
    queue: str
    owner: str
    capacity: int
    has_string: bool


def owner_of(row: Row) -> str:
    """`instance connection` of an open socket, `- http:<sid>` of an HTTP mitra, nothing when nobody is there."""
    if row.connection_id is None:
        return NO_OWNER
    if row.instance_id is not None:
        return f"{row.instance_id} {row.connection_id}"
    return f"- {row.connection_id}" if row.connection_id.startswith(HTTP_OWNER) else NO_OWNER


class Mirror:
    """`apply` never fails for its caller (R1): what Valkey missed is remembered and applied on its return.

    `reread` reads rows by id; `live_instances` tells whose leases a warm mirror needs; `on_backwards` is called
    when Postgres turned out to be older than the mirror, `on_overflow` when more was missed than is remembered.
    """

    def __init__(
        self,
        valkey: Valkey,
        keys: Keys,
        *,
        stale_s: float,
        interval_s: float,
        postgres_fresh_s: float,
        lease_s: float,
        reread: Callable[[Collection[str]], Awaitable[Reading]],
        live_instances: Callable[[], Iterable[str]],
        on_backwards: Callable[[], None],
        on_overflow: Callable[[], None],
    ) -> None:
        self._valkey = valkey
        self._keys = keys
        self._stale_ms = round(stale_s * 1000)
        self._stale_s, self._interval_s, self._postgres_fresh_s = stale_s, interval_s, postgres_fresh_s
        self._lease_ms = round(lease_s * 1000)
        self._reread = reread
        self._live_instances = live_instances
        self._on_backwards = on_backwards
        self._on_overflow = on_overflow
        self._failed: set[str] = set()

    # apply

    async def apply(self, reading: Reading, *, beats: Collection[str] = (), committed_at: float | None = None) -> None:
        """Makes Valkey agree with rows; `beats` are the ids for which the row itself is a sign of life."""
        try:
            newer = [
                mitra_id
                for chunk in chunks(reading.rows, ROWS_PER_SCRIPT)
                for mitra_id in await self._apply_chunk(reading, chunk, beats, NO_TOKEN) or ()
            ]
        except ValkeyUnavailable:
            metrics.APPLY_FAILURES.inc()
            self._remember(row.mitra_id for row in reading.rows)
            return
        if committed_at is not None:
            metrics.APPLY_LAG_SECONDS.observe(time.monotonic() - committed_at)
        if newer:
            await self._judge(newer)

    async def apply_seed(self, reading: Reading, token: str) -> bool:
        """The same under the seed's lease, all chunks at once: one is made ready while Valkey works on another.

        False when the lease was lost. Raises `ValkeyUnavailable`.
        """
        newer = await asyncio.gather(
            *(self._apply_chunk(reading, chunk, (), token) for chunk in chunks(reading.rows, SEED_ROWS_PER_SCRIPT))
        )
        if None in newer:
            return False
        for ids in filter(None, newer):
            await self._judge(ids)
        return True

    async def _apply_chunk(
        self, reading: Reading, rows: Sequence[Row], beats: Collection[str], token: str
    ) -> list[str] | None:
        names = self._keys
        ids = [row.mitra_id for row in rows]
        keys = [*names.sets_of_ids, names.seed_lease, *map(names.capacity, ids), *map(names.heartbeat, ids)]
        args = [
            self._stale_ms,
            token,
            *ids,
            *[row.version for row in rows],
            *[int(row.is_active) for row in rows],
            *[row.state.value for row in rows],
            *[row.open_sessions for row in rows],
            *[row.max_sessions for row in rows],
            *[int(row.last_session_at.timestamp()) if row.last_session_at else 0 for row in rows],
            *map(owner_of, rows),
            *[round(self._unheard_age_s(reading, row) * 1000) for row in rows],
            *[round(reading.age_s(row) * 1000) if row.mitra_id in beats else "" for row in rows],
        ]
        answer = await self._valkey.run("apply", keys, args)
        if answer is None:
            return None
        if answer[0]:
            metrics.MIRROR_DRIFT_ROWS.inc(answer[0])
        return list(answer[1:])

    def _unheard_age_s(self, reading: Reading, row: Row) -> float:
        """A row's idea of an age, which counts where the mirror holds no beat. Nobody sends the last one of a mitra
        again that is over HTTP; it has until the beat after the next, unless even a Postgres that hears late should
        have heard of it."""
        age_s, patience_s = reading.age_s(row), 2 * self._interval_s
        if row.instance_id is None and age_s <= self._postgres_fresh_s - patience_s:
            return min(age_s, self._stale_s - patience_s)
        return age_s

    async def _judge(self, newer: list[str]) -> None:
        """The mirror is ahead. A row read again after that which is still behind means Postgres went backwards."""
        try:
            held = await self._valkey.command("HMGET", self._keys.versions, *newer)
            rows = {row.mitra_id: row for row in (await self._reread(newer)).rows}
        except (PostgresUnavailable, ValkeyUnavailable):
            self._remember(newer)
            return
        # Each version in the mirror was committed before it got there, and both were read in that order.
        behind = [i for i, v in zip(newer, held, strict=True) if v and i in rows and rows[i].version < int(v)]
        if behind:
            log.error("mirror.postgres_went_backwards", extra={"rows": len(behind)})
            metrics.MIRROR_BACKWARDS.inc()
            self._on_backwards()

    def _remember(self, mitra_ids: Iterable[str]) -> None:
        self._failed.update(mitra_ids)
        if len(self._failed) > FAILED_MAX:
            self._failed.clear()
            self._on_overflow()

    async def make_up(self) -> None:
        """Applies again what Valkey missed, as it is now; whatever fails again stays remembered.

        Raises `PostgresUnavailable`.
        """
        if not self._valkey.available:
            return
        for chunk in [*chunks(sorted(self._failed), MAKE_UP_AT_ONCE)]:
            reading = await self._reread(chunk)
            self._failed.difference_update(chunk)
            await self.apply(reading, beats=chunk)

    # beats and leases

    async def beat(self, mitra_ids: Sequence[str], owners: Sequence[str], ages_s: Iterable[float]) -> BeatAnswer:
        """Records at most `BEATS_PER_SCRIPT` beats in one round trip. Raises `ValkeyUnavailable`.

        `owners` are as the mirror holds them, the ages as of the moment of sending.
        """
        names = self._keys
        keys = [names.deactivated, names.heartbeats, names.available, names.connections, names.seeded]
        keys += map(names.heartbeat, mitra_ids)
        args = [self._stale_ms, *mitra_ids, *owners, *[round(age_s * 1000) for age_s in ages_s]]
        seeded, now_ms, refused, strangers = await self._valkey.run("beat", keys, args)
        return BeatAnswer(bool(seeded), now_ms / 1000, refused, strangers)

    async def lease(self, instance_id: str, stage: str) -> bool:
        """`begin` before an instance sends all its true ages, `beaten` after and to renew. False: start again."""
        keys = [self._keys.seeded, self._keys.instance(instance_id)]
        return bool(await self._valkey.run("lease", keys, [stage, self._lease_ms]))

    async def has_lease(self, instance_id: str) -> bool:
        return bool(await self._valkey.command("EXISTS", self._keys.instance(instance_id)))

    async def beats_by_age(
        self, *, oldest_s: float | None, youngest_s: float, limit: int, beaten: Iterable[str] = ()
    ) -> list[tuple[str, float]] | None:
        """(id, age in seconds) of last beats, oldest first; None when the mirror is not seeded, or one of the instances
        that must have `beaten` has not."""
        oldest = "" if oldest_s is None else math.ceil(oldest_s * 1000)
        args = [oldest, math.floor(youngest_s * 1000), limit]
        leases = map(self._keys.instance, beaten)
        flat = await self._valkey.run("beats", [self._keys.seeded, self._keys.heartbeats, *leases], args)
        if flat is None:
            return None
        return [(flat[n], int(flat[n + 1]) / 1000) for n in range(0, len(flat), 2)]

    # reading

    async def counts(self) -> MirrorCounts | None:
        """The live counts; None while the mirror is cold. Raises `ValkeyUnavailable`."""
        answer = await self._counts(0, "0")
        if answer is None:
            return None
        _, _, online, beating, fresh, capable, deactivated, _ = answer
        return MirrorCounts(online, online - beating, fresh, beating - capable, deactivated)

    async def is_warm(self) -> bool:
        """Whether readers may trust it. Raises `ValkeyUnavailable`."""
        return await self.counts() is not None

    async def snapshot(self, ttl_s: float) -> tuple[str, float] | None:
        """The beacon's body and the seconds it is still valid, counted now or by whoever came first."""
        answer = await self._counts(round(ttl_s * 1000), f"{ttl_s:g}")
        return None if answer is None else (answer[0], answer[1] / 1000)

    async def _counts(self, ttl_ms: int, max_age: str) -> list[Any] | None:
        names = self._keys
        keys = [names.seeded, names.online, names.heartbeats, names.available, names.deactivated, names.snapshot]
        keys += [names.instance(instance_id) for instance_id in self._live_instances()]
        answer: list[Any] | None = await self._valkey.run("counts", keys, [self._stale_ms, ttl_ms, max_age])
        metrics.MIRROR_WARM.set(answer is not None)
        return answer

    async def pool(self, limit: int) -> list[str] | None:
        """Ids of who can take work, in the order of the queue; None while cold. Raises `ValkeyUnavailable`."""
        names = self._keys
        keys = [names.seeded, names.available, names.queue]
        keys += [names.instance(instance_id) for instance_id in self._live_instances()]
        found: list[str] | None = await self._valkey.run("pool", keys, [self._stale_ms, limit, QUEUE_LOOK])
        return found

    async def instances_of(self, mitra_ids: Sequence[str]) -> list[str | None]:
        """The instance that holds each one's socket; None where none does. Raises `ValkeyUnavailable`."""
        owners = await self._valkey.command("HMGET", self._keys.connections, *mitra_ids)
        found = [(owner or "-").partition(" ")[0] for owner in owners]
        return [None if instance_id == "-" else instance_id for instance_id in found]

    async def last_beats(self, mitra_ids: Sequence[str]) -> dict[str, datetime]:
        """When each of them, where it is held as online, beat last. Raises `ValkeyUnavailable`."""
        if not mitra_ids:
            return {}
        scores = await self._valkey.command("ZMSCORE", self._keys.heartbeats, *mitra_ids)
        return {
            mitra_id: datetime.fromtimestamp(float(score) / 1000, UTC)
            for mitra_id, score in zip(mitra_ids, scores, strict=True)
            if score is not None
        }

    async def beat_ages(self, mitra_ids: Sequence[str]) -> dict[str, float]:
        """Seconds since each one's last beat, of those of whom it holds one. Raises `ValkeyUnavailable`."""
        ages: dict[str, float] = {}
        for chunk in chunks(mitra_ids, ROWS_PER_SCRIPT):
            held, now_ms = await self.inspect(chunk)
            for mitra_id, each in zip(chunk, held, strict=True):
                if each.beat_ms is not None:
                    ages[mitra_id] = max(0, now_ms - each.beat_ms) / 1000
        return ages

    async def is_deactivated(self, mitra_id: str) -> bool | None:
        """What a warm mirror says; None while it is cold. Raises `ValkeyUnavailable`."""
        if not await self.is_warm():
            return None
        return bool(await self._valkey.command("SISMEMBER", self._keys.deactivated, mitra_id))

    async def inspect(self, mitra_ids: Sequence[str]) -> tuple[list[Held], int]:
        """What is held of each, and Valkey's time (ms). Raises `ValkeyUnavailable`."""
        keys = list(self._keys.sets_of_ids)
        for mitra_id in mitra_ids:
            keys += (self._keys.capacity(mitra_id), self._keys.heartbeat(mitra_id))
        *flat, now_ms = await self._valkey.run("inspect", keys, list(mitra_ids))
        return [_held(flat[n : n + 9]) for n in range(0, len(flat), 9)], int(now_ms)

    # seeding

    async def seed_lease(self, token: str, stage: str, duration_s: float) -> bool:
        keys = [self._keys.seed_lease, self._keys.seeded]
        return bool(await self._valkey.run("seed_lease", keys, [token, stage, round(duration_s * 1000)]))

    async def is_seeded(self) -> bool:
        return await self.beats_by_age(oldest_s=0, youngest_s=0, limit=1) is not None

    async def is_empty(self) -> bool:
        """Whether it holds nobody."""
        return not await self._valkey.command("EXISTS", *self._keys.sets_of_ids)

    async def scan_ids(self, key: str, cursor: int) -> tuple[int, list[str]]:
        """One page of the ids held in one of `Keys.sets_of_ids`."""
        following, found = await self._valkey.command(self._scan_of(key), key, cursor, "COUNT", SCAN_AT_ONCE)
        return int(following), [each[0] if isinstance(each, tuple) else each for each in found]

    async def strays(self, key: str, cursor: int) -> tuple[int, list[str]]:
        """The same, but only ids of which no version is held."""
        args = [self._scan_of(key), cursor, SCAN_AT_ONCE]
        following, found = await self._valkey.run("strays", [key, self._keys.versions], args)
        return int(following), found

    def _scan_of(self, key: str) -> str:
        names = self._keys
        is_set = key in (names.online, names.deactivated)
        return "SSCAN" if is_set else "HSCAN" if key in (names.versions, names.connections) else "ZSCAN"

    async def version_count(self) -> int:
        """Of how many mitras a version is held."""
        return int(await self._valkey.command("HLEN", self._keys.versions))

    async def forget(self, mitra_ids: Sequence[str], token: str) -> bool:
        """Removes mitras that Postgres does not have; False when the seed's lease was lost."""
        names = self._keys
        for chunk in chunks(mitra_ids, ROWS_PER_SCRIPT):
            keys = [*names.sets_of_ids, names.seed_lease]
            for mitra_id in chunk:
                keys += (names.capacity(mitra_id), names.heartbeat(mitra_id))
            if not await self._valkey.run("forget", keys, [token, *chunk]):
                return False
        return True

    async def wipe(self, token: str = NO_TOKEN, instances: Iterable[str] | None = None) -> bool:
        """Makes the mirror empty and cold; every instance then sends its sockets' true ages again.

        With a seed's token only a mirror that is not seeded is wiped, and False says that the lease was lost.
        `instances` are those whose leases go; the live ones where it is not said.
        """
        names = self._keys
        leases = [names.instance(each) for each in (self._live_instances() if instances is None else instances)]
        everything = [names.seed_lease, names.seeded, *leases, *names.sets_of_ids, names.snapshot]
        return bool(await self._valkey.run("wipe", everything, [token]))


def _held(fields: Sequence[Any]) -> Held:
    version, online, deactivated, beat, available, queue, owner, capacity, string = fields
    return Held(
        int(version) if version else None,
        bool(online),
        bool(deactivated),
        int(beat) if beat else None,
        bool(available),
        queue,
        owner,
        int(capacity),
        bool(string),
    )


def chunks(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[n : n + size] for n in range(0, len(items), size))

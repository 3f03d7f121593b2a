"""Which instances live: a row on Postgres's clock and a lease in Valkey; death takes proof from both."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile

from hadir import __version__, metrics
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, StoreUnavailable, ValkeyUnavailable
from hadir.realtime.mirror import Mirror
from hadir.realtime.presence import InstanceDied
from hadir.realtime.transitions import FLUSH_MAX, Transitions
from hadir.realtime.valkey import Valkey
from hadir.realtime.vitals import Vitals

log = logging.getLogger(__name__)

BEAT_S = 3.0
JUDGE_S = 1.0
DEAD_S = 12.0
DEAD_WITHOUT_VALKEY_S = 60.0
UNJUDGED_S = 60.0
"""A silent instance whose death nobody can prove, or write down, is waited for by the sweep of its mitras no longer."""
LEASE_NAME = "sweeps"
LEASE_TAKE_S = 1.0
LEASE_S = 4.0


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as its row says; `age_s` since its last beat."""

    id: str
    name: str
    version: str
    started_at: datetime
    state: str
    sockets: int
    beats_per_s: float | None
    loop_lag_s: float | None
    """None: an earlier version, which does not say, or nothing was measured yet."""
    age_s: float


@dataclass(frozen=True, slots=True)
class Witness:
    """What the judging instance itself had, in seconds without a break; 0 when it has it not."""

    postgres_s: float
    valkey_s: float
    valkey_away: bool


def is_dead(age_s: float, has_lease: bool | None, witness: Witness) -> bool:
    """Whether an instance is proven dead. `has_lease` None: Valkey could not be asked."""
    if has_lease is None:
        return witness.valkey_away and min(age_s, witness.postgres_s) >= DEAD_WITHOUT_VALKEY_S
    return not has_lease and min(age_s, witness.postgres_s, witness.valkey_s) >= DEAD_S


def still_living(lived: Collection[str], instances: Sequence[Instance], postgres_s: float) -> set[str]:
    """Whom a reading of the rows shows to live. During an outage of Postgres nobody can say so: who lived before it has
    as long as a death takes, from its end on, to speak again.
    """
    return {each.id for each in instances if each.age_s < DEAD_S or (postgres_s < DEAD_S and each.id in lived)}


def absences(
    known: Mapping[str, tuple[float, float]],
    leases: Mapping[str, bool | None],
    now: float,
    *,
    stale_s: float,
    unseen_s: float,
) -> dict[str, tuple[float, float]]:
    """Since when and until when instances were seen without a lease, look after look.

    `leases` is a look at `now`; None: who could not be looked at. `unseen_s` is for how long no lease can come and go
    between two looks: what was known longer ago proves nothing, unless it had lasted for a stale period.
    """
    found = {}
    for instance_id, has_lease in leases.items():
        since, until = known.get(instance_id, (now, now))
        if until - since <= stale_s and now - until > unseen_s:
            since = until = now
        if has_lease is False:
            found[instance_id] = since, now
        elif has_lease is None and since < now:
            found[instance_id] = since, until
    return found


def older_leads(instance_id: str, instances: Sequence[Instance]) -> bool:
    """Whether one that started earlier is there to lead. `instances` in the order in which they started."""
    older = takewhile(lambda each: each.id != instance_id, instances)
    return any(each.state == "ready" and each.age_s < 2 * BEAT_S for each in older)


class Liveness:
    """Beats this instance's row, knows the others, and is the leader while it holds the one lease."""

    def __init__(
        self,
        instance_id: str,
        name: str,
        postgres: Postgres,
        valkey: Valkey,
        mirror: Mirror,
        transitions: Transitions,
        *,
        state: Callable[[], str],
        sockets: Callable[[], int],
        vitals: Vitals,
        leased_since: Callable[[], float | None],
        ready_since: Callable[[], float | None],
        grace_s: float,
        stale_s: float,
        lease_s: float,
    ) -> None:
        self.instance_id = instance_id
        self._name = name
        self._postgres = postgres
        self._valkey = valkey
        self._mirror = mirror
        self._transitions = transitions
        self._state = state
        self._sockets = sockets
        self._vitals = vitals
        self._leased_since = leased_since
        self._ready_since = ready_since
        self._unfit_s = max(grace_s, DEAD_S)
        self._stale_s = stale_s
        self._lease_s = lease_s
        self._leader_until = 0.0
        self.led_until: datetime | None = None
        """Until when somebody was sure to lead before this instance did, on Postgres's clock; None: nobody ever did."""
        self._left = False
        self._beating = asyncio.Lock()
        """No beat is under way when the row goes: it would bring it back, and others would judge it."""
        self._read_at = 0.0
        self._absences: dict[str, tuple[float, float]] = {}
        """Of leases, while Postgres could not say who lives; until they speak."""
        self._living: set[str] = set()
        self.instances: Sequence[Instance] = ()

    @property
    def is_leader(self) -> bool:
        return time.monotonic() < self._leader_until

    def live_ids(self) -> list[str]:
        """Instances that live: their leases a warm mirror needs, their sockets are there."""
        gone = {each for each, (since, until) in self._absences.items() if until - since > self._stale_s}
        return [
            each.id
            for each in self.instances
            if each.id in self._living and each.state != "starting" and each.id not in gone
        ]

    def known_ids(self) -> list[str]:
        """Instances that may hold sockets: those that live, and those that somebody has yet to judge dead."""
        return [
            each.id
            for each in self.instances
            if each.state != "starting" and (each.age_s < UNJUDGED_S or each.id in self._living)
        ]

    def aged(self) -> list[Instance]:
        """All instances as last read, their ages as of now, this one's sockets too."""
        elapsed, sockets = time.monotonic() - self._read_at, self._sockets()
        return [
            replace(
                each,
                sockets=sockets if each.id == self.instance_id else each.sockets,
                age_s=each.age_s + elapsed,
            )
            for each in self.instances
        ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat_for_ever(), name="instance beats")
            tasks.create_task(self._judge_for_ever(), name="instance judge")
            tasks.create_task(self._lead_for_ever(), name="leader lease")

    async def beat(self) -> None:
        """Says that this instance lives, and reads who else does. Raises `PostgresUnavailable`."""
        async with self._beating:
            if not self._left:
                await self._say_and_read()

    async def _say_and_read(self) -> None:
        said = self._state(), self._sockets(), *self._vitals.take(time.monotonic())
        await self._postgres.execute(sql("instance_beat"), self.instance_id, self._name, __version__, *said)
        await self._read()
        silent = [each.id for each in self.instances if each.age_s >= DEAD_S]
        self._looked(dict.fromkeys(silent), self._read_at, 0.0)

    async def _read(self) -> None:
        read_at = time.monotonic()
        self.instances = [Instance(*record.values()) for record in await self._postgres.fetch(sql("instances_all"))]
        self._living = still_living(self._living, self.instances, self._postgres_s())
        self._read_at = read_at

    async def leave(self) -> None:
        """A clean stop: nobody need wait for this instance, nor judge it. It owns nothing any more."""
        self._left, self._leader_until = True, 0.0
        async with self._beating:
            await self._postgres.execute(sql("lease_drop"), LEASE_NAME, self.instance_id)
            await self._postgres.execute(sql("instance_forget"), self.instance_id, -1.0)

    async def _beat_for_ever(self) -> None:
        while True:
            try:
                await self.beat()
            except StoreUnavailable:
                log.info("instance.beat_failed")
                await self._watch_leases()
            await asyncio.sleep(BEAT_S)

    async def _watch_leases(self) -> None:
        """Without Postgres: once an instance's lease is gone for a stale period, its mitras' beats are stale, too."""
        now = time.monotonic()
        own = await self._has_lease(self.instance_id)
        leases = {each.id: await self._has_lease(each.id) if own else None for each in self.instances}
        wiped = own is False  # the mirror, if not this one's lease: that others have none proves nothing
        self._looked(leases, now, 0.0 if wiped else max(self._lease_s, 2 * BEAT_S))

    def _looked(self, leases: Mapping[str, bool | None], now: float, unseen_s: float) -> None:
        self._absences = absences(self._absences, leases, now, stale_s=self._stale_s, unseen_s=unseen_s)

    async def _judge_for_ever(self) -> None:
        while True:
            await asyncio.sleep(JUDGE_S)
            elapsed = time.monotonic() - self._read_at
            try:
                if self.is_leader and any(each.age_s + elapsed >= DEAD_S for each in self.instances):
                    await self._read()
                    await self._judge()
            except StoreUnavailable:
                log.info("instance.judging_failed")

    async def _lead_for_ever(self) -> None:
        while True:
            try:
                if self._state() == "ready" and not self._left and not await self._gives_way():
                    await self._lead()
            except PostgresUnavailable:
                self._leader_until = 0.0
            metrics.LEADER.set(self.is_leader)
            await asyncio.sleep(LEASE_TAKE_S)

    async def _lead(self) -> None:
        asked_at = time.monotonic()
        taken = await self._postgres.fetchrow(sql("lease_take"), LEASE_NAME, self.instance_id, LEASE_S)
        if taken is not None:
            if not self.is_leader:
                self.led_until = taken["ended"]
            self._leader_until = asked_at + LEASE_S
        else:
            self._leader_until = 0.0

    async def _gives_way(self) -> bool:
        """Who has just come may neither judge nor expire (R15): led by it, graces would wait that others could end."""
        ready_at = self._ready_since()
        if self.is_leader or ready_at is None or time.monotonic() - ready_at >= self._unfit_s:
            return False
        await self._read()
        return older_leads(self.instance_id, self.instances)

    async def _judge(self) -> None:
        if await self._has_lease(self.instance_id) is False:
            return  # the mirror has been wiped: that others have none proves nothing
        for instance in self.instances:
            if instance.id == self.instance_id or instance.age_s < DEAD_S:
                continue
            if is_dead(instance.age_s, await self._has_lease(instance.id), self._witness()):
                await self._bury(instance)

    def _witness(self) -> Witness:
        valkey = self._leased_since()
        valkey_s = time.monotonic() - valkey if valkey is not None else 0.0
        return Witness(self._postgres_s(), valkey_s, not self._valkey.available)

    def _postgres_s(self) -> float:
        since = self._postgres.available_since
        return time.monotonic() - since if since is not None else 0.0

    async def _has_lease(self, instance_id: str) -> bool | None:
        try:
            return await self._mirror.has_lease(instance_id)
        except StoreUnavailable:
            return None

    async def _bury(self, instance: Instance) -> None:
        """Its mitras become suspect; then its row goes, so that an interrupted burial is taken up again.

        It ends where the instance beats again.
        """
        log.warning("instance.died", extra={"instance": instance.id, "silent_s": round(instance.age_s, 1)})
        metrics.INSTANCES_JUDGED_DEAD.inc()
        while True:
            records = await self._postgres.fetch(sql("instance_rows"), instance.id, DEAD_S, FLUSH_MAX)
            if not records:
                break
            await self._declare_dead(instance.id, [record["mitra_id"] for record in records])
        await self._postgres.execute(sql("instance_forget"), instance.id, DEAD_S)

    async def _declare_dead(self, instance_id: str, mitra_ids: Sequence[str]) -> None:
        """Postgres may not have heard of beats that the mirror has: they are the last sign of life."""
        at, ages = time.monotonic(), {}
        try:
            ages = await self._mirror.beat_ages(mitra_ids)
        except ValkeyUnavailable:
            log.info("instance.beats_unknown", extra={"instance": instance_id})  # Postgres's word counts
        died = [(each, InstanceDied(instance_id, ages.get(each))) for each in mitra_ids]
        await asyncio.gather(*(self._transitions.submit(each, event, at=at) for each, event in died))

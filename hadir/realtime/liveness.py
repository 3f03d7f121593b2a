"""Which instances live: a row on Postgres's clock and a lease in Valkey; death takes proof from both."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hadir import __version__, metrics
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, StoreUnavailable
from hadir.realtime.mirror import Mirror
from hadir.realtime.presence import InstanceDied
from hadir.realtime.transitions import Transitions
from hadir.realtime.valkey import Valkey

log = logging.getLogger(__name__)

BEAT_S = 3.0
DEAD_S = 12.0
DEAD_WITHOUT_VALKEY_S = 60.0
LEASE_NAME = "sweeps"
LEASE_TAKE_S = 1.0
LEASE_S = 4.0
ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as its row says; `age_s` since its last beat."""

    id: str
    name: str
    version: str
    started_at: datetime
    state: str
    sockets: int
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
        leased_since: Callable[[], float | None],
    ) -> None:
        self.instance_id = instance_id
        self._name = name
        self._postgres = postgres
        self._valkey = valkey
        self._mirror = mirror
        self._transitions = transitions
        self._state = state
        self._sockets = sockets
        self._leased_since = leased_since
        self._leader_until = 0.0
        self.instances: Sequence[Instance] = ()

    @property
    def is_leader(self) -> bool:
        return time.monotonic() < self._leader_until

    def live_ids(self) -> list[str]:
        """Instances whose leases a warm mirror needs."""
        return [each.id for each in self.instances if each.age_s < DEAD_S and each.state != "starting"]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat_for_ever(), name="instance beats")
            tasks.create_task(self._lead_for_ever(), name="leader lease")

    async def beat(self) -> None:
        """Says that this instance lives, and reads who else does. Raises `PostgresUnavailable`."""
        await self._postgres.execute(
            sql("instance_beat"), self.instance_id, self._name, __version__, self._state(), self._sockets()
        )
        records = await self._postgres.fetch(sql("instances_all"))
        self.instances = [Instance(*record.values()) for record in records]

    async def leave(self) -> None:
        """A clean stop: nobody need wait for this instance, nor judge it."""
        self._leader_until = 0.0
        await self._postgres.execute(sql("lease_drop"), LEASE_NAME, self.instance_id)
        await self._postgres.execute(sql("instance_forget"), self.instance_id, -1.0)

    async def _beat_for_ever(self) -> None:
        while True:
            try:
                await self.beat()
                if self.is_leader:
                    await self._judge()
            except StoreUnavailable:
                log.info("instance.beat_failed")
            await asyncio.sleep(BEAT_S)

    async def _lead_for_ever(self) -> None:
        while True:
            asked_at = time.monotonic()
            try:
                if self._state() == "ready" and await self._postgres.fetchval(
                    sql("lease_take"), LEASE_NAME, self.instance_id, LEASE_S
                ):
                    self._leader_until = asked_at + LEASE_S
            except PostgresUnavailable:
                self._leader_until = 0.0
            metrics.LEADER.set(self.is_leader)
            await asyncio.sleep(LEASE_TAKE_S)

    async def _judge(self) -> None:
        for instance in self.instances:
            if instance.id == self.instance_id or instance.age_s < DEAD_S:
                continue
            if is_dead(instance.age_s, await self._has_lease(instance.id), self._witness()):
                await self._bury(instance)

    def _witness(self) -> Witness:
        now = time.monotonic()
        postgres, valkey = self._postgres.available_since, self._leased_since()
        return Witness(
            now - postgres if postgres is not None else 0.0,
            now - valkey if valkey is not None else 0.0,
            not self._valkey.available,
        )

    async def _has_lease(self, instance_id: str) -> bool | None:
        try:
            return await self._mirror.has_lease(instance_id)
        except StoreUnavailable:
            return None

    async def _bury(self, instance: Instance) -> None:
        """Its mitras become suspect; then its row goes, so that an interrupted burial is taken up again."""
        log.warning("instance.died", extra={"instance": instance.id, "silent_s": round(instance.age_s, 1)})
        metrics.INSTANCES_JUDGED_DEAD.inc()
        while True:
            records = await self._postgres.fetch(sql("instance_rows"), instance.id, ROWS_AT_ONCE)
            if not records:
                break
            died = InstanceDied(instance.id)
            await asyncio.gather(*(self._transitions.submit(record["mitra_id"], died) for record in records))
        await self._postgres.execute(sql("instance_forget"), instance.id, DEAD_S)

"""The node: opens all of an instance in order, knows how it fares, drains it, closes it."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from types import TracebackType
from typing import Self

from hadir import metrics
from hadir.config import Config
from hadir.db import migrate
from hadir.db.pool import Postgres
from hadir.errors import HadirError, SchemaBehind, StoreUnavailable
from hadir.realtime import rows as presence_rows
from hadir.realtime.aftermath import look_again
from hadir.realtime.appconfig import AppConfig
from hadir.realtime.availability import Availability
from hadir.realtime.bell import Bell
from hadir.realtime.board import Board
from hadir.realtime.bus import Bus, BusEvent
from hadir.realtime.census import answer_census
from hadir.realtime.connection import Connection, MitraSockets
from hadir.realtime.customers import Customer, CustomerSockets
from hadir.realtime.dashboards import Dashboards
from hadir.realtime.feed import Feed
from hadir.realtime.heartbeats import Heartbeats
from hadir.realtime.keys import Keys
from hadir.realtime.liveness import Liveness
from hadir.realtime.market import Market
from hadir.realtime.messages import CloseCode, encode
from hadir.realtime.mirror import Mirror
from hadir.realtime.peer import Peer, Verify
from hadir.realtime.presence import Row, Rules
from hadir.realtime.registry import Registry
from hadir.realtime.seeding import Seeder
from hadir.realtime.series import Series
from hadir.realtime.sweeps import Sweeps
from hadir.realtime.transitions import Transitions
from hadir.realtime.valkey import Valkey
from hadir.realtime.vitals import Vitals
from hadir.realtime.waiters import Waiters
from hadir.realtime.work import WorkReader

log = logging.getLogger(__name__)

STORES_WAIT_S = 3.0
SEED_WAIT_S = 5.0
BUS_WAIT_S = 1.0
TICK_S = 1.0
DRAIN_STEP_S = 0.1
DRAIN_SHARE = 0.75
"""Whatever the pace, the last are asked to go after this part of a drain; the rest is for their coming elsewhere."""
FLUSH_WAIT_S = 3.0
RESTART_S = 1.0


class Node:
    """One instance's realtime half. `async with` starts it; `drain` then exit stops it."""

    def __init__(self, config: Config, verify: Verify) -> None:
        self.config = config
        self.id = f"{config.instance_name}-{secrets.token_hex(4)}"
        self.state = "starting"
        self.why_starting = "Postgres has not been reached yet."
        self.ready_since: float | None = None
        self.keys = keys = Keys(config.valkey_hash_tag)
        self.postgres = Postgres(config.database_url, pool_max=config.database_pool_max, pooler=config.database_pooler)
        self.valkey = Valkey(config.valkey_url)
        self.registry: Registry[Connection] = Registry("mitra")
        self.customers: Registry[Customer] = Registry("customer")
        self.work = WorkReader(self.postgres)
        self.waiters = Waiters()
        self.app_config = AppConfig(self.postgres)
        self._background: set[asyncio.Task[None]] = set()
        rules = Rules(config.offline_grace_s, config.long_grace_s, config.heartbeat_stale_s)
        self.mirror = Mirror(
            self.valkey,
            keys,
            stale_s=config.heartbeat_stale_s,
            interval_s=config.heartbeat_interval_s,
            postgres_fresh_s=config.postgres_fresh_s,
            lease_s=config.instance_lease_s,
            reread=lambda ids: presence_rows.read(self.postgres, ids),
            live_instances=lambda: self.liveness.live_ids(),
            on_backwards=lambda: self._spawn(self.seeder.went_back()),
            on_overflow=lambda: self.seeder.missed(),
        )
        self.transitions = Transitions(self.postgres, self.mirror, rules)
        self.seeder = Seeder(self.mirror, self.postgres, keys)
        self.bus = Bus(config.valkey_url, self.valkey, keys, self.id)
        self.availability = Availability(
            self.mirror,
            self.postgres,
            cache_s=config.beacon_cache_s,
            postgres_fresh_s=config.postgres_fresh_s,
            live_instances=lambda: self.liveness.live_ids(),
        )
        self.sockets = MitraSockets(
            config,
            self.id,
            self.transitions,
            self.mirror,
            self.registry,
            self.work,
            self.app_config,
            postgres_available=lambda: self.postgres.available,
            verify=verify,
        )
        self.customer_sockets = CustomerSockets(
            config, self.postgres, self.customers, self.work, self.app_config, verify=verify
        )
        self.heartbeats = Heartbeats(
            config,
            self.id,
            self.mirror,
            self.postgres,
            self.registry,
            reclaim=self.sockets.reclaim,
            on_cold=self.seeder.went_cold,
            on_clock_jump=self.seeder.went_back,
        )
        self.vitals = Vitals(time.monotonic())
        self.liveness = Liveness(
            self.id,
            config.instance_name,
            self.postgres,
            self.valkey,
            self.mirror,
            self.transitions,
            state=lambda: self.state,
            sockets=lambda: len(self.registry),
            vitals=self.vitals,
            leased_since=lambda: self.heartbeats.leased_since,
            ready_since=lambda: self.ready_since,
            grace_s=config.offline_grace_s,
            stale_s=config.heartbeat_stale_s,
            lease_s=config.instance_lease_s,
        )
        self.feed = Feed(
            self.postgres,
            self.mirror,
            self.transitions,
            self.registry,
            self.customers,
            self.work,
            self.waiters,
            self.app_config,
            bus_up=lambda: self.bus.up,
            is_leader=lambda: self.liveness.is_leader,
            led_until=lambda: self.liveness.led_until,
        )
        self.bell = Bell(self.postgres, self.mirror, self.bus, self.feed, self.id, changed=self.rows_changed)
        self.market = Market(
            config, self.postgres, self.availability, self.work, self.bell, spawn=self._spawn, read=self.feed.read
        )
        self.board = Board(
            self.postgres, self.availability, connected=self.connected, instances=lambda: self.liveness.aged()
        )
        self.dashboards = Dashboards(config, self.id, self.postgres, self.board, verify=verify)
        self.series = Series(
            self.postgres,
            self.availability,
            is_leader=lambda: self.liveness.is_leader,
            connected=self.connected,
            instances=lambda: self.liveness.aged(),
        )
        self.sweeps = Sweeps(
            config,
            self.postgres,
            self.mirror,
            self.transitions,
            self.seeder,
            is_leader=lambda: self.liveness.is_leader,
            ready_since=lambda: self.ready_since,
            leased_since=lambda: self.heartbeats.leased_since,
            instances=lambda: self.liveness.known_ids(),
            changed=self.rows_changed,
        )
        self._wire()

    def _wire(self) -> None:
        """Who hears of what."""
        self.sockets.beaten = self.heartbeats.note
        self.transitions.on_rows.append(self.rows_changed)
        self.transitions.on_rows.append(self.bell.reachable)
        self.feed.on_changed.append(self.dashboards.changed)
        self.feed.on_revoked.append(self.dashboards.revoked)
        self.valkey.on_lost.append(self.heartbeats.valkey_lost)
        self.seeder.on_seeded.append(self.heartbeats.hurry)
        self.valkey.on_back.append(self._valkey_back)
        self.postgres.on_back.append(self._postgres_back)
        self.bus.on_gap.append(self.feed.gap)
        self.bus.on_event.append(self._heard)
        self.app_config.on_change.append(self._config_changed)

    # life

    async def __aenter__(self) -> Self:
        self._stack = stack = AsyncExitStack()
        try:
            await stack.enter_async_context(self.postgres)
            await stack.enter_async_context(self.valkey)
            await stack.enter_async_context(self.transitions)
            await stack.enter_async_context(self.market)
            await stack.enter_async_context(self.customer_sockets)
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            stack.push_async_callback(self._cancel_tasks)
            await self._open()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        self.state = "stopped"
        await self._stack.aclose()

    async def _cancel_tasks(self) -> None:
        for task in self._background:
            task.cancel()

    async def _open(self) -> None:
        """Postgres → Valkey → seed → subscribe. Without Postgres it goes on trying, and says so."""
        if not await _within(STORES_WAIT_S, lambda: self.postgres.available) or not await self._has_schema():
            log.warning("node.waits_for_postgres")
        for run in (self.seeder.run, self.heartbeats.run, self.bus.run, self.feed.run, self.dashboards.run, self._tick):
            self._supervise(run)
        if await _within(STORES_WAIT_S if self.postgres.available else 0.1, lambda: self.valkey.available):
            await _within(SEED_WAIT_S, lambda: self.heartbeats.leased_since is not None)
        await _within(BUS_WAIT_S, lambda: self.bus.up)
        self._supervise(self._contact)
        await _within(STORES_WAIT_S if self.postgres.available else 0.0, lambda: self.state == "ready")
        for work in (self.liveness.run, self.sweeps.run, self.series.run, *self.market.runs):
            self._supervise(work)

    async def _has_schema(self) -> bool:
        """False when Postgres is lost meanwhile. Raises `SchemaBehind`."""
        try:
            await self._check_schema()
        except StoreUnavailable:
            return False
        return True

    async def _check_schema(self) -> None:
        async with self.postgres.acquire() as connection:
            await migrate.check(connection)

    async def _become_ready(self) -> None:
        await self.app_config.reread()
        if self.state != "starting":
            return
        self.state = "ready"
        self.ready_since = time.monotonic()
        await self.liveness.beat()
        log.info("node.ready", extra={"instance": self.id})

    async def _contact(self) -> None:
        """Becomes ready when Postgres is first reached after a start without it."""
        while self.state == "starting":
            try:
                await self._check_schema()
                await self._become_ready()
            except SchemaBehind as behind:
                self.why_starting = str(behind)
                log.error("node.schema_behind", extra={"why": str(behind)})
            except StoreUnavailable:
                log.debug("node.waits_for_postgres")
            await asyncio.sleep(RESTART_S)
        await asyncio.Event().wait()

    def _supervise(self, run: Callable[[], Awaitable[None]]) -> None:
        task = self._tasks.create_task(self._keep_running(run), name=getattr(run, "__qualname__", str(run)))
        self._background.add(task)

    async def _keep_running(self, run: Callable[[], Awaitable[None]]) -> None:
        while self.state != "stopped":  # before Python 3.13 a TaskGroup that has just failed swallows a cancellation
            try:
                await run()
            except HadirError as error:
                log.warning("task.failed", extra={"task": getattr(run, "__qualname__", ""), "error": str(error)})
            except Exception:
                metrics.ERRORS.labels("task").inc()
                log.exception("task.crashed", extra={"task": getattr(run, "__qualname__", "")})
            await asyncio.sleep(RESTART_S)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        """A short piece of work that an event asks for; it ends with the node."""
        if self.state == "stopped":
            work.close()
            return
        task = self._tasks.create_task(_logged(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _tick(self) -> None:
        """Deadlines of sockets, and how late the loop was."""
        stood_still = False
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            metrics.LOOP_LAG_SECONDS.observe(max(0.0, now - due))
            self.vitals.lagged(now - due)
            stood_still = now - due > TICK_S and not stood_still
            if stood_still:
                continue  # beats may have arrived that nobody has read yet; once, or a slow loop would judge nobody
            for peer in self._peers():
                peer.tick(now)

    def _peers(self) -> list[Peer]:
        """All sockets of this instance."""
        return [*self.registry, *self.customers, *self.dashboards]

    # what happens

    def rows_changed(self, rows: Sequence[Row]) -> None:
        """Rows were committed and mirrored here: tell our own sockets, and the other instances."""
        self.feed.deliver(rows)
        for row in rows if log.isEnabledFor(logging.DEBUG) else ():
            log.debug("presence.changed", extra={"mitra": row.mitra_id, "state": row.state, "reason": row.reason})
        if rows:
            self.bus.publish("presence", (row.mitra_id for row in rows))

    def _postgres_back(self) -> None:
        self.feed.gap()
        if self.state != "starting":
            self._spawn(look_again(self.postgres, self.mirror, self.transitions, self.registry, self.id))

    def _valkey_back(self) -> None:
        self.heartbeats.start_over()
        self._spawn(self.seeder.valkey_back())

    def _heard(self, event: BusEvent) -> None:
        if event.type == "census":
            self._spawn(answer_census(self.valkey, self.id, self.registry, event.ids))
        else:
            self.feed.hear(event)

    def _config_changed(self) -> None:
        told = encode("config.updated", config=self.app_config.public())
        for party in (*self.registry, *self.customers):
            party.send(told)

    def connected(self) -> int:
        """Open mitra sockets on all live instances; the others' are as old as their last beat."""
        others = sum(each.sockets for each in self.liveness.instances if each.id != self.id)
        return others + len(self.registry)

    async def measure(self) -> None:
        """Sets the gauges that are of the moment at which somebody asks."""
        metrics.READY.set(self.state == "ready")
        metrics.MAX_CONNECTIONS.set(self.config.max_connections)
        busy, idle = self.postgres.in_use
        metrics.POSTGRES_CONNECTIONS.labels("busy").set(busy)
        metrics.POSTGRES_CONNECTIONS.labels("idle").set(idle)
        metrics.BATCH_WAITING.labels("transitions").set(self.transitions.waiting)
        metrics.TASKS.set(len(asyncio.all_tasks()))
        metrics.ALLOCATED_BLOCKS.set(sys.getallocatedblocks())
        try:
            counts = asdict(await self.availability.counts())
        except StoreUnavailable:
            counts = {}
        for state in ("online", "suspect", "available", "busy", "deactivated"):
            metrics.MITRAS.labels(state).set(counts.get(state, math.nan))

    def degraded(self) -> list[str]:
        """What does not work at the moment, one word each."""
        troubles = {
            "postgres": not self.postgres.available,
            "valkey": not self.valkey.available,
            "mirror": self.valkey.available and self.heartbeats.leased_since is None,
            "bus": not self.bus.up,
        }
        return [name for name, troubled in troubles.items() if troubled]

    # stop

    async def drain(self) -> None:
        """Sends every socket elsewhere, paced; ends the rest; leaves nothing unwritten that can be written."""
        self.state = "draining"
        self.sockets.draining = True
        started = time.monotonic()
        log.info("node.draining", extra={"sockets": len(self.registry)})
        await self._try(self.liveness.beat())
        await self._rotate_all(started)
        left = max(0.0, started + self.config.drain_s - time.monotonic())
        await _within(left, lambda: len(self.registry) + len(self.customers) == 0)
        for peer in self._peers():
            peer.close(CloseCode.RESTARTING)
        self.waiters.wake_all()
        written = await self._try(asyncio.wait_for(self.transitions.join(), FLUSH_WAIT_S))
        await self._try(self.heartbeats.flush())
        await self._try(self.bus.flush())
        if written:  # else its row stays, so that somebody judges it dead and takes over what it still owns
            await self._try(self.liveness.leave())
        log.info("node.drained", extra={"seconds": round(time.monotonic() - started, 1)})

    async def _rotate_all(self, started: float) -> None:
        waiting = self._peers()
        total = len(waiting)
        over_s = max(self._rotation_s(total), DRAIN_STEP_S)
        while waiting:
            elapsed = time.monotonic() - started
            share = min(1.0, (elapsed + DRAIN_STEP_S) / over_s)
            while waiting and total - len(waiting) < share * total:
                waiting.pop().rotate(time.monotonic(), 0.0, "restarting")
            await asyncio.sleep(DRAIN_STEP_S)

    def _rotation_s(self, sockets: int) -> float:
        """At half of what the others let in, if need be faster: the sooner one is asked, the longer it has to come."""
        longest_s = self.config.drain_s * DRAIN_SHARE
        others = sum(each.state == "ready" and each.id != self.id for each in self.liveness.instances)
        return min(longest_s, 2 * sockets / (others * self.config.connect_rate_per_s)) if others else longest_s

    async def _try(self, work: Awaitable[object]) -> bool:
        """A last step that a store may be too dead for; the others' judgement then takes its place."""
        try:
            await work
        except (HadirError, TimeoutError) as error:
            log.warning("node.drain_step_failed", extra={"error": str(error) or type(error).__name__})
            return False
        return True


async def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except HadirError as error:
        log.warning("task.failed", extra={"error": str(error)})
    except Exception:  # a defect met by one piece of work ends that, not the instance
        metrics.ERRORS.labels("task").inc()
        log.exception("task.crashed")

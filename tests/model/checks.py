"""What must hold in the simulated world, looked at with every commit, every second, and when all is quiet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from hadir.realtime.liveness import DEAD_S
from hadir.realtime.mirror import Held, _held
from hadir.realtime.pairing import LATE_S
from hadir.realtime.presence import LONG_GRACE_REASONS, Row, State, expiry_is_held
from hadir.realtime.verify import differences
from tests.model.postgres import EPOCH

if TYPE_CHECKING:
    from tests.model.app import App
    from tests.model.market import Search
    from tests.model.world import Host, World

SURE_S = 10.0
"""A mitra that has been well for so long has nothing under way any more."""
SLACK_S = 4.0
"""What R13 allows beyond its bounds (2 s), a second for the look itself, and the time that writes take."""
DUE_S = 6.0
"""What timers may be late, with all that their work takes."""
WANTED = frozenset({"status", "http", "operator", "deactivated", "revoked"})
"""Reasons for which a mitra is offline although its app is there."""


def short(row: Row) -> str:
    """A row, as far as it matters here."""
    at = [when and round((when - EPOCH).total_seconds(), 3) for when in (row.changed_at, row.last_heartbeat_at)]
    owner = f"{row.instance_id} {row.connection_id}"
    return f"{row.mitra_id[:8]} v{row.version} {row.state} ({row.reason}, wants {row.wants_online}) {owner} {at}"


class Broken(AssertionError):
    """An invariant does not hold."""


class Checks:
    """`committed` hears of every row, `look` comes every second."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.over = False
        self.troubled_at = 0.0
        """When something last kept Postgres' decisions from being taken in time."""
        self.valkey_troubled_at = 0.0
        self.cold_at = 0.0
        self.impossible_at = 0.0
        """When nobody could come back."""
        self._unwritable_at = 0.0
        self._ended: list[float] = []
        self._dead_at: dict[str, float] = {}
        self.commits = 0
        self.flaps = 0
        """Mitras that were suspected although they were well: allowed, and to be rare."""
        self.ghosts_seen = 0
        self.won = 0
        """Pairings that somebody won."""
        self._winners: dict[str, str] = {}
        self._told: dict[tuple[str, str], str] = {}
        self._versions: dict[str, int] = {}
        self._database: object = None

    def fail(self, rule: str, what: str) -> None:
        world = self.world
        broken = Broken(f"{rule}: {what} (seed {world.seed}, step {world.loop.steps}, {world.now:.3f} s)")
        world.loop.uncaught.append(broken)  # whoever catches it, the run ends here
        raise broken

    # how it is

    def fine_since(self, app: App) -> float | None:
        """Since when an app has been there, beating and heard by an instance that can keep it online."""
        now = self.world.now
        if app.over_http:
            late = now - app.beaten_at > 1.5 * self.world.config.heartbeat_interval_s
            return None if late or not app.there else app.beaten_since
        wire = app.wire
        if wire is None or wire.hello_at is None or not wire.claimed or wire.host.fine_since is None:
            return None
        return max(wire.hello_at, wire.host.fine_since)

    def is_sure(self, app: App) -> bool:
        since = self.fine_since(app)
        return since is not None and self.world.now - since > SURE_S

    # with every commit

    def committed(self, before: Row, row: Row) -> None:
        world = self.world
        if self.over:
            return
        self.commits += 1
        world.note("commit", row.mitra_id, row.version, row.state, row.reason)
        if row.version < before.version:
            self.fail("versions only grow", f"{row.mitra_id} from {before.version} to {row.version}")
        if row.open_sessions > row.max_sessions:
            self.fail("nobody has more sessions than may be (R7)", f"{short(row)} has {row.open_sessions}")
        app = world.apps[row.mitra_id]
        if before.is_online and not row.is_online and row.reason not in WANTED and self.is_sure(app):
            self.fail("no false offline (R4, R5, R15)", f"{short(row)} was {before.state} as {before.reason}")
        if before.state is State.SUSPECT and row.state is State.OFFLINE and row.reason not in WANTED | {"goodbye"}:
            self._held(row)
            grace = self.world.config.offline_grace_s
            if world.now - self.impossible_at < grace - 1.5:
                self.fail("grace is time in which coming back was possible (R15)", short(row))
        if before.state is State.ONLINE and row.state is State.SUSPECT and self.is_sure(app):
            self.flaps += 1
        if before.instance_id is not None and row.instance_id is None and row.reason not in WANTED | {"instance_died"}:
            self._fenced(before, row)

    def _held(self, row: Row) -> None:
        """R5: not too many graces end in one sweep, until the hold does."""
        if row.reason == "instance_died":
            return
        world, truth, config = self.world, self.world.truth, self.world.config
        self._ended = [at for at in self._ended if at > world.now - 0.5] + [world.now]
        began, count = truth.held_since, len(self._ended)
        over = began is not None and (truth.now - began).total_seconds() >= config.auto_offline_hold_s - 1.0
        if expiry_is_held(count, truth.online + count, 1.1 * config.auto_offline_max_fraction) and not over:
            self.fail("many at once are held (R5)", f"{count} beside {truth.online}, {short(row)} the last")

    def _fenced(self, before: Row, row: Row) -> None:
        """R3: nobody but its connection, once that is gone, gives up a row."""
        for host in self.world.hosts:
            if host.node is not None and host.node.id == before.instance_id and host.fine_since is not None:
                held = [each.connection_id for each in host.node.registry.of(row.mitra_id)]
                if before.connection_id in held and self.world.now - host.fine_since > SURE_S:
                    self.fail("fencing (R3)", f"{short(before)} lost its owner, which is there, by {row.reason}")

    # with every decision, and with every answer

    def decided(self, search: Search) -> None:
        if self.over:
            return
        self.world.note("decided", search.id, search.status, search.mitra_id)
        if search.id in self._winners:
            self.fail("a pairing is won once (R7)", f"{search.id} by {self._winners[search.id]}, then {search.status}")
        if search.status == "accepted":
            self.won += 1
            self._winners[search.id] = str(search.mitra_id)

    def told(self, pairing_id: str, mitra_id: str, result: str) -> None:
        """`busy` decides nothing. What was told once stays so, and is what Postgres has."""
        if self.over or result == "busy":
            return
        before = self._told.setdefault((pairing_id, mitra_id), result)
        if before != result:
            self.fail("nobody is told two outcomes (R7)", f"{mitra_id} of {pairing_id}: {before}, then {result}")
        if (result == "won") != (self._winners.get(pairing_id) == mitra_id):
            winner = self._winners.get(pairing_id)
            self.fail("who is told that it won, has (R7)", f"{mitra_id} of {pairing_id}: {result}; won by {winner}")

    # every second

    def look(self) -> None:
        if self.over:
            return
        self._look_at_hosts()
        self._look_at_rows()
        self._look_at_the_market()
        self._look_at_the_mirror()

    def _look_at_hosts(self) -> None:
        world, now = self.world, self.world.now
        for host in world.hosts:
            if not self._is_fine(host):
                host.fine_since = None
            elif host.fine_since is None:
                host.fine_since = now
        if not world.truth.up or not any(host.takes_sockets and host.postgres_line.open for host in world.hosts):
            self.impossible_at = now
        dead = [name for name in world.truth.instances if name not in self._living()]
        self._dead_at = {name: self._dead_at.get(name, now) for name in dead}
        if any(self._troubles()):
            self.troubled_at = now
            self._unwritable_at = now
        troubled_at = max(self._unwritable_at, self.valkey_troubled_at, self.cold_at)
        if any(now - max(at, troubled_at) > DEAD_S + 2 * SLACK_S for at in self._dead_at.values()):
            self.fail("the dead are buried (R13)", f"{dead}")
        if dead:
            self.troubled_at = now
        server = world.server
        lines = [host.valkey_line.open for host in world.hosts]
        if not (server.up and not server.frozen and all(lines)) or server.lost + server.late + server.unanswered > 0:
            self.valkey_troubled_at = now
        if self._warm() is None:
            self.cold_at = now

    def _is_fine(self, host: Host) -> bool:
        world = self.world
        if not host.is_up or host.frozen or host.node is None or host.node.state not in ("ready", "draining"):
            return False
        valkey = world.server.up and not world.server.frozen and host.valkey_line.open
        return (world.truth.up and host.postgres_line.open) or valkey

    def _troubles(self) -> Iterator[bool]:
        """What suspends R13's bounds: nobody can write, nobody leads, the leader must wait (R15), R5 holds."""
        world, grace = self.world, self.world.config.offline_grace_s
        yield not world.truth.up
        yield world.truth.held_since is not None
        yield any(host.frozen or not host.postgres_line.open for host in world.hosts)
        lease = world.truth.lease
        leads = [
            host.node
            for host in world.hosts
            if host.node is not None
            and lease is not None
            and host.node.id == lease.holder
            and lease.until > world.truth.now
        ]
        yield not leads
        for node in leads:
            ready, postgres = node.ready_since, node.postgres.available_since
            yield ready is None or postgres is None or world.now - max(ready, postgres) < grace + 1.0

    def _living(self) -> set[str]:
        return {host.node.id for host in self.world.hosts if host.node is not None and host.is_up}

    def _look_at_rows(self) -> None:
        world, config = self.world, self.world.config
        for mitra_id, row in world.truth.rows.items():
            if not row.is_online:
                continue
            app = world.apps[mitra_id]
            troubled_at = (
                max(self.troubled_at, self.valkey_troubled_at, self.cold_at) if app.over_http else self.troubled_at
            )
            if row.suspect_since is not None:
                grace = config.long_grace_s if row.reason in LONG_GRACE_REASONS else config.offline_grace_s
                since = max((row.suspect_since - EPOCH) / timedelta(seconds=1), troubled_at)
                if world.now > since + grace + SLACK_S:
                    self.fail("no ghosts (R13)", f"{short(row)} is suspect for too long; its app left by {app.left_by}")
            elif not app.there:
                self.ghosts_seen += 1
                extra = config.auto_offline_sweep_s + 2 * config.heartbeat_interval_s if app.over_http else 0.0
                if world.now > max(app.gone_at, troubled_at) + config.heartbeat_stale_s + extra + SLACK_S:
                    self.fail("no ghosts (R13)", f"{short(row)} is in the pool; its app left by {app.left_by}")

    def _look_at_the_market(self) -> None:
        """What is due is done, where somebody could."""
        world, bazaar = self.world, self.world.truth.bazaar
        possible_at = max(self.troubled_at, self.impossible_at)
        due = [(search.expires_at + timedelta(seconds=LATE_S), search.id) for search in bazaar.searching.values()]
        for work in bazaar.open.values():
            until = work.payment_due_at if work.status == "pending_payment" else work.expires_at
            due += [(until, work.id)] if until is not None else []
        for until, name in due:
            if world.now > max((until - EPOCH) / timedelta(seconds=1), possible_at) + DUE_S:
                self.fail("what nobody accepts, pays or extends ends in time", f"{name} was due at {until}")

    def _look_at_the_mirror(self) -> None:
        world = self.world
        database = world.server.database
        versions: dict[str, str] = database.values.get("mitras:versions", {})
        if database is self._database and len(versions) >= len(self._versions):
            for mitra_id, version in self._versions.items():
                if int(versions.get(mitra_id, 0)) < version and "mirror:seeded" in database.values:
                    self.fail("versions never go backwards in the mirror (R2)", mitra_id)
        self._database = database
        self._versions = {mitra_id: int(version) for mitra_id, version in versions.items()}
        if world.now - max(self.valkey_troubled_at, self.troubled_at) < SURE_S:
            return
        found = self._warm()
        if found is None:
            return
        fresh_from = world.server.now_ms - round(world.config.heartbeat_stale_s * 1000)
        available: dict[str, int] = database.values.get("mitras:available", {})
        for app in world.apps.values():
            row = world.truth.rows[app.mitra_id]
            settled = (world.truth.now - row.changed_at).total_seconds() > SURE_S
            is_available = available.get(app.mitra_id, 0) >= fresh_from
            settled = settled and world.now - app.toggled_at > SURE_S
            if app.wants and row.is_active and row.has_capacity and settled and self.is_sure(app) and not is_available:
                held = {
                    key: value.get(app.mitra_id) for key, value in database.values.items() if isinstance(value, dict)
                }
                self.fail("a warm mirror has everybody (R9)", f"{short(row)} is not available; held: {held}")

    def _warm(self) -> Host | None:
        """Somebody for whom the mirror is warm."""
        world = self.world
        for host in world.hosts:
            if host.fine_since is None or host.node is None:
                continue
            keys = host.node.keys
            leases = [keys.instance(name) for name in host.node.liveness.live_ids()]
            if world.server.database._is_warm(world.server.now_ms, keys.seeded, leases):
                return host
        return None

    # when all is quiet

    def quiet(self) -> list[str]:
        """What differs from what the apps are, from Postgres to the mirror's counts; nothing may."""
        return [*self._rows_differ(), *self._market_differs(), *self._mirror_differs()]

    def _market_differs(self) -> Iterator[str]:
        bazaar = self.world.truth.bazaar
        for name in bazaar.searching:
            yield f"{name} is still searched for"
        for mitra_id, offers in bazaar.offered.items():
            if offers:
                yield f"{mitra_id} has open offers of {[*offers]}"
        for row in self.world.truth.rows.values():
            if row.open_sessions != len(bazaar.of_mitra(row.mitra_id)):
                yield f"{short(row)} counts {row.open_sessions} sessions"
        sessions = [
            each.session_id for each in bazaar.searches.values() if each.status == "accepted" and not each.reroute
        ]
        if len(sessions) != len(set(sessions)) or not bazaar.works.keys() >= set(sessions):
            yield "two pairings share a session, or one has none"

    def _rows_differ(self) -> Iterator[str]:
        for mitra_id, app in self.world.apps.items():
            row = self.world.truth.rows[mitra_id]
            expected = State.ONLINE if app.there and app.wants else State.OFFLINE
            if row.state is not expected:
                yield f"{short(row)} should be {expected}: its app left by {app.left_by}"
            elif app.wire is not None and row.connection_id != (app.wire.peer and app.wire.peer.connection_id):
                yield f"{short(row)} is not owned by its app's connection"

    def _mirror_differs(self) -> Iterator[str]:
        world = self.world
        host = self._warm()
        if host is None or host.node is None:
            yield "the mirror is cold"
            return
        keys, rows, now_ms = host.node.keys, world.truth.rows, world.server.now_ms
        stale_ms = round(world.config.heartbeat_stale_s * 1000)
        names = [*keys.sets_of_ids, *(key for each in rows for key in (keys.capacity(each), keys.heartbeat(each)))]
        *flat, _ = world.server.database.run("inspect", names, list(rows), now_ms)
        held: list[Held] = [_held(flat[n : n + 9]) for n in range(0, len(flat), 9)]
        for row, each in zip(rows.values(), held, strict=True):
            yield from differences(row, each, now_ms, stale_ms)
        leases = [keys.instance(name) for name in host.node.liveness.live_ids()]
        named = [keys.seeded, keys.online, keys.heartbeats, keys.available, keys.deactivated, keys.snapshot, *leases]
        counted = world.server.database.run("counts", named, [stale_ms, 0, "0"], now_ms)[2:5]
        there = [app for app in world.apps.values() if app.there and app.wants]
        fit = sum(rows[app.mitra_id].has_capacity for app in there)
        if counted != [len(there), len(there), fit]:
            yield f"counted {counted}, there are {len(there)}, {fit} with capacity"

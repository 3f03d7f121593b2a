"""Interleavings that once broke a rule, each forced."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest

from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from hadir.errors import PostgresUnavailable
from hadir.realtime import capacity, liveness, mirror
from hadir.realtime.liveness import Instance, absences, still_living
from hadir.realtime.node import Node
from tests.support import eventually
from tests.support.system import FAST, Account, Served, System

EPOCH = datetime.fromtimestamp(0, UTC)
CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}


def node_of(served: Served) -> Node:
    assert served.node is not None
    return served.node


@asynccontextmanager
async def row_held(system: System, mitra: Account) -> AsyncIterator[None]:
    """Another program holds the lock of a mitra's row."""
    await system.sql.execute("BEGIN")
    await system.sql.execute("SELECT FROM mitra_presence WHERE mitra_id = $1 FOR UPDATE", mitra.id)
    try:
        yield
    finally:
        await system.sql.execute("COMMIT")


@asynccontextmanager
async def cut_off_from_postgres(node: Node) -> AsyncIterator[None]:
    """This instance alone cannot reach Postgres."""
    url = node.postgres._url
    node.postgres._url = "postgresql://hadir@127.0.0.1:1/nobody"
    node.postgres._mark_lost(OSError("cut off"))
    try:
        yield
    finally:
        node.postgres._url = url


async def open_session(system: System, mitra: Account) -> None:
    customer = str(uuid.uuid4())
    await system.sql.execute("INSERT INTO customers (id) VALUES ($1)", customer)
    await system.sql.execute(
        "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) VALUES (gen_random_uuid(), $1, $2, 'active')",
        customer,
        mitra.id,
    )


async def test_a_row_that_somebody_holds_stops_nobody_else(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        held, other, later = await system.account(), await system.account(), await system.account()
        await system.phone(served, other)
        async with row_held(system, held):
            waiting = asyncio.create_task(system.phone(served, held))
            await eventually(lambda: node_of(served).registry.of(held.id))
            phone = await system.phone(served, later)
            assert phone.hello["state"]["pending"] is False
            answer = await system.http.post(f"{served.url}/api/mitra/status/offline", headers=other.bearer)
            assert answer.status_code == 200
            assert (await waiting).hello["state"]["pending"] is True, "it waits, and says so"
            answer = await system.http.post(f"{served.url}/api/mitra/status/offline", headers=held.bearer)
            assert answer.status_code == 503, "who needs that row is told in time"
            assert node_of(served).postgres.available, "a lock is no outage"
        await (await waiting).message("sync")
        await system.becomes(held, "online")


async def test_what_changed_while_nobody_led_is_applied_by_the_next_leader(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        node, mitra = node_of(served), await system.account()
        await system.phone(served, mitra)
        await system.available(served, 1)
        await system.sql.execute("UPDATE leases SET holder = 'gone', expires_at = now() + interval '5 s'")
        await eventually(lambda: not node.liveness.is_leader, 10)
        await open_session(system, mitra)
        written = (await system.row(mitra))["changed_at"]
        await eventually(lambda: node.feed.since is not None and node.feed.since > written, 10)
        assert not node.liveness.is_leader, "it read the change without leading"
        await system.available(served, 0, within=12)


async def test_a_socket_whose_claim_a_failover_lost_is_told_to_come_again(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        mitra = await system.account()
        await (await system.phone(served, mitra)).goodbye()
        old = await system.becomes(mitra, "offline")
        phone = await system.phone(served, mitra)
        await system.available(served, 1)
        await system.sql.execute("SET session_replication_role = replica")
        await system.sql.execute(
            "UPDATE mitra_presence SET version = $2, is_online = false, online_since = NULL, connection_id = $3, "
            "instance_id = NULL, changed_at = $4, reason = $5 WHERE mitra_id = $1",
            *(mitra.id, old["version"], old["connection_id"], old["changed_at"], old["reason"]),
        )
        await system.sql.execute("SET session_replication_role = DEFAULT")
        await node_of(served).seeder.went_back()
        assert await phone.ended(within=10) == 1012
        await system.phone(served, mitra)
        await system.available(served, 1)


async def test_a_claim_that_had_to_wait_does_not_displace_a_newer_login(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        cut_off, served = await system.instance(), await system.instance()
        mitra = await system.account()
        again = await system.account(sub=mitra.id)
        node = node_of(cut_off)
        async with cut_off_from_postgres(node):
            old = await system.phone(cut_off, mitra)
            assert old.hello["state"]["pending"] is True
            came = time.monotonic()
            await eventually(lambda: time.monotonic() - came > 1.5)  # so long that it cannot be the network's delay
            new = await system.phone(served, again)
        assert await old.ended(within=10) == 4503
        await node.transitions.join()
        assert (await new.ask(type="ping"))["type"] == "pong"
        assert await system.log_of(mitra) == [("online", "connected")]


async def test_a_goodbye_after_a_burial_by_mistake_is_a_goodbye(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance(MITRA_OFFLINE_GRACE_SECONDS="30")
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        async with row_held(system, mitra):
            await system.sql.execute(
                "UPDATE mitra_presence SET version = version + 1, suspect_since = now(), instance_id = NULL, "
                "reason = 'instance_died' WHERE mitra_id = $1",
                mitra.id,
            )
            # Before the burial is heard of: a connection that still stands takes its row back.
            await phone.goodbye()
            await eventually(lambda: not node_of(served).registry.of(mitra.id))
        row = await system.becomes(mitra, "offline")
        assert row["reason"] == "goodbye"


async def test_beats_that_reach_the_mirror_late_never_shorten_a_life(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        node, mitra = node_of(served), await system.account()
        phone = await system.phone(served, mitra)
        key = f"mitra:heartbeat:{mitra.id}"
        await system.sql.execute("UPDATE mitra_presence SET last_heartbeat_at = now() - interval '30 s'")
        await phone.ask(type="ping")
        await eventually(lambda: system.valkey.get(key))
        before = await system.valkey.get(key)
        node.mirror._remember([mitra.id])
        await node.mirror.make_up()
        assert await system.valkey.get(key) >= before
        assert await system.valkey.pttl(key) > 50_000


async def test_more_than_can_be_remembered_takes_a_seed(database: str, valkey: EmbeddedValkey) -> None:
    before, mirror.FAILED_MAX = mirror.FAILED_MAX, 0
    try:
        async with System(database, valkey.url, CALM) as system:
            served = await system.instance()
            mitra = await system.account()
            await system.phone(served, mitra)
            await eventually(lambda: node_of(served).feed._led)  # what a new leader reads again is read by now
            await system.valkey.srem("mitras:online", mitra.id)
            node_of(served).mirror._remember([mitra.id])
            await eventually(lambda: system.valkey.sismember("mitras:online", mitra.id))
    finally:
        mirror.FAILED_MAX = before


async def test_what_was_missed_is_remembered_until_it_is_made_up_for(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        node, mitra = node_of(served), await system.account()
        await system.phone(served, mitra)
        async with cut_off_from_postgres(node):
            await system.valkey.srem("mitras:online", mitra.id)
            node.mirror._remember([mitra.id])
            with pytest.raises(PostgresUnavailable):
                await node.mirror.make_up()
        await eventually(lambda: system.valkey.sismember("mitras:online", mitra.id), 10)


async def test_a_stop_that_is_waited_for_leaves_nobody_cold(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(), await system.account()
        warm: list[bool] = []

        async def sample() -> None:
            while True:
                warm.append(await node_of(served).mirror.counts() is not None)
                await asyncio.sleep(0.02)

        async with system.running() as other:
            await eventually(lambda: len(node_of(served).liveness.live_ids()) == 2, 10)
            await eventually(lambda: node_of(served).mirror.counts())
            sampling = asyncio.create_task(sample())
            polling = asyncio.create_task(
                system.http.get(f"{other.url}/api/mitra/state?wait=25", headers=mitra.bearer, timeout=30)
            )
            await eventually(lambda: node_of(other).waiters.of([mitra.id]))
            await node_of(other).drain()
            assert (await polling).status_code == 200, "a request that waited has its answer"
            await node_of(other).liveness.beat()
        assert await system.sql.fetch("SELECT id FROM instances") == [(node_of(served).id,)]
        await eventually(lambda: len(node_of(served).liveness.live_ids()) == 1, 10)
        sampling.cancel()
        assert all(warm)


async def test_an_instance_that_could_not_write_its_closes_is_judged(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        await system.instance()
        stuck, other = await system.account(), await system.account()
        async with system.running() as leaves:
            await system.phone(leaves, stuck)
            await system.phone(leaves, other)
            async with row_held(system, stuck):
                await node_of(leaves).drain()
        # Its row is still there: the rest is the judgement of any dead instance.
        assert await system.sql.fetchval("SELECT count(*) FROM instances WHERE id = $1", node_of(leaves).id) == 1
        await system.becomes(other, "suspect")


async def test_a_burial_ends_where_the_instance_beats_again(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        judge, lives = await system.instance(), await system.instance()
        mitra = await system.account()
        await system.phone(lives, mitra)
        await node_of(lives).liveness.beat()
        await node_of(judge).liveness.beat()
        instance = next(each for each in node_of(judge).liveness.instances if each.id == node_of(lives).id)
        await node_of(judge).liveness._bury(instance)
        assert await system.log_of(mitra) == [("online", "connected")]
        assert await system.sql.fetchval("SELECT count(*) FROM instances") == 2


async def test_without_postgres_a_dead_instances_lease_is_not_waited_for_for_ever(
    valkey: EmbeddedValkey, own_postgres: EmbeddedPostgres
) -> None:
    short = {**FAST, "MITRA_HEARTBEAT_STALE_SECONDS": "2", "MITRA_HEARTBEAT_INTERVAL_SECONDS": "0.5"}
    before, liveness.BEAT_S, liveness.DEAD_S = (liveness.BEAT_S, liveness.DEAD_S), 0.2, 1.5
    try:
        async with System(own_postgres.url, valkey.url, short) as system:
            served = await system.instance()
            killed = await system.process()
            await eventually(lambda: len(node_of(served).liveness.live_ids()) == 2)
            await eventually(lambda: node_of(served).mirror.counts())
            await system.sql.execute("UPDATE instances SET beat_at = clock_timestamp()")
            await node_of(served).liveness.beat()
            assert len(node_of(served).liveness.live_ids()) == 2, "elsewhere death still takes longer"
            await own_postgres.stop()  # not killed: that would lose its last second, a row of the killed one in it
            await killed.kill()
            await eventually(lambda: not node_of(served).postgres.available, 10)
            await eventually(lambda: node_of(served).liveness.live_ids() == [node_of(served).id], 15)
            await system.available(served, 0, within=5)
            await own_postgres.start()
            await eventually(lambda: node_of(served).postgres.available, 10)
            await node_of(served).liveness.beat()
            assert node_of(served).liveness.live_ids() == [node_of(served).id], "an outage's end revives nobody"
    finally:
        liveness.BEAT_S, liveness.DEAD_S = before


async def test_who_lived_before_an_outage_of_postgres_is_given_time_to_speak_after_it(
    valkey: EmbeddedValkey, own_postgres: EmbeddedPostgres
) -> None:
    before, liveness.DEAD_S = liveness.DEAD_S, 3.0
    try:
        async with System(own_postgres.url, valkey.url, CALM) as system:
            reads, silent = await system.instance(), await system.instance()
            there = {node_of(reads).id, node_of(silent).id}
            await eventually(lambda: {*node_of(reads).liveness.live_ids()} == there, 10)
            await own_postgres.stop()
            node_of(silent).liveness._left = True  # it says nothing any more
            await eventually(lambda: not node_of(reads).postgres.available, 10)
            ended = time.monotonic() + liveness.DEAD_S
            await eventually(lambda: time.monotonic() > ended)
            await own_postgres.start()
            await eventually(lambda: node_of(reads).postgres.available, 10)
            # What a reading of the rows says now depends on how long Postgres has been back, and on nothing else.
            await node_of(reads).liveness.beat()
            rows = {each.id: each.age_s for each in node_of(reads).liveness.instances}
            assert rows[node_of(silent).id] > liveness.DEAD_S
            since = node_of(reads).postgres.available_since
            assert since is not None
            if time.monotonic() - since < liveness.DEAD_S:
                assert {*node_of(reads).liveness.live_ids()} == there
            await eventually(lambda: node_of(reads).liveness.live_ids() == [node_of(reads).id], 10)
    finally:
        liveness.DEAD_S = before


def test_who_was_dead_before_an_outage_of_postgres_is_given_nothing() -> None:
    def seen(**age_s: float) -> list[Instance]:
        return [Instance(name, name, "1", EPOCH, "ready", 0, None, None, age) for name, age in age_s.items()]

    assert still_living({"a"}, seen(a=60, b=60, c=1), postgres_s=0.5) == {"a", "c"}
    assert still_living({"a"}, seen(a=60, b=60, c=1), postgres_s=liveness.DEAD_S) == {"c"}


def test_a_lease_that_was_missing_for_a_moment_proves_nothing() -> None:
    look = partial(absences, stale_s=10, unseen_s=6)
    once = look({}, {"a": False, "b": True}, 10)
    assert once == {"a": (10, 10)}
    assert look(once, {"a": None, "b": None}, 20) == {}, "it may have come and gone between the looks"
    assert look(once, {"a": False}, 20) == {"a": (20, 20)}
    assert look(once, {"a": True}, 13) == {}
    half = look(once, {"a": None, "b": None}, 13)
    assert half == {"a": (10, 10)}, "a look that failed takes nothing back"
    twice = look(look(half, {"a": False, "b": False}, 15), {"a": False, "b": False}, 21)
    assert twice == {"a": (10, 21), "b": (15, 21)}
    assert absences(twice, {"a": None, "b": None}, 22, stale_s=10, unseen_s=0) == {"a": (10, 21)}, "known to be gone"
    assert look(twice, {"a": True, "b": None}, 99) == {}


async def test_an_idle_instance_renews_its_lease_however_short(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        beats = node_of(await system.instance()).heartbeats
        await eventually(lambda: not beats._all_again)
        beats._flushed_at, beats._lease_due = time.monotonic(), 0.0
        await beats.flush()
        assert beats._lease_due > time.monotonic()


async def test_a_mirror_wiped_while_postgres_is_away_proves_nobody_dead(
    valkey: EmbeddedValkey, own_postgres: EmbeddedPostgres
) -> None:
    async with System(own_postgres.url, valkey.url, CALM) as system:
        looks, other = await system.instance(), await system.instance()
        seen = node_of(looks).liveness
        there = {node_of(looks).id, node_of(other).id}
        await eventually(lambda: {*seen.live_ids()} == there, 10)
        await own_postgres.stop()
        await system.valkey.flushall()  # and nobody can fill it again, or take a lease in it
        seen._stale_s = 0.0
        for _ in range(2):
            await seen._watch_leases()
        assert {*seen.live_ids()} == there


async def test_two_changes_of_the_capacity_at_once_agree(database: str, valkey: EmbeddedValkey) -> None:
    before, capacity.AT_ONCE = capacity.AT_ONCE, 1
    try:
        async with System(database, valkey.url, CALM) as system:
            served = await system.instance()
            await system.accounts(20)
            operator = await system.account("operator")
            url = f"{served.inner_url}/api/internal/config/max_sessions"
            answers = await asyncio.gather(
                *(system.http.put(url, json={"value": value}, headers=operator.bearer) for value in (2, 3, 4))
            )
            assert all(answer.status_code == 200 for answer in answers)
            configured = await system.sql.fetchval("SELECT value FROM app_config WHERE key = 'max_sessions'")
            held = await system.sql.fetch("SELECT DISTINCT max_sessions FROM mitra_presence")
            assert [record["max_sessions"] for record in held] == [configured]
    finally:
        capacity.AT_ONCE = before


async def test_a_socket_that_is_claiming_when_the_drain_begins_is_told_to_reconnect(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance(DRAIN_SECONDS="2")
        node, mitra = node_of(served), await system.account()
        async with row_held(system, mitra):
            coming = asyncio.create_task(system.phone(served, mitra))
            await eventually(lambda: node.registry.of(mitra.id))
            draining = asyncio.create_task(node.drain())
            await eventually(lambda: node.registry.of(mitra.id)[0]._unsaid)
        phone = await coming
        assert (await phone.message("reconnect"))["reason"] == "restarting"
        await draining


async def test_a_change_of_the_capacity_that_was_stopped_halfway_is_finished(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM | {"VALKEY_ONLINE_MIRROR_SWEEP_SECONDS": "1"}) as system:
        await system.instance()
        mitra = await system.account()
        await system.sql.execute("INSERT INTO app_config (key, value) VALUES ('max_sessions', '7')")

        async def moved() -> bool:
            return bool((await system.row(mitra))["max_sessions"] == 7)

        await eventually(moved, 10)


async def test_a_beat_that_is_under_way_when_its_instance_leaves_does_not_bring_its_row_back(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        node = node_of(await system.instance())
        await system.sql.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END'; "
            "CREATE TRIGGER wait BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION wait()"
        )
        async with system.sql.transaction():
            await system.sql.execute("SELECT pg_advisory_xact_lock(42)")
            beating = asyncio.create_task(node.liveness.beat())

            async def waits() -> bool:
                return bool(await system.sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

            await eventually(waits)
            leaving = asyncio.create_task(node.liveness.leave())
            await asyncio.wait([leaving], timeout=0.5)  # it would be done by now, if it did not wait for the beat
        await asyncio.gather(beating, leaving)
        assert await system.sql.fetchval("SELECT count(*) FROM instances") == 0

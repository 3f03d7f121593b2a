"""Any program's write of a presence row counts: its version, its reason, its line in the log."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from hadir.db.queries import sql as query
from hadir.dev.embedded import EmbeddedPostgres
from tests.conftest import nothing_is_made
from tests.db.world import World

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_new_mitra_has_a_row_with_a_version_of_the_clock(world: World) -> None:
    before = time.time()
    row = await world.row(await world.mitra())
    assert before - 1 < row["version"] / 1e6 < time.time() + 1
    assert (row["is_active"], row["wants_online"], row["is_online"], row["reason"]) == (True, True, False, "created")


async def test_an_inserted_version_is_not_believed(world: World) -> None:
    mitra = await world.mitra()
    await world.sql.execute("DELETE FROM mitra_presence WHERE mitra_id = $1", mitra)
    await world.sql.execute("INSERT INTO mitra_presence (mitra_id, version) VALUES ($1, 7)", mitra)
    assert (await world.row(mitra))["version"] > 1e15


async def test_a_row_inserted_online_is_logged_and_one_that_is_inactive_cannot_be(world: World) -> None:
    online, inactive = await world.mitra(), await world.mitra()
    login = await world.login(inactive)
    await world.sql.execute("DELETE FROM mitra_presence")
    await world.sql.execute("INSERT INTO mitra_presence (mitra_id, is_online) VALUES ($1, true)", online)
    await world.sql.execute(
        "INSERT INTO mitra_presence (mitra_id, is_online, is_active) VALUES ($1, true, false)", inactive
    )
    assert await world.states(online) == [("online", "external")]
    assert (await world.row(online))["online_since"] is not None
    assert not (await world.row(inactive))["is_online"]
    assert await world.states(inactive) == [("offline", "external")]
    assert await world.sql.fetchval("SELECT revoked_at IS NOT NULL FROM auth_sessions WHERE id = $1", login)


async def test_every_change_bumps_version_and_changed_at(world: World) -> None:
    mitra = await world.mitra()
    row = await world.row(mitra)
    for assignment in (
        "is_online = true",
        "suspect_since = now()",
        "connection_id = 'c'",
        "instance_id = 'i'",
        "sid = gen_random_uuid()",
        "wants_online = false",
        "open_sessions = 1",
        "max_sessions = 3",
        "last_session_at = now()",
        "online_since = now() - interval '1 day'",
        "actor = 'somebody'",
        "reason = 'lost'",
        "is_active = false",
    ):
        later = await world.write(mitra, assignment)
        assert later["version"] > row["version"], assignment
        assert later["changed_at"] > row["changed_at"], assignment
        row = later


@pytest.mark.parametrize(
    "assignment",
    [
        "last_heartbeat_at = clock_timestamp()",
        "last_heartbeat_at = clock_timestamp(), version = version + 1",
        "is_online = is_online, reason = reason, changed_at = now(), last_heartbeat_at = clock_timestamp()",
        "suspect_since = now(), online_since = now()",  # of somebody who is offline
        "version = 1",
    ],
)
async def test_a_write_that_changes_nothing_but_a_beat_changes_no_version(world: World, assignment: str) -> None:
    mitra = await world.mitra()
    before = await world.row(mitra)
    after = await world.write(mitra, assignment)
    assert after["version"] == before["version"]
    assert after["changed_at"] == before["changed_at"]
    assert after["reason"] == before["reason"]
    assert not await world.log(mitra)


async def test_versions_go_on_where_the_stored_one_is_ahead_of_the_clock(world: World) -> None:
    mitra = await world.mitra()
    ahead = int((time.time() + 3600) * 1e6)
    await world.sql.execute("ALTER TABLE mitra_presence DISABLE TRIGGER USER")
    await world.write(mitra, "version = $2", ahead)
    await world.sql.execute("ALTER TABLE mitra_presence ENABLE TRIGGER USER")
    assert (await world.write(mitra, "is_online = true"))["version"] == ahead + 1
    assert (await world.vouched(mitra, "lost", "suspect_since = now()"))["version"] == ahead + 2


async def test_two_changes_of_one_transaction_have_two_versions(world: World) -> None:
    mitra = await world.mitra()
    async with world.sql.transaction():
        first = await world.write(mitra, "is_online = true")
        second = await world.write(mitra, "is_online = false")
    assert second["version"] > first["version"]


async def test_another_programs_switch_is_external_and_moves_the_intent(world: World) -> None:
    mitra = await world.mitra()
    await world.vouched(mitra, "operator", "is_online = true, actor = 'op'")
    row = await world.write(mitra, "is_online = false")
    assert (row["reason"], row["actor"], row["wants_online"]) == ("external", None, False)
    row = await world.write(mitra, "is_online = true, actor = 'their batch'")
    assert (row["reason"], row["actor"], row["wants_online"]) == ("external", "their batch", True)
    assert [line["actor"] for line in await world.log(mitra)] == ["op", None, "their batch"]


async def test_an_intent_that_is_given_is_kept(world: World) -> None:
    mitra = await world.mitra()
    await world.write(mitra, "is_online = true")
    assert (await world.vouched(mitra, "lost", "is_online = false"))["wants_online"]
    await world.write(mitra, "wants_online = false")
    assert not (await world.vouched(mitra, "back", "is_online = true"))["wants_online"]
    assert (await world.write(mitra, "is_online = false, wants_online = true"))["wants_online"]


async def test_switching_on_somebody_out_of_service_changes_nothing(world: World) -> None:
    mitra = await world.mitra()
    before = await world.write(mitra, "is_active = false, wants_online = false")
    after = await world.write(mitra, "is_online = true")
    assert dict(after) == dict(before)


async def test_capacity_keeps_reason_actor_and_log(world: World) -> None:
    mitra = await world.mitra()
    before = await world.vouched(mitra, "back", "is_online = true, actor = 'x'")
    after = await world.write(mitra, "open_sessions = 2, max_sessions = 4, last_session_at = now()")
    assert (after["reason"], after["actor"]) == ("back", "x")
    assert after["version"] > before["version"]
    assert len(await world.log(mitra)) == 1


async def test_the_same_reason_twice_is_vouched_for_by_the_version(world: World) -> None:
    mitra = await world.mitra()
    await world.vouched(mitra, "lost", "is_online = true, suspect_since = now()")
    row = await world.vouched(mitra, "lost", "is_online = false")
    assert row["reason"] == "lost"
    assert await world.states(mitra) == [("suspect", "lost"), ("offline", "lost")]


async def test_out_of_service_is_offline_and_logged_out(world: World) -> None:
    mitra, other = await world.mitra(), await world.mitra()
    mine, theirs = await world.login(mitra), await world.login(other)
    as_customer = await world.login(mitra, role="customer")
    earlier = await world.login(mitra)
    await world.sql.execute("UPDATE auth_sessions SET revoked_at = $2 WHERE id = $1", earlier, now() - HOUR)
    await world.write(mitra, "is_online = true, suspect_since = now()")
    row = await world.write(mitra, "is_active = false")
    assert (row["is_online"], row["suspect_since"], row["online_since"]) == (False, None, None)
    assert row["wants_online"], "a deactivation is not the mitra's own switch"
    revoked = dict(await world.sql.fetch("SELECT id, revoked_at FROM auth_sessions"))
    assert revoked[mine] is not None
    assert revoked[theirs] is None
    assert revoked[as_customer] is None
    assert revoked[earlier] < now() - HOUR / 2
    row = await world.write(mitra, "is_active = true")
    assert not row["is_online"]
    assert await world.states(mitra) == [("suspect", "external"), ("offline", "external"), ("offline", "external")]


async def test_coming_online_starts_afresh_and_going_offline_ends_it(world: World) -> None:
    mitra = await world.mitra()
    await world.sql.execute("ALTER TABLE mitra_presence DISABLE TRIGGER USER")
    await world.write(mitra, "suspect_since = now() - interval '1 day'")
    await world.sql.execute("ALTER TABLE mitra_presence ENABLE TRIGGER USER")
    row = await world.write(mitra, "is_online = true")
    assert row["suspect_since"] is None
    assert row["online_since"] is not None
    kept = row["online_since"]
    row = await world.vouched(mitra, "lost", "suspect_since = now()")
    assert row["online_since"] == kept
    row = await world.write(mitra, "is_online = false")
    assert (row["suspect_since"], row["online_since"]) == (None, None)


async def test_the_log_tells_who_had_it(world: World) -> None:
    mitra = await world.mitra()
    await world.vouched(mitra, "connected", "is_online = true, connection_id = 'c', instance_id = 'i'")
    await world.vouched(mitra, "lost", "suspect_since = now(), instance_id = NULL")
    line = (await world.log(mitra))[-1]
    assert (line["connection_id"], line["instance_id"]) == ("c", "i")


@pytest.mark.parametrize("reason", ["lost", "stale", "goodbye", "instance_died", "protocol_error"])
async def test_an_end_is_logged_at_the_last_sign_of_life(world: World, reason: str) -> None:
    mitra = await world.mitra()
    came, beat = now() - 2 * HOUR, now() - HOUR
    await world.vouched(mitra, "connected", "is_online = true, online_since = $2, last_heartbeat_at = $2", came)
    await world.write(mitra, "last_heartbeat_at = $2", beat)
    await world.vouched(mitra, reason, "suspect_since = now()")
    await world.vouched(mitra, reason, "is_online = false")
    assert [line["at"] for line in await world.log(mitra)] == [came, beat, beat]
    assert all(line["recorded_at"] > now() - HOUR / 2 for line in await world.log(mitra))


@pytest.mark.parametrize("reason", ["operator", "deactivated", "revoked", "status", "http", "external"])
async def test_a_decision_is_logged_when_it_was_taken(world: World, reason: str) -> None:
    mitra = await world.mitra()
    beat = now() - HOUR
    await world.vouched(mitra, "connected", "is_online = true, online_since = $2, last_heartbeat_at = $2", beat)
    await world.vouched(mitra, reason, "is_online = false")
    assert (await world.log(mitra))[-1]["at"] > now() - HOUR / 2


async def test_a_history_is_in_the_order_in_which_it_happened(world: World) -> None:
    mitra = await world.mitra()
    moment = now()
    await world.vouched(mitra, "connected", "is_online = true, online_since = $2, last_heartbeat_at = $2", moment)
    await world.vouched(mitra, "lost", "suspect_since = now()")
    await world.vouched(
        mitra, "back", "suspect_since = NULL, last_heartbeat_at = $2", moment + timedelta(microseconds=9)
    )
    await world.vouched(mitra, "lost", "suspect_since = now()")
    await world.vouched(mitra, "lost", "is_online = false")
    await world.write(mitra, "is_online = true")
    await world.vouched(mitra, "stale", "suspect_since = now()")
    assert [state for state, _ in await world.states(mitra)] == [
        "online",
        "suspect",
        "online",
        "suspect",
        "offline",
        "online",
        "suspect",
    ]


async def test_no_line_is_before_the_one_before_it(world: World) -> None:
    """Who is taken back was last heard of when it was lost; and a clock is set back by an hour in between."""
    mitra = await world.mitra()
    beat = now() - HOUR
    await world.vouched(mitra, "connected", "is_online = true, online_since = $2, last_heartbeat_at = $2", beat)
    for _ in range(2):
        await world.vouched(mitra, "lost", "suspect_since = now()")
        await world.vouched(mitra, "back", "suspect_since = NULL")
    await world.vouched(mitra, "lost", "suspect_since = now()")
    await world.vouched(mitra, "lost", "is_online = false")
    said = ["online", *["suspect", "online"] * 2, "suspect", "offline"]
    assert [line["state"] for line in await world.log(mitra)] == said
    assert all(line["at"] - beat < timedelta(milliseconds=1) for line in await world.log(mitra))
    await world.sql.execute(
        "UPDATE presence_log SET at = at + interval '2 h', recorded_at = recorded_at + interval '2 h'"
    )
    for state in ("true", "false", "true", "false"):
        await world.write(mitra, f"is_online = {state}")
    lines = await world.log(mitra)
    assert [line["state"] for line in lines] == [*said, *["online", "offline"] * 2]
    assert lines[-1]["at"] - lines[len(said) - 1]["at"] < timedelta(milliseconds=1)


async def test_beats_are_hot_and_change_no_version(sql: asyncpg.Connection, postgres_server: EmbeddedPostgres) -> None:
    await nothing_is_made(postgres_server)
    await sql.execute("INSERT INTO mitras (id) SELECT gen_random_uuid() FROM generate_series(1, 500)")
    await sql.execute("UPDATE mitra_presence SET is_online = true")
    ids = [record["mitra_id"] for record in await sql.fetch("SELECT mitra_id FROM mitra_presence")]
    versions = await sql.fetch("SELECT mitra_id, version FROM mitra_presence ORDER BY mitra_id")
    shares = []
    for age in range(12, 0, -1):
        updates, hot = await _updates(sql)
        await sql.execute(query("beats_store"), ids, [float(age)] * len(ids))
        more_updates, more_hot = await _updates(sql)
        assert more_updates - updates == len(ids)
        shares.append((more_hot - hot) / len(ids))
    assert shares[-1] > 0.8, shares  # pages find their room within a few rounds, also where all beat at once
    assert await sql.fetch("SELECT mitra_id, version FROM mitra_presence ORDER BY mitra_id") == versions


async def test_no_index_has_the_beat(sql: asyncpg.Connection) -> None:
    indexes = await sql.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'mitra_presence'")
    assert len(indexes) > 1
    assert not [record["indexdef"] for record in indexes if "last_heartbeat_at" in record["indexdef"]]


async def test_every_column_but_the_beat_wakes_the_trigger(sql: asyncpg.Connection) -> None:
    columns = await sql.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'mitra_presence' EXCEPT "
        "SELECT event_object_column FROM information_schema.triggered_update_columns "
        "WHERE trigger_name = 'mitra_presence_update'"
    )
    assert [record["column_name"] for record in columns] == ["last_heartbeat_at"]


async def _updates(sql: asyncpg.Connection) -> tuple[int, int]:
    await sql.execute("SELECT pg_stat_force_next_flush()")
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    record = await sql.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'mitra_presence'"
    )
    assert record is not None
    return record["n_tup_upd"], record["n_tup_hot_upd"]


async def test_beats_never_lower_and_wait_for_nobody(world: World, database: str) -> None:
    mitra, locked = await world.mitra(), await world.mitra()
    fresh = (await world.write(mitra, "last_heartbeat_at = clock_timestamp()"))["last_heartbeat_at"]
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM mitra_presence WHERE mitra_id = $1 FOR UPDATE", locked)
            await world.sql.execute(query("beats_store"), [mitra, locked], [60.0, 0.0], timeout=3)
        assert (await world.row(mitra))["last_heartbeat_at"] == fresh
        assert (await world.row(locked))["last_heartbeat_at"] is None
        await world.sql.execute(query("beats_store"), [locked], [0.0])
        assert (await world.row(locked))["last_heartbeat_at"] is not None
    finally:
        await other.close()

"""Open sessions and limits reach the presence row in the transaction that changed them, whoever wrote."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from hadir.db.queries import sql as query
from hadir.realtime.rows import FIRST_ID
from tests.db.world import World, blocked


async def open_sessions(world: World, mitra: str) -> int:
    return int((await world.row(mitra))["open_sessions"])


async def test_sessions_are_counted_while_they_are_open(world: World) -> None:
    mitra = await world.mitra()
    (session,) = await world.session(mitra, status="pending_payment")
    assert await open_sessions(world, mitra) == 1
    for status, count in (("active", 1), ("ended", 0), ("active", 1), ("expired", 0), ("active", 1), ("cancelled", 0)):
        await world.sql.execute("UPDATE chat_sessions SET status = $2 WHERE id = $1", session, status)
        assert await open_sessions(world, mitra) == count, status
    await world.session(mitra, mitra)
    assert await open_sessions(world, mitra) == 2
    await world.sql.execute("DELETE FROM chat_sessions WHERE mitra_id = $1", mitra)
    assert await open_sessions(world, mitra) == 0


async def test_a_session_that_moves_counts_where_it_is(world: World) -> None:
    a, b = await world.mitra(), await world.mitra()
    (session,) = await world.session(a)
    await world.sql.execute("UPDATE chat_sessions SET mitra_id = $2 WHERE id = $1", session, b)
    assert (await open_sessions(world, a), await open_sessions(world, b)) == (0, 1)


async def test_one_statement_counts_for_all(world: World) -> None:
    mitras = [await world.mitra() for _ in range(20)]
    await world.session(*mitras, *mitras)
    assert [await open_sessions(world, mitra) for mitra in mitras] == [2] * 20
    await world.sql.execute("UPDATE chat_sessions SET status = 'ended'")
    assert [await open_sessions(world, mitra) for mitra in mitras] == [0] * 20


async def test_the_newest_session_is_known_and_never_forgotten(world: World) -> None:
    mitra = await world.mitra()
    (first,) = await world.session(mitra)
    at = (await world.row(mitra))["last_session_at"]
    assert at == await world.sql.fetchval("SELECT created_at FROM chat_sessions WHERE id = $1", first)
    (past,) = await world.session(mitra, status="ended")
    later = (await world.row(mitra))["last_session_at"]
    assert later > at, "a session that was over when it was written happened too"
    long_ago = datetime.now(UTC) - timedelta(days=9)
    await world.sql.execute("UPDATE chat_sessions SET created_at = $2 WHERE id = $1", past, long_ago)
    await world.sql.execute("DELETE FROM chat_sessions")
    assert (await world.row(mitra))["last_session_at"] == later


async def test_counting_keeps_the_reason_and_writes_only_what_differs(world: World) -> None:
    mitra, untouched = await world.mitra(), await world.mitra()
    before = await world.vouched(mitra, "back", "is_online = true")
    other = await world.row(untouched)
    (session,) = await world.session(mitra)
    row = await world.row(mitra)
    assert row["reason"] == "back"
    assert row["version"] > before["version"]
    await world.sql.execute("UPDATE chat_sessions SET status = 'pending_payment' WHERE id = $1", session)
    await world.sql.execute("UPDATE chat_sessions SET expires_at = now() WHERE id = $1", session)
    assert await world.row(mitra) == row
    assert await world.row(untouched) == other


async def test_what_changes_no_count_waits_for_no_mitra(world: World, database: str) -> None:
    mitra = await world.mitra()
    (session,) = await world.session(mitra)
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM mitra_presence WHERE mitra_id = $1 FOR UPDATE", mitra)
            await world.sql.execute("UPDATE chat_sessions SET expires_at = now() WHERE id = $1", session, timeout=2)
    finally:
        await other.close()


async def test_two_sessions_at_once_are_two(world: World, database: str) -> None:
    mitra, customer = await world.mitra(), str(uuid.uuid4())
    await world.sql.execute("INSERT INTO customers (id) VALUES ($1)", customer)
    insert = (
        "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) VALUES (gen_random_uuid(), $1, $2, 'active')"
    )
    other = await asyncpg.connect(database)
    try:
        mine = world.sql.transaction()
        await mine.start()
        await world.sql.execute(insert, customer, mitra)
        theirs = asyncio.create_task(other.execute(insert, customer, mitra))
        await blocked(database)
        await mine.commit()
        await theirs
    finally:
        await other.close()
    assert await open_sessions(world, mitra) == 2


async def test_many_sessions_at_once_in_any_order_are_all_counted(world: World, database: str) -> None:
    mitras = [await world.mitra() for _ in range(6)]
    customer = str(uuid.uuid4())
    await world.sql.execute("INSERT INTO customers (id) VALUES ($1)", customer)
    insert = (
        "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) "
        "SELECT gen_random_uuid(), $1, m, 'active' FROM unnest($2::uuid[]) AS m"
    )

    async def book(order: list[str]) -> None:
        connection = await asyncpg.connect(database)
        try:
            for _ in range(10):
                await connection.execute(insert, customer, order)
        finally:
            await connection.close()

    await asyncio.gather(*(book(mitras[n:] + mitras[:n]) for n in range(6)))  # a deadlock would raise
    assert [await open_sessions(world, mitra) for mitra in mitras] == [60] * 6


async def test_a_mitra_with_sessions_can_be_removed(world: World) -> None:
    mitra = await world.mitra()
    await world.session(mitra)
    await world.sql.execute("DELETE FROM mitras WHERE id = $1", mitra)
    assert not await world.sql.fetchval("SELECT count(*) FROM mitra_presence")
    assert not await world.sql.fetchval("SELECT count(*) FROM chat_sessions")


async def test_a_new_mitra_has_its_own_limit_or_the_configured_one_or_one(world: World) -> None:
    async def limit(own: int | None = None) -> int:
        return int((await world.row(await world.mitra(own)))["max_sessions"])

    assert (await limit(), await limit(5)) == (1, 5)
    await world.sql.execute(query("config_store"), "max_sessions", 3, "op")
    assert (await limit(), await limit(5)) == (3, 5)
    for unfit in ("three", {"n": 3}, [3]):
        await world.sql.execute(query("config_store"), "max_sessions", unfit, "op")
        assert await limit() == 1, unfit


async def test_a_changed_limit_moves_the_row_without_a_reason(world: World) -> None:
    mitra = await world.mitra()
    before = await world.vouched(mitra, "back", "is_online = true")
    await world.sql.execute("UPDATE mitras SET max_sessions = 4 WHERE id = $1", mitra)
    row = await world.row(mitra)
    assert (row["max_sessions"], row["reason"]) == (4, "back")
    assert row["version"] > before["version"]
    await world.sql.execute("UPDATE mitras SET max_sessions = 4, display_name = 'x' WHERE id = $1", mitra)
    assert (await world.row(mitra))["version"] == row["version"]
    await world.sql.execute("UPDATE mitras SET max_sessions = NULL WHERE id = $1", mitra)
    assert (await world.row(mitra))["max_sessions"] == 1
    assert len(await world.log(mitra)) == 1


async def test_a_limit_is_at_least_one(world: World) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await world.mitra(0)


async def test_a_new_default_moves_those_without_a_limit_of_their_own_in_chunks(world: World) -> None:
    mitras = sorted([await world.mitra() for _ in range(7)])
    own = await world.mitra(9)
    await world.vouched(mitras[0], "back", "is_online = true")
    await world.sql.execute("INSERT INTO app_config (key, value) VALUES ('max_sessions', '2')")
    moved: list[str] = []
    after = FIRST_ID
    while after is not None:
        chunk = await world.sql.fetch(query("capacity_resize"), after, 3)
        after = chunk[0]["last"]
        rows = [record for record in chunk if record["mitra_id"] is not None]
        assert len(rows) <= 3
        assert all(record["max_sessions"] == 2 and record["now"] for record in rows)
        moved += [record["mitra_id"] for record in rows]
    assert sorted(moved) == mitras
    assert (await world.row(own))["max_sessions"] == 9
    assert (await world.row(mitras[0]))["reason"] == "back"

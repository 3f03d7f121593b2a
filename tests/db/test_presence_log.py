"""The log's months: made ahead, filled from the default partition, dropped, never in the way of a connect."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime

import asyncpg
import pytest

from hadir.db.queries import sql as query
from tests.db.world import World


async def partitions(sql: asyncpg.Connection) -> set[str]:
    records = await sql.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'presence_log'::regclass"
    )
    return {record["name"] for record in records}


def part(months_ahead: int) -> str:
    today = datetime.now(UTC)
    month = today.year * 12 + today.month - 1 + months_ahead
    return f"presence_log_{month // 12:04}_{month % 12 + 1:02}"


async def write(world: World, mitra: str, at: datetime) -> None:
    await world.sql.execute(
        "INSERT INTO presence_log (at, mitra_id, state, reason) VALUES ($1, $2, 'online', 'connected')", at, mitra
    )


async def where(sql: asyncpg.Connection, mitra: str) -> list[str]:
    records = await sql.fetch(
        "SELECT tableoid::regclass::text AS part FROM presence_log WHERE mitra_id = $1 ORDER BY at", mitra
    )
    return [record["part"] for record in records]


async def test_this_month_and_the_next_two_are_there(sql: asyncpg.Connection) -> None:
    assert await partitions(sql) == {"presence_log_default", *(part(n) for n in range(3))}


async def test_changes_land_in_their_month(world: World) -> None:
    mitra = await world.mitra()
    await world.write(mitra, "is_online = true")
    assert await where(world.sql, mitra) == [part(0)]


async def test_a_missing_month_stops_nobody_and_is_made_up_for(world: World) -> None:
    mitra = await world.mitra()
    for at in (datetime(2031, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2031, 2, 1, tzinfo=UTC),
               datetime(2031, 2, 28, 23, 59, 59, tzinfo=UTC), datetime(2031, 3, 1, tzinfo=UTC)):  # fmt: skip
        await write(world, mitra, at)
    assert await where(world.sql, mitra) == ["presence_log_default"] * 4
    await world.sql.execute("SET timezone = 'Asia/Jakarta'")
    assert await world.sql.fetchval("SELECT presence_log_ensure_month('2031-02-17')") is True
    assert await where(world.sql, mitra) == [
        "presence_log_default",
        "presence_log_2031_02",
        "presence_log_2031_02",
        "presence_log_default",
    ]
    assert await world.sql.fetchval("SELECT presence_log_ensure_month('2031-02-01')") is False


async def test_an_old_sign_of_life_is_logged_in_the_default_partition(world: World) -> None:
    mitra = await world.mitra()
    long_ago = datetime(2020, 5, 5, tzinfo=UTC)
    await world.vouched(mitra, "connected", "is_online = true, online_since = $2", long_ago)
    assert await where(world.sql, mitra) == ["presence_log_default"]


async def test_old_months_are_dropped_whole_with_what_the_default_has_of_them(world: World) -> None:
    mitra = await world.mitra()
    for month in (1, 2, 3):
        await world.sql.fetchval("SELECT presence_log_ensure_month($1)", date(2020, month, 1))
        await write(world, mitra, datetime(2020, month, 15, tzinfo=UTC))
    await write(world, mitra, datetime(2019, 7, 1, tzinfo=UTC))
    assert await world.sql.fetchval("SELECT presence_log_drop_before('2020-03-01')") == 2
    assert await where(world.sql, mitra) == ["presence_log_2020_03"]
    assert await world.sql.fetchval("SELECT presence_log_drop_before('2020-03-31')") == 0
    await world.sql.fetch(query("log_months"), 13)
    assert await partitions(world.sql) == {"presence_log_default", *(part(n) for n in range(3))}


@pytest.mark.usefixtures("patient")
async def test_many_at_once_make_one_month(world: World, database: str) -> None:
    async def ensure() -> bool:
        connection = await asyncpg.connect(database)
        try:
            return bool(await connection.fetchval("SELECT presence_log_ensure_month('2032-01-01')"))
        finally:
            await connection.close()

    assert sorted(await asyncio.gather(*(ensure() for _ in range(6)))) == [False] * 5 + [True]


async def test_the_month_gives_way_to_whoever_writes_the_log(world: World, database: str) -> None:
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE presence_log_default IN ROW EXCLUSIVE MODE")
            started = time.monotonic()
            assert await world.sql.fetchval("SELECT presence_log_ensure_month('2033-01-01')") is None
            assert await world.sql.fetchval("SELECT presence_log_drop_before('2001-01-01')") == 0
            assert time.monotonic() - started < 3
    finally:
        await other.close()
    assert await world.sql.fetchval("SELECT presence_log_ensure_month('2033-01-01')") is True

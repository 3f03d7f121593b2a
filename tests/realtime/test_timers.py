"""Timers live in Postgres: with 10,000 pending, what is due is done within a second, once, whoever restarts."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.pairing import LATE_S
from tests.support import eventually
from tests.support.market import CALM, Market
from tests.support.system import System

PENDING = 10_000
MITRAS = 200
SPREAD_S = 4.0
IN_TIME_S = 1.0

WORLD = """
    INSERT INTO mitras (id, max_sessions) SELECT gen_random_uuid(), 1000 FROM generate_series(1, {mitras});
    INSERT INTO customers (id) SELECT gen_random_uuid() FROM generate_series(1, {mitras});
    CREATE TABLE sides AS
    SELECT row_number() OVER () AS n, m.id AS mitra_id, c.id AS customer_id
    FROM (SELECT id, row_number() OVER () AS r FROM mitras) m
    JOIN (SELECT id, row_number() OVER () AS r FROM customers) c USING (r);
"""
"""As many customers as mitras, side by side."""
SESSIONS = """
    INSERT INTO chat_sessions (id, customer_id, mitra_id, status, payment_due_at, started_at, expires_at)
    SELECT gen_random_uuid(), customer_id, mitra_id, $1,
           CASE WHEN $1 = 'pending_payment' THEN due END, CASE WHEN $1 = 'active' THEN now() END,
           CASE WHEN $1 = 'active' THEN due END
    FROM (SELECT i, $3::timestamptz + i * $4::interval AS due FROM generate_series(0, $2::integer - 1) AS i) AS d
    JOIN sides ON n = 1 + i % (SELECT count(*) FROM sides)
"""
"""$1 status, $2 how many, $3 when the first is due, $4 from one to the next."""
SEARCHES = """
    INSERT INTO pairings (id, customer_id, expires_at, next_wave_at)
    SELECT gen_random_uuid(), customer_id, $1::timestamptz + n * $2::interval - make_interval(secs => $3), $4
    FROM sides
"""
"""One a customer. $1 when the first is decided, $2 from one to the next, $3 how late that is, $4 next wave."""
LATENESS = """
    SELECT extract(epoch FROM ended_at - coalesce(payment_due_at, expires_at))::float8 AS late,
           status, end_reason, version
    FROM chat_sessions WHERE status IN ('ended', 'expired')
    UNION ALL
    SELECT extract(epoch FROM decided_at - expires_at)::float8 - $1, status, NULL, version
    FROM pairings WHERE status = 'expired'
"""


async def populate(sql: asyncpg.Connection) -> datetime:
    """Timers that are not due for an hour; answers the time."""
    await sql.execute(WORLD.format(mitras=MITRAS))
    now: datetime = await sql.fetchval("SELECT clock_timestamp()")
    later, apart = now + timedelta(hours=1), timedelta(milliseconds=1)
    await sql.execute(SESSIONS, "pending_payment", PENDING // 2, later, apart)
    await sql.execute(SESSIONS, "active", PENDING // 2, later, apart)
    await sql.execute("ANALYZE")
    return now


async def due(sql: asyncpg.Connection, start: datetime, each: int = 200) -> int:
    """So many of each kind become due one after the other, from then on; answers how many in all."""
    apart = timedelta(seconds=SPREAD_S / each)
    await sql.execute(SESSIONS, "pending_payment", each, start, apart)
    await sql.execute(SESSIONS, "active", each, start, apart)
    await sql.execute(SEARCHES, start, timedelta(seconds=SPREAD_S / MITRAS), LATE_S, start + timedelta(hours=1))
    return 2 * each + MITRAS


async def fired(sql: asyncpg.Connection, count: int) -> list[Any] | None:
    found: list[Any] = await sql.fetch(LATENESS, LATE_S)
    return found if len(found) >= count else None


async def test_what_is_due_is_done_in_time_and_once_by_either_of_two_instances(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        await asyncio.gather(system.instance(), system.instance())
        now = await populate(system.sql)
        now = await system.sql.fetchval("SELECT clock_timestamp()")
        count = await due(system.sql, now + timedelta(seconds=1.5))
        found = await eventually(lambda: fired(system.sql, count), SPREAD_S + 15)
        late = sorted(record["late"] for record in found)
        half, most = late[len(late) // 2], late[len(late) * 99 // 100]
        print(f"timers late: half within {half:.3f} s, 99 % within {most:.3f} s, all within {late[-1]:.3f} s")
        assert len(found) == count
        assert late[0] >= 0.0, "never before its time"
        assert late[-1] < IN_TIME_S, f"the latest of {count} was {late[-1]:.2f} s late"
        outcomes = {(record["status"], record["end_reason"], record["version"]) for record in found}
        assert outcomes == {("expired", "payment_timeout", 2), ("ended", "time", 2), ("expired", None, 2)}, "once each"
        assert await system.sql.fetchval("SELECT sum(open_sessions) FROM mitra_presence") == PENDING


async def test_timers_survive_a_restart_of_all_instances(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        async with system.running() as served:
            market = Market(system)
            _, phone = await market.mitra(served)
            customers = await system.accounts(2, "customer")
            session = await market.won(served, customers[0], phone)
            searching = await system.pair(served, customers[1])
        # Nobody runs while these become due.
        await system.sql.execute("UPDATE chat_sessions SET payment_due_at = now()")
        await system.sql.execute(
            "UPDATE pairings SET expires_at = now() - interval '1 minute' WHERE status = 'searching'"
        )
        started = await system.sql.fetchval("SELECT clock_timestamp()")
        await asyncio.gather(*(system.instance() for _ in range(2)))
        row = await market.becomes(session["id"], "expired")
        assert row["ended_at"] > started
        expired = "SELECT 1 FROM pairings WHERE id = $1 AND status = 'expired'"
        await eventually(lambda: system.sql.fetchval(expired, searching["id"]))


async def test_a_wave_that_was_due_while_nobody_ran_is_made_by_who_comes(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        market = Market(system)
        customer = await system.account("customer")
        async with system.running() as served:
            pairing = await system.pair(served, customer)
        served = await system.instance()
        _, phone = await market.mitra(served)
        assert (await phone.message("offer"))["pairing_id"] == pairing["id"]

"""What runs often is backed by an index: no plan of it reads a whole table, at any number of mitras."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from hadir.db.queries import sql as query

ONE, TWO, CUSTOMER = (str(uuid.UUID(int=n, version=4)) for n in range(3))
FIRST = str(uuid.UUID(int=0))
POPULATE_S = 120

POPULATE = """
ALTER TABLE mitras DISABLE TRIGGER USER;
ALTER TABLE mitra_presence DISABLE TRIGGER USER;
ALTER TABLE chat_sessions DISABLE TRIGGER USER;
INSERT INTO mitras (id)
    SELECT gen_random_uuid() FROM generate_series(3, {mitras}) UNION VALUES ('{one}'::uuid), ('{two}');
INSERT INTO mitra_presence (mitra_id, is_online, is_active, suspect_since, instance_id, changed_at, last_heartbeat_at)
    SELECT id, byte < 40, byte < 250, CASE WHEN byte < 2 THEN now() - byte * interval '9 s' END,
           CASE WHEN byte < 40 THEN 'host-' || byte END, now() - random() * interval '30 days', now()
    FROM (SELECT id, get_byte(uuid_send(id), 1) AS byte FROM mitras) AS m;
INSERT INTO auth_sessions (id, subject_id, role, expires_at, revoked_at)
    SELECT gen_random_uuid(), mitra_id, 'mitra', now() + interval '1 day',
           CASE WHEN is_active THEN NULL ELSE now() - random() * interval '30 days' END
    FROM mitra_presence;
INSERT INTO presence_log (at, mitra_id, state, reason)
    SELECT now() + n * interval '30 days', mitra_id, 'online', 'connected'
    FROM mitra_presence, generate_series(0, 2) AS n;
INSERT INTO customers VALUES ('{customer}');
INSERT INTO chat_sessions (id, customer_id, mitra_id, status)
    SELECT gen_random_uuid(), '{customer}', mitra_id, CASE WHEN is_online THEN 'active' ELSE 'ended' END
    FROM mitra_presence;
ALTER TABLE mitras ENABLE TRIGGER USER;
ALTER TABLE mitra_presence ENABLE TRIGGER USER;
ALTER TABLE chat_sessions ENABLE TRIGGER USER;
ANALYZE;
"""

HISTORY = "SELECT * FROM presence_log WHERE mitra_id = $1 ORDER BY at DESC, recorded_at DESC LIMIT 50"


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def store_args() -> list[list[Any]]:
    return [[ONE], [True], [True], [True], [None], ["c"], ["i"], *[[None]] * 4, ["back"], [None], [True]]


HOT: dict[str, list[Any]] = {
    "presence_by_id": [[ONE, TWO]],
    "presence_lock": [[ONE, TWO], [None, TWO]],
    "presence_store": store_args(),
    "presence_changed": [ago(30), FIRST, 500],
    "presence_page": [ONE, 500],
    "presence_known": [[ONE, TWO]],
    "beats_store": [[ONE, TWO], [1.0, 2.0]],
    "expiry_due": [15.0, 50.0, ["instance_died"], 500, False],
    "instance_rows": ["host-7", 12.0, 500],
    "online_count": [],
    "counts": [60.0],
    "revoked_since": [ago(30)],
    "revoked_by_id": [[ONE, TWO]],
    "session_valid": [ONE, TWO, "mitra"],
    "sessions_revoke": [ONE],
}


async def populate(sql: asyncpg.Connection, mitras: int) -> None:
    await sql.execute(POPULATE.format(mitras=mitras, one=ONE, two=TWO, customer=CUSTOMER), timeout=POPULATE_S)


async def test_no_hot_statement_reads_a_whole_table(sql: asyncpg.Connection) -> None:
    await populate(sql, 200_000)
    read = {name: await scanned(sql, query(name), *args) for name, args in HOT.items()}
    read["history"] = await scanned(sql, HISTORY, ONE)
    assert {name: tables for name, tables in read.items() if tables} == {}
    assert await scanned(sql, "SELECT * FROM mitra_presence WHERE reason = 'x'") == {"mitra_presence"}


async def test_no_trigger_reads_a_whole_table(sql: asyncpg.Connection) -> None:
    await populate(sql, 20_000)
    before = await sequential_scans(sql)
    await sql.execute("UPDATE mitra_presence SET is_active = NOT is_active WHERE mitra_id = $1", ONE)
    await sql.execute("UPDATE mitras SET max_sessions = 7 WHERE id = $1", ONE)
    await sql.execute("INSERT INTO mitras (id) VALUES (gen_random_uuid())")
    insert = "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) VALUES ($1, $2, $3, 'active')"
    await sql.execute(insert, ONE, CUSTOMER, TWO)
    await sql.execute("UPDATE chat_sessions SET status = 'ended' WHERE id = $1", ONE)
    await sql.execute("DELETE FROM chat_sessions WHERE id = $1", ONE)
    assert await sequential_scans(sql) == before
    assert await sql.fetchval(
        "SELECT open_sessions = 1 AND max_sessions = 1 FROM mitra_presence WHERE mitra_id = $1", TWO
    )


async def scanned(sql: asyncpg.Connection, statement: str, *args: Any) -> set[str]:
    """The sql tables that a plan reads from end to end."""
    plan = await sql.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *args)
    nodes, found = [json.loads(plan)[0]["Plan"]], set()
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node["Node Type"] == "Seq Scan":
            found.add(node["Relation Name"])
    return found - {"presence_log_default", "instances"}  # the one is empty, the other has a handful of rows


async def sequential_scans(sql: asyncpg.Connection) -> dict[str, int]:
    await sql.execute("SELECT pg_stat_force_next_flush()")
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    return dict(
        await sql.fetch(
            "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname IN "
            "('mitras', 'mitra_presence', 'auth_sessions', 'chat_sessions')"
        )
    )

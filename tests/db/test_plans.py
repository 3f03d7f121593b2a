"""What runs often is backed by an index: no plan of it reads a whole table, at any number of mitras."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from hadir.db.queries import sql as query
from hadir.http.mitras import ANY, STATES, by_id, by_name

ONE, TWO, CUSTOMER = (str(uuid.UUID(int=n, version=4)) for n in range(3))
FIRST = str(uuid.UUID(int=0))
POPULATE = Path(__file__).parent.parent.parent / "benchmarks/million.sql"
POPULATE_S = 300
MITRAS = 1_000_000


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
    "capacity_resize": [ONE, 500],
    "mitras_by_id": [[ONE, TWO]],
    "mitra_logins": [ONE, 20],
    "mitra_sessions": [ONE],
    "mitra_history": [ONE, ago(0), ago(0), 50],
    "available_pool": [60.0, 50],
    "sessions_by_state": [],
    "config_history": ["max_sessions", 20],
}
SEARCHES = ("b", "bud", "budi 0", "siti ff", "rina abcd", "nobody", "\u00e9")


def searches() -> dict[str, tuple[str, list[Any]]]:
    """Every statement that lists mitras: by id and by name, of every state."""
    first, last = str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))
    found: dict[str, tuple[str, list[Any]]] = {}
    for state, condition in {"any": ANY, **STATES}.items():
        found[f"by id, {state}"] = by_id(condition), [first, last, 51]
        for search in SEARCHES:
            found[f"{search}, {state}"] = by_name(condition), [search, "", first, 51]
    return found


async def populate(sql: asyncpg.Connection, mitras: int) -> None:
    filled = POPULATE.read_text().format(mitras=mitras, one=ONE, two=TWO, customer=CUSTOMER)
    await sql.execute(filled, timeout=POPULATE_S)
    await sql.execute("VACUUM ANALYZE", timeout=POPULATE_S)


async def test_no_hot_statement_reads_a_whole_table(sql: asyncpg.Connection) -> None:
    await populate(sql, MITRAS)
    read = {name: await scanned(sql, query(name), *args) for name, args in HOT.items()}
    for name, (statement, args) in searches().items():
        read[name] = await scanned(sql, statement, *args)
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

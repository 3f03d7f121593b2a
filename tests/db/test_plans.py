"""What runs often is backed by an index: no plan of it reads a whole table, at any number of mitras."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from hadir.db.queries import sql as query
from hadir.http.audit import lines
from hadir.http.mitras import ANY, IN_RANGE, NAMED, STATES, by_change, by_id, by_name
from hadir.http.sessions import WHOSE
from hadir.realtime.session import Event
from tests.db.bazaar import Bazaar

ONE, TWO, CUSTOMER = (str(uuid.UUID(int=n, version=4)) for n in range(3))
FIRST, LAST = str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))
POPULATE = Path(__file__).parent.parent.parent / "benchmarks/million.sql"
POPULATE_S = 300
MITRAS = 1_000_000


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def store_args() -> list[list[Any]]:
    return [[ONE], [True], [True], [True], [None], ["c"], ["i"], *[[None]] * 4, ["back"], [None], [True]]


def days() -> list[list[Any]]:
    """The last seven: dates, beginnings, ends."""
    begins = [ago(86_400 * n) for n in range(7, 0, -1)]
    return [[each.date() for each in begins], begins, [each + timedelta(days=1) for each in begins]]


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
    "counts": [60.0, ["host-7"]],
    "revoked_since": [ago(30)],
    "revoked_by_id": [[ONE, TWO]],
    "session_valid": [ONE, TWO, "mitra"],
    "sessions_revoke": [ONE, "operator"],
    "capacity_resize": [ONE, 500],
    "mitras_by_id": [[ONE, TWO]],
    "mitra_logins": [ONE, 20],
    "mitra_sessions": [ONE],
    "mitra_history": [ONE, ago(0), ago(0), 50],
    "available_pool": [60.0, ["host-7"], 50],
    "sessions_by_state": [],
    "customer_logins": [[ONE], [CUSTOMER]],
    "customers_of": [[ONE, TWO]],
    "message_by_id": [ONE],
    "messages_after": [[ONE, TWO], [0, 7], 200],
    "offers_for": [[ONE, TWO], [ONE], [TWO]],
    "offers_known": [[ONE], [TWO]],
    "offers_receipts": [[ONE], [TWO], [True]],
    "pairing_by_id": [ONE],
    "pairing_offers": [ONE, 10_000],
    "pairings_changed": [ago(13), FIRST, 5_000],
    "pairings_for": [[CUSTOMER, TWO], [ONE]],
    "pairings_next": [20],
    "pairings_offered": [[ONE, TWO], [ONE]],
    "session_by_id": [ONE],
    "session_pairings": [ONE],
    "session_payments": [ONE],
    "sessions_changed": [ago(13), FIRST, 5_000],
    "sessions_for": [[ONE, TWO], [CUSTOMER], [ONE]],
    "webhook_claim": [[], []],
    "webhook_done": [1, "paid"],
    "activity": [3.2e8, 1_000],
    "pairings_standing": [],
    "series_read": [10.0, 360, 2.0],
    "config_history": ["max_sessions", "9", 20],
    "audit_of": [ONE, 200],
    "mitra_timeline": [ONE, ago(0), "z", 51],
    "pairing_waves_made": [ONE, 1_000],
    "pairing_offers_listed": [ONE, 100, 1_000],
    "pairing_offers_closed": [ONE],
    "report_online": [ONE, LAST, 300, ago(7 * 86_400), ago(0), *days()],
    "report_hours": [ago(86_400), ago(0)],
    "report_funnel": [ago(86_400), ago(0)],
    "report_offers": [ago(21_600), ago(0)],
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
            found[f"{search} by change, {state}"] = by_change(condition, NAMED), [ago(0), last, 51, search]
        found[f"by change, {state}"] = by_change(condition, ANY), [ago(0), last, 51]
        found[f"{ONE} by change, {state}"] = by_change(condition, IN_RANGE.format(4, 5)), [ago(0), last, 51, ONE, ONE]
        found[f"by name, {state}"] = by_name(condition), ["", "", first, 51]
        ranged = by_name(f"{condition} AND {IN_RANGE.format(5, 6)}")
        found[f"{ONE} by name, {state}"] = ranged, ["", "", first, 51, ONE, ONE]
    return found


def acts() -> dict[str, tuple[str, list[Any]]]:
    """The audit log, whole and filtered."""
    kinds = {"actor": "operator", "subject": ONE, "action": "config"}
    chosen = [(), ("actor",), ("subject",), ("action",), ("actor", "action"), tuple(kinds)]
    return {f"audit by {names}": (lines(names), [str(2**60), 51, *map(kinds.__getitem__, names)]) for names in chosen}


def pages() -> dict[str, tuple[str, list[Any]]]:
    """Every list of pairings, sessions and payments, whole and filtered, from its head and from its midst."""
    found: dict[str, tuple[str, list[Any]]] = {}
    for before in (ago(-1), ago(15 * 86_400)):
        for name, mark, conditions, last in (
            ("pairings_page", "{status}", [("true", []), ("p.status = $4", ["cancelled"])], LAST),
            ("sessions_page", "{whose}", [("true", []), ("s.status = $4", ["active"])], LAST),
            ("sessions_page", "{whose}", [(WHOSE[role], [ONE]) for role in WHOSE], LAST),
            ("payments_page", "{state}", [("true", []), ("state = $4", ["refund_due"])], "inv"),
        ):
            for condition, args in conditions:
                statement = query(name).replace(mark, condition)
                found[f"{name} where {condition} before {before:%d}"] = statement, [before, last, 51, *args]
    return found


async def populate(sql: asyncpg.Connection, mitras: int) -> None:
    filled = POPULATE.read_text().format(mitras=mitras, one=ONE, two=TWO, customer=CUSTOMER)
    await sql.execute(filled, timeout=POPULATE_S)
    await sql.execute("VACUUM ANALYZE", timeout=POPULATE_S)


async def test_no_hot_statement_reads_a_whole_table(sql: asyncpg.Connection) -> None:
    await populate(sql, MITRAS)
    read = {name: await scanned(sql, query(name), *args) for name, args in HOT.items()}
    for name, (statement, args) in (searches() | pages() | acts()).items():
        read[name] = await scanned(sql, statement, *args)
    assert {name: tables for name, tables in read.items() if tables} == {}
    assert await rows_read(sql, by_change(STATES["deactivated"], ANY), ago(0), LAST, 51) <= 4 * 51
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


async def test_no_function_of_pairings_and_sessions_reads_a_whole_table(sql: asyncpg.Connection) -> None:
    await populate(sql, 20_000)
    bazaar = Bazaar(sql)
    has, gets = await bazaar.ready(max_sessions=9), await bazaar.ready(max_sessions=9)
    # Generic plans from the first call on, as a long-lived connection has them.
    await sql.execute("SET plan_cache_mode = force_generic_plan")
    before = await sequential_scans(sql)
    customer = await bazaar.customer()
    assert (await bazaar.create(customer, note="x"))[0] == "created"
    pairing = (await bazaar.create(customer, note="x"))[1]
    assert await bazaar.wave(pairing, [has]) == [has]
    session = (await bazaar.accepted(pairing, has))["session_id"]
    assert await bazaar.pay(session) == ("paid", True)
    chatted = await sql.fetchrow(query("chat_send"), str(uuid.uuid4()), session, customer, "1", "Halo")
    assert chatted["outcome"] == "stored"
    _, rerouting = await bazaar.reroute(session)
    assert await bazaar.wave(rerouting, [has, gets]) == [gets]
    assert await bazaar.accept(rerouting, gets) == "won"
    declined = await bazaar.pairing(has)
    assert await bazaar.decline(declined, has) == "declined"
    await bazaar.deactivate(gets)
    assert await bazaar.happens(session, Event.END) == ("done", "ended")
    await bazaar.due()
    await bazaar.past_deadline(declined)
    assert await bazaar.expire() == [declined]
    assert await bazaar.cancel(await bazaar.pairing(has))
    assert await sequential_scans(sql) == before


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


async def rows_read(sql: asyncpg.Connection, statement: str, *args: Any) -> int:
    """How many rows a statement touched, those that it left out with them."""
    plan = await sql.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *args, timeout=POPULATE_S)
    nodes, read = [json.loads(plan)[0]["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Relation Name" in node or "Index Name" in node:
            read += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return int(read)


async def sequential_scans(sql: asyncpg.Connection) -> dict[str, int]:
    await sql.execute("SELECT pg_stat_force_next_flush()")
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    return dict(
        await sql.fetch(
            "SELECT relname, seq_scan FROM pg_stat_user_tables "
            "WHERE relname NOT LIKE 'presence_log%' AND relname NOT IN ('app_config', 'instances', 'leases')"
        )
    )

"""Migrations: many at once, behind a pooler, and beside tables that other services made."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from hadir.db import migrate
from hadir.db.pool import connect
from hadir.db.queries import sql as query
from hadir.dev.embedded import EmbeddedValkey
from hadir.errors import PostgresUnavailable, SchemaBehind, SchemaUnfit
from tests.db.world import blocked
from tests.support import eventually
from tests.support.market import CALM, Market
from tests.support.system import System


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(empty_database, pooler="none")
    yield connection
    await connection.close()


async def test_many_at_once_apply_everything_once(empty_database: str) -> None:
    applied = await asyncio.gather(*(migrate.migrate(empty_database, pooler="transaction") for _ in range(8)))
    assert sorted(name for names in applied for name in names) == migrate.known()
    assert await migrate.migrate(empty_database) == []


async def test_check_says_what_is_missing_and_accepts_what_is_ahead(
    empty: asyncpg.Connection, empty_database: str
) -> None:
    with pytest.raises(SchemaBehind, match=r"0001_presence.*hadir migrate"):
        await migrate.check(empty)
    await migrate.migrate(empty_database)
    await migrate.check(empty)
    await empty.execute("INSERT INTO hadir_migrations (name) VALUES ('9999_from_the_future')")
    await migrate.check(empty)
    await empty.execute("DELETE FROM hadir_migrations WHERE name = '0001_presence'")
    with pytest.raises(SchemaBehind):
        await migrate.check(empty)


async def test_a_table_in_use_keeps_nobody_waiting_behind_the_migration(
    empty: asyncpg.Connection, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_S", 0.2)
    await migrate.migrate(empty_database)
    await empty.execute("DELETE FROM hadir_migrations WHERE name = '0006_mitras_out_of_service'")
    await empty.execute("DROP INDEX mitra_presence_inactive_changed")
    other = await connect(empty_database, pooler="none")
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE mitra_presence IN ROW EXCLUSIVE MODE")
            migrating = asyncio.create_task(migrate.migrate(empty_database))
            await blocked(empty_database)
            await empty.execute("UPDATE mitra_presence SET wants_online = true", timeout=2)  # it gave way
            assert not migrating.done()
        assert await migrating == ["0006_mitras_out_of_service"]
    finally:
        await other.close()


async def test_tables_of_others_are_adopted(empty: asyncpg.Connection, empty_database: str) -> None:
    await empty.execute("""
        CREATE TABLE mitras (id uuid PRIMARY KEY, phone text NOT NULL, display_name varchar(80));
        CREATE TABLE customers (id uuid UNIQUE NOT NULL, email text);
        CREATE TABLE auth_sessions (id uuid PRIMARY KEY, subject_id uuid NOT NULL, role varchar(20), agent text);
        INSERT INTO mitras VALUES (gen_random_uuid(), '1', NULL), (gen_random_uuid(), '2', 'Dewi');
    """)
    await migrate.migrate(empty_database)
    rows = await empty.fetch("SELECT * FROM mitra_presence JOIN mitras ON id = mitra_id")
    assert len(rows) == 2
    assert {row["max_sessions"] for row in rows if not row["is_online"]} >= {None} or len(rows) == 2
    assert (
        await empty.fetchval("SELECT count(*) FROM mitras WHERE created_at IS NOT NULL AND max_sessions IS NULL") == 2
    )
    await empty.execute("INSERT INTO mitras (id, phone) VALUES (gen_random_uuid(), '3')")
    assert await empty.fetchval("SELECT count(*) FROM mitra_presence") == 3


FOREIGN = """
    CREATE SCHEMA people;
    CREATE TYPE tier AS ENUM ('new', 'gold');
    CREATE DOMAIN phone AS text CHECK (VALUE ~ '^[+0-9 ]*$');
    CREATE TABLE mitras (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
        display_name varchar(80), phone phone NOT NULL DEFAULT '', tier tier NOT NULL DEFAULT 'new', notes jsonb
    );
    CREATE TABLE customers (id uuid NOT NULL DEFAULT gen_random_uuid(), email text, PRIMARY KEY (id))
        PARTITION BY HASH (id);
    CREATE TABLE customers_0 PARTITION OF customers FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE customers_1 PARTITION OF customers FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE auth_sessions (
        id uuid PRIMARY KEY, subject_id uuid NOT NULL, role varchar(20) NOT NULL, expires_at timestamptz NOT NULL,
        agent text NOT NULL DEFAULT 'app'
    );
    CREATE TABLE people.wallets (mitra_id uuid REFERENCES mitras (id) ON DELETE CASCADE, cents bigint NOT NULL);
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.display_name := upper(NEW.display_name); RETURN NEW; END $$;
    CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON mitras FOR EACH ROW EXECUTE FUNCTION shout();
    INSERT INTO mitras (display_name, phone, tier) VALUES ('Dewi', '+62 811', 'gold'), (NULL, '', 'new');
    INSERT INTO people.wallets SELECT id, 7 FROM mitras;
    INSERT INTO customers (email) SELECT n || '@example.org' FROM generate_series(1, 5) AS n;
"""
"""Another service's tables: its keys, columns, types, triggers, partitions and rows."""


async def shape(sql: asyncpg.Connection) -> list[tuple[object, ...]]:
    """Everything of the schema that a migration could have left behind."""
    records = await sql.fetch(
        "SELECT attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod), attnotnull "
        "FROM pg_attribute JOIN pg_class c ON c.oid = attrelid "
        "WHERE relnamespace IN ('public'::regnamespace, 'people'::regnamespace) AND attnum > 0 AND NOT attisdropped "
        "UNION ALL SELECT 'f', proname::text, '', false FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
        "UNION ALL SELECT tgrelid::regclass::text, tgname::text, '', false FROM pg_trigger WHERE NOT tgisinternal "
        "ORDER BY 1, 2, 3"
    )
    return [tuple(record) for record in records]


async def test_the_product_runs_on_another_services_schema(
    empty: asyncpg.Connection, empty_database: str, valkey: EmbeddedValkey
) -> None:
    await empty.execute(FOREIGN)
    names = "SELECT id, display_name, phone, tier::text FROM mitras ORDER BY number"
    before = await empty.fetch(names)
    await migrate.migrate(empty_database)
    assert await empty.fetch(names) == before
    assert await empty.fetchval("SELECT sum(cents) FROM people.wallets") == 14
    assert await empty.fetchval("SELECT count(*) FROM mitra_presence") == 2
    async with System(empty_database, valkey.url, CALM) as system:
        served = await system.instance()
        dewi, phone = await Market(system).mitra(served)
        old = await system.account(sub=str(before[0]["id"]))
        await system.phone(served, old)
        await system.available(served, 2)
        customer = await system.account("customer")
        await Market(system).won(served, customer, phone, status="active")
        listed = (await Market(system).operator(served, "GET", "/api/internal/mitras")).json()["mitras"]
        assert len(listed) == 3, listed
        assert {each["display_name"] for each in listed if each["id"] == old.id} == {"DEWI"}
        await empty.execute("DELETE FROM mitras WHERE id = $1", before[1]["id"])
        assert await empty.fetchval("SELECT count(*) FROM mitra_presence") == 2
        assert await system.state(dewi) == "online"


async def test_one_column_that_does_not_fit_leaves_another_services_schema_as_it_was(
    empty: asyncpg.Connection, empty_database: str
) -> None:
    await empty.execute(FOREIGN)
    await empty.execute("ALTER TABLE auth_sessions ADD COLUMN revoked_at bigint")
    before = await shape(empty)
    with pytest.raises(SchemaUnfit, match=r"auth_sessions.*revoked_at.*bigint.*timestamp with time zone") as refusal:
        await migrate.migrate(empty_database)
    assert len(str(refusal.value).splitlines()) == 1
    assert [each for each in await shape(empty) if each[0] != "hadir_migrations"] == before
    assert await migrate.pending(empty) == migrate.known()


async def test_a_login_of_others_that_has_no_end_is_good(empty: asyncpg.Connection, empty_database: str) -> None:
    await empty.execute("CREATE TABLE auth_sessions (id uuid PRIMARY KEY, subject_id uuid, role text)")
    await migrate.migrate(empty_database)
    mitra, sid = str(uuid.uuid4()), str(uuid.uuid4())
    await empty.execute("INSERT INTO mitras (id) VALUES ($1)", mitra)
    await empty.execute("INSERT INTO auth_sessions VALUES ($1, $2, 'mitra')", sid, mitra)
    assert await empty.fetchval(query("session_valid"), sid, mitra, "mitra")
    record = await empty.fetchrow(query("presence_lock"), [mitra], [sid])
    assert record is not None
    assert record["expires_at"] > record["now"]


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("CREATE TABLE mitras (id bigint PRIMARY KEY)", r"mitras.*\bid\b.*bigint.*uuid"),
        ("CREATE TABLE mitras (id uuid PRIMARY KEY, max_sessions text)", r"mitras.*max_sessions.*text.*integer"),
        (
            "CREATE TABLE mitras (id uuid PRIMARY KEY, created_at timestamp)",
            r"mitras.*created_at.*without.*with time zone",
        ),
        ("CREATE TABLE customers (id text PRIMARY KEY)", r"customers.*\bid\b.*text.*uuid"),
        ("CREATE TABLE customers (id uuid)", r"customers.*key.*\bid\b"),
        ("CREATE TABLE auth_sessions (id uuid PRIMARY KEY, subject_id text)", r"auth_sessions.*subject_id.*text.*uuid"),
        (
            "CREATE TYPE kind AS ENUM ('mitra'); CREATE TABLE auth_sessions (id uuid PRIMARY KEY, role kind)",
            r"auth_sessions.*role.*kind.*text",
        ),
        ("CREATE VIEW mitras AS SELECT gen_random_uuid() AS id", r"mitras"),
        ("CREATE TABLE instances (id int)", r"instances"),
        ("CREATE TABLE chat_sessions (id uuid PRIMARY KEY)", r"chat_sessions"),
    ],
)
async def test_tables_that_do_not_fit_are_named_and_nothing_is_left(
    empty: asyncpg.Connection, empty_database: str, there: str, told: str
) -> None:
    await empty.execute(there)
    with pytest.raises(SchemaUnfit, match=told):
        await migrate.migrate(empty_database)
    assert await empty.fetchval("SELECT to_regclass('mitra_presence')") is None
    assert await migrate.pending(empty) == migrate.known()


async def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(PostgresUnavailable, match="cannot be reached"):
        await migrate.migrate("postgresql://nobody@127.0.0.1:1/none")


async def test_a_missing_right_and_a_wrong_password_are_one_sentence(
    empty: asyncpg.Connection, empty_database: str
) -> None:
    guest = f"guest_{uuid.uuid4().hex[:8]}"
    await empty.execute(f"CREATE ROLE {guest} LOGIN PASSWORD 'x'")
    await empty.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    url = urlsplit(empty_database)
    try:
        with pytest.raises(SchemaUnfit, match="no schema"):
            await migrate.migrate(url._replace(netloc=f"{guest}:x@{url.hostname}:{url.port}").geturl())
        with pytest.raises(PostgresUnavailable, match="password"):
            await migrate.migrate(url._replace(netloc=f"{guest}:y@{url.hostname}:{url.port}").geturl())
    finally:
        await empty.execute(f"DROP ROLE {guest}")


async def test_sessions_that_were_there_before_pairings_are_news_to_no_feed(empty: asyncpg.Connection) -> None:
    before, pairings = [each for each in migrate.known() if each < "0003"], "0003_pairing"
    for name in before:
        assert await migrate._ensure(empty, name)
    mitra, customer, session = (str(uuid.uuid4()) for _ in range(3))
    await empty.execute("INSERT INTO mitras (id) VALUES ($1)", mitra)
    await empty.execute("INSERT INTO customers (id) VALUES ($1)", customer)
    insert = "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) VALUES ($1, $2, $3, 'active')"
    await empty.execute(insert, session, customer, mitra)
    assert await migrate._ensure(empty, pairings)
    ages = "SELECT now() - changed_at > interval '1 year' AS old FROM chat_sessions WHERE id = $1"
    assert await empty.fetchval(ages, session)
    new = str(uuid.uuid4())
    await empty.execute(insert, new, customer, mitra)
    assert not await empty.fetchval(ages, new)


async def test_an_instance_of_before_the_control_centre_runs_on_its_schema(
    empty: asyncpg.Connection, empty_database: str
) -> None:
    for name in [each for each in migrate.known() if each < "0004"]:
        assert await migrate._ensure(empty, name)
    beat = (
        "INSERT INTO instances (id, name, version, state, sockets) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO "
        "UPDATE SET beat_at = clock_timestamp(), state = excluded.state, sockets = excluded.sockets"
    )
    forget = "DELETE FROM instances WHERE id = $1 AND abs(extract(epoch FROM clock_timestamp() - beat_at)) > $2::float8"
    await empty.execute(beat, "before", "i", "0", "ready", 1)
    await migrate.migrate(empty_database)
    for instance_id in ("before", "after"):
        await empty.execute(beat, instance_id, "i", "0", "ready", 2)
    found = await empty.fetch(query("instances_all"))
    assert {(each["sockets"], each["beats_per_s"], each["loop_lag_s"]) for each in found} == {(2, None, None)}
    await empty.execute(forget, "after", -1.0)
    told = await empty.fetch("SELECT instance_id, what FROM instance_log ORDER BY id")
    assert [tuple(each) for each in told] == [("after", "started"), ("after", "stopped")]


async def test_instances_beat_while_the_control_centres_indexes_are_made(
    empty: asyncpg.Connection, empty_database: str
) -> None:
    for name in [each for each in migrate.known() if each < "0004"]:
        assert await migrate._ensure(empty, name)
    await empty.execute(
        "CREATE INDEX CONCURRENTLY pairings_decided_at ON pairings (decided_at DESC) WHERE decided_at IS NOT NULL"
    )
    made = await empty.fetchval("SELECT 'pairings_decided_at'::regclass::oid")
    writes = await connect(empty_database, pooler="none")
    try:
        async with writes.transaction():
            await writes.execute("LOCK TABLE audit_log IN ROW EXCLUSIVE MODE")  # as who writes it: no index meanwhile
            migrating = asyncio.create_task(migrate.migrate(empty_database))

            async def waits() -> bool:
                return bool(await empty.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

            await eventually(waits)
            insert = "INSERT INTO instances (id, name, version, state) VALUES ('before', 'i', '0', 'ready')"
            await empty.execute(insert, timeout=2)
        assert "0004_centre" in await migrating
    finally:
        await writes.close()
    assert await empty.fetchval("SELECT 'pairings_decided_at'::regclass::oid") == made, "the one that was there"

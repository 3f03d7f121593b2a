"""The pool under faults of a real server: every wait ends, everything is given back, and it heals by itself."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from hadir.db import pool as module
from hadir.db.pool import ACQUIRE_S, COMMAND_S, CONNECT_S, PROBE_COMMAND_S, RELEASE_S, Postgres
from hadir.dev.embedded import EmbeddedPostgres
from hadir.errors import PostgresUnavailable
from tests.db.world import another, blocked
from tests.support import eventually

MARGIN_S = 2.0
SESSIONS = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
"""How many connections the server had so far."""


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[Postgres]:
    async with Postgres(database, pool_max=3) as pool:
        await eventually(lambda: pool.available)
        yield pool


@pytest.fixture
async def fragile(own_postgres: EmbeddedPostgres) -> AsyncIterator[Postgres]:
    """A pool on a server that the test may break."""
    async with Postgres(own_postgres.url, pool_max=3) as pool:
        await eventually(lambda: pool.available)
        yield pool


async def use(pool: Postgres) -> int:
    return int(await pool.fetchval("SELECT 1"))


async def use_terminated(pool: Postgres, by: asyncpg.Connection) -> None:
    async with pool.transaction() as connection:
        await by.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
        await connection.fetchval("SELECT 1")


async def backends(pool: Postgres) -> int:
    """Connections that the server sees in this database."""
    found = await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    return int(found)


def sockets() -> int:
    """Open sockets of this process."""
    targets = []
    for number in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return sum(target.startswith("socket:") for target in targets)


async def test_values_are_those_of_the_program(postgres: Postgres) -> None:
    some = uuid.uuid4()
    text = str(some)
    assert await postgres.fetchval("SELECT $1::uuid", text.upper()) == text
    assert await postgres.fetchval("SELECT $1::uuid", some) == text
    assert await postgres.fetchval("SELECT $1::uuid[]", [text, None, some]) == [text, None, text]
    assert await postgres.fetchval("SELECT $1::jsonb", {"a": [1, "ü", None]}) == {"a": [1, "ü", None]}
    assert await postgres.fetchval("SELECT jsonb_typeof($1::jsonb)", "text") == "string"


async def test_a_wrong_argument_is_not_an_outage(postgres: Postgres) -> None:
    since = postgres.available_since
    with pytest.raises(asyncpg.DataError):
        await postgres.fetchval("SELECT $1::int", "one")
    with pytest.raises(asyncpg.InterfaceError):
        await postgres.fetchval("SELECT 1", "too", "many")
    with pytest.raises(asyncpg.DataError):
        await postgres.fetchval("SELECT $1::uuid", "no uuid")
    with pytest.raises(asyncpg.UndefinedTableError):
        await postgres.fetchval("SELECT FROM nowhere")
    assert postgres.available_since == since
    assert await backends(postgres) == 1


async def test_a_transaction_commits_whole_or_not_at_all(postgres: Postgres) -> None:
    await postgres.execute("CREATE TABLE t (n int PRIMARY KEY)")
    async with postgres.transaction() as connection:
        await connection.execute("INSERT INTO t VALUES (1)")

    async def insert(number: int, error: type[BaseException]) -> None:
        async with postgres.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES ($1)", number)
            raise error

    for error in (ValueError, asyncio.CancelledError, KeyError):
        with pytest.raises(error):
            await insert(2, error)
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(1, AssertionError)
    assert [record["n"] for record in await postgres.fetch("SELECT n FROM t")] == [1]
    assert postgres.available


async def test_a_transaction_left_open_is_not_handed_on(postgres: Postgres) -> None:
    async with postgres.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute("CREATE TABLE lost (n int)")
    assert await postgres.fetchval("SELECT to_regclass('lost')") is None
    assert not await postgres.fetchval("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'")


async def test_a_deadlock_reaches_the_caller(postgres: Postgres) -> None:
    await postgres.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, 2) AS n")
    met = asyncio.Barrier(2)

    async def cross(first: int, second: int) -> None:
        async with postgres.transaction() as connection:
            await connection.execute("UPDATE t SET n = n WHERE n = $1", first)
            await met.wait()
            await connection.execute("UPDATE t SET n = n WHERE n = $1", second)

    results = await asyncio.gather(cross(1, 2), cross(2, 1), return_exceptions=True)
    assert sorted(map(type, results), key=str) == sorted([asyncpg.DeadlockDetectedError, type(None)], key=str)
    assert postgres.available


async def test_one_statement_that_met_another_in_a_deadlock_is_repeated(postgres: Postgres, database: str) -> None:
    await postgres.execute("CREATE TABLE t AS SELECT n, 0 AS times FROM generate_series(1, 2) AS n")
    await postgres.execute(
        "CREATE FUNCTION twice() RETURNS int LANGUAGE plpgsql SET deadlock_timeout = '3s' AS $$ BEGIN "
        "UPDATE t SET times = times + 1 WHERE n = 1; UPDATE t SET times = times + 1 WHERE n = 2; RETURN 1; END $$"
    )
    async with another(database) as other:
        await other.execute("SET deadlock_timeout = '1 min'")  # so that it is the pool's statement that Postgres ends
        await other.execute("BEGIN")
        await other.execute("UPDATE t SET n = n WHERE n = 2")
        asked = asyncio.create_task(postgres.fetchval("SELECT twice()"))
        await blocked(database)
        await other.execute("UPDATE t SET n = n WHERE n = 1")
        await other.execute("COMMIT")
        assert await asked == 1
    assert [record["times"] for record in await postgres.fetch("SELECT times FROM t")] == [1, 1]


async def test_connections_are_kept_and_are_at_most_as_many_as_allowed(postgres: Postgres) -> None:
    assert set(await asyncio.gather(*(use(postgres) for _ in range(50)))) == {1}
    assert 1 <= await backends(postgres) <= 3


async def test_whoever_waits_too_long_for_a_turn_is_told(postgres: Postgres) -> None:
    async with postgres.acquire(), postgres.acquire(), postgres.acquire():
        started = time.monotonic()
        with pytest.raises(PostgresUnavailable, match="free"):
            await use(postgres)
        assert ACQUIRE_S - 0.1 < time.monotonic() - started < ACQUIRE_S + MARGIN_S
        assert postgres.available, "a full pool says nothing about the server"
    assert await use(postgres) == 1


async def test_cancelled_callers_leave_nothing_behind(postgres: Postgres) -> None:
    opened = sockets()

    async def cancelled_after(turns: int) -> None:
        task = asyncio.create_task(postgres.fetchval("SELECT pg_sleep(3)"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    for turns in range(25):
        await cancelled_after(turns)
    await asyncio.gather(*(cancelled_after(turns) for turns in range(25)))
    assert set(await asyncio.gather(*(use(postgres) for _ in range(3)))) == {1}, "a slot was lost"
    await eventually(lambda: sockets() <= opened + 2)
    await eventually(lambda: not [task for task in asyncio.all_tasks() if "Connection._cancel" in repr(task)])

    async def only_ours() -> bool:
        return await backends(postgres) <= 3

    # A cancel request that overtakes its statement cancels nothing (PostgreSQL, 54.2.8): that one runs to its end.
    await eventually(only_ours, within=3 + MARGIN_S)


async def test_a_server_that_is_not_there_yet_is_waited_for(own_postgres: EmbeddedPostgres) -> None:
    await own_postgres.stop()
    async with Postgres(own_postgres.url) as pool:
        with pytest.raises(PostgresUnavailable):
            await use(pool)
        assert pool.available_since is None
        back: list[float | None] = []
        pool.on_back.append(lambda: back.append(pool.available_since))
        await own_postgres.start()
        await eventually(lambda: pool.available)
        assert back == [pool.available_since]
        assert await use(pool) == 1


async def test_a_wrong_password_is_waited_out(own_postgres: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(own_postgres.url)
    await admin.execute("CREATE ROLE late LOGIN PASSWORD 'old'")
    url = f"postgresql://late:new@127.0.0.1:{own_postgres.port}/postgres"
    async with Postgres(url) as pool:
        await eventually(lambda: "password" in own_postgres.log.read_text())
        assert not pool.available
        await admin.execute("ALTER ROLE late PASSWORD 'new'")
        await eventually(lambda: pool.available)
    await admin.close()


async def test_killed_mid_statement_and_back(fragile: Postgres, own_postgres: EmbeddedPostgres) -> None:
    events: list[str] = []
    fragile.on_lost.append(lambda: events.append("lost"))
    fragile.on_back.append(lambda: events.append("back"))
    calls = [asyncio.create_task(fragile.fetchval("SELECT pg_sleep(30)")) for _ in range(3)]
    watcher = await asyncpg.connect(own_postgres.url)

    async def all_sleep() -> bool:
        found = await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        return bool(found == 3)

    await eventually(all_sleep)
    own_postgres.kill()
    done, _ = await asyncio.wait(calls, timeout=MARGIN_S)
    assert [type(task.exception()) for task in done] == [PostgresUnavailable] * 3
    assert not fragile.available
    with pytest.raises(PostgresUnavailable):
        await use(fragile)
    assert events == ["lost"]
    (own_postgres.data_dir / "cluster" / "postmaster.pid").unlink(missing_ok=True)
    await own_postgres.start()
    await eventually(lambda: fragile.available, within=10)
    assert await use(fragile) == 1
    assert events == ["lost", "back"]


async def test_a_restart_between_statements_is_healed(fragile: Postgres, own_postgres: EmbeddedPostgres) -> None:
    await asyncio.gather(*(use(fragile) for _ in range(3)))
    await own_postgres.restart()

    async def works() -> bool:
        try:
            return await use(fragile) == 1
        except PostgresUnavailable:
            return False

    await eventually(works)
    assert set(await asyncio.gather(*(use(fragile) for _ in range(10)))) == {1}


async def test_a_terminated_connection_is_replaced(fragile: Postgres, own_postgres: EmbeddedPostgres) -> None:
    watcher = await asyncpg.connect(own_postgres.url)
    try:
        with pytest.raises(PostgresUnavailable):
            await use_terminated(fragile, watcher)
        await eventually(lambda: fragile.available)
        assert await use(fragile) == 1
    finally:
        await watcher.close()


async def test_frozen_every_call_ends_in_time_and_so_does_closing(own_postgres: EmbeddedPostgres) -> None:
    async with Postgres(own_postgres.url, pool_max=3) as pool:
        await eventually(lambda: pool.available)
        await asyncio.gather(*(use(pool) for _ in range(3)))

        begun, frozen = asyncio.Event(), asyncio.Event()

        async def in_transaction() -> None:
            async with pool.transaction() as connection:
                begun.set()
                await frozen.wait()
                await connection.execute("SELECT 1")

        calls: list[asyncio.Task[int | None]] = [asyncio.create_task(in_transaction())]
        await begun.wait()
        own_postgres.freeze()
        frozen.set()
        started = time.monotonic()
        calls += [asyncio.create_task(use(pool)) for _ in range(5)]
        done, pending = await asyncio.wait(calls, timeout=COMMAND_S + ACQUIRE_S + MARGIN_S)
        assert not pending
        assert {type(task.exception()) for task in done} == {PostgresUnavailable}
        assert time.monotonic() - started < COMMAND_S + ACQUIRE_S + MARGIN_S
        await eventually(lambda: not pool.available, within=PROBE_COMMAND_S + MARGIN_S)
        started = time.monotonic()
        with pytest.raises(PostgresUnavailable):
            await use(pool)
        assert time.monotonic() - started < 0.1, "known to be gone: told at once"
        own_postgres.thaw()
        await eventually(lambda: pool.available, within=CONNECT_S + MARGIN_S)
        since = pool.available_since
        assert set(await asyncio.gather(*(use(pool) for _ in range(6)))) == {1}
        assert pool.available_since == since
        own_postgres.freeze()
        started = time.monotonic()
    assert time.monotonic() - started < RELEASE_S + MARGIN_S
    own_postgres.thaw()
    await eventually(lambda: not [task for task in asyncio.all_tasks() if "asyncpg" in repr(task)])


async def test_a_late_failure_of_an_old_connection_is_no_new_outage(
    fragile: Postgres, own_postgres: EmbeddedPostgres
) -> None:
    events: list[str] = []
    fragile.on_lost.append(lambda: events.append("lost"))
    watcher = await asyncpg.connect(own_postgres.url)
    begun, lost_meanwhile = asyncio.Event(), asyncio.Event()

    async def hold_on() -> None:
        async with fragile.acquire() as old:
            begun.set()
            await lost_meanwhile.wait()
            await watcher.execute("SELECT pg_terminate_backend($1)", old.get_server_pid())
            await old.fetchval("SELECT pg_sleep(30)")

    try:
        holding = asyncio.create_task(hold_on())
        await begun.wait()
        with pytest.raises(PostgresUnavailable):
            await use_terminated(fragile, watcher)
        await eventually(lambda: fragile.available)
        since = fragile.available_since
        lost_meanwhile.set()
        with pytest.raises(PostgresUnavailable):
            await holding
    finally:
        await watcher.close()
    assert events == ["lost"]
    assert fragile.available_since == since


async def test_a_server_that_turned_read_only_is_unavailable(fragile: Postgres, own_postgres: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(own_postgres.url)
    try:
        await admin.execute("CREATE TABLE t (n int)")
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")

        async def refused() -> bool:
            try:
                await fragile.execute("INSERT INTO t VALUES (1)")
            except PostgresUnavailable:
                return True
            return False

        back: list[None] = []
        fragile.on_back.append(lambda: back.append(None))
        await eventually(refused)
        seen = await admin.fetchval(SESSIONS)

        async def probed_twice() -> bool:
            return bool(await admin.fetchval(SESSIONS) >= seen + 2)

        await eventually(probed_twice)
        assert not back, "it was taken for well while it was read-only"
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await admin.execute("SELECT pg_reload_conf()")
        await eventually(lambda: len(back) == 1)
        await fragile.execute("INSERT INTO t VALUES (1)")
    finally:
        await admin.close()


async def test_whoever_holds_a_connection_at_the_end_loses_it(database: str) -> None:
    async with Postgres(database) as pool:
        await eventually(lambda: pool.available)
        call = asyncio.create_task(pool.fetchval("SELECT pg_sleep(30)"))
        await eventually(lambda: bool(pool._busy))
    await asyncio.wait([call], timeout=MARGIN_S)
    assert isinstance(call.exception(), PostgresUnavailable)
    with pytest.raises(PostgresUnavailable):
        await use(pool)


async def test_locks_of_a_transaction_that_stands_still_are_given_back(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_IN_TRANSACTION_S", 0.5)
    async with Postgres(database, pool_max=3) as pool:
        await eventually(lambda: pool.available)
        await pool.execute("CREATE TABLE t AS SELECT 1 AS n")
        others: list[None] = []

        async def stand_still() -> None:
            async with pool.transaction() as connection:
                await connection.execute("UPDATE t SET n = 2")
                await pool.execute("UPDATE t SET n = 3")  # it waits until the lock is given back
                others.append(None)
                await connection.execute("UPDATE t SET n = 4")

        with pytest.raises(PostgresUnavailable):
            await stand_still()
        assert others, "they waited for it in vain"
        assert await eventually(lambda: pool.available)
        assert await pool.fetchval("SELECT n FROM t") == 3
        assert await pool.fetchval("SHOW idle_in_transaction_session_timeout") == "0", "it is the transaction's alone"

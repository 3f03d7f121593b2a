"""Forward-only migrations: numbered SQL files, each in a transaction, safe from many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import resources

import asyncpg

from hadir.db.pool import LOST, close, connect
from hadir.errors import PostgresUnavailable, SchemaBehind, SchemaUnfit

LOCK = 7_230_015_448_410
"""Advisory lock of the transaction that migrates: a session lock would not survive a transaction pooler."""
MIGRATION_S = 600.0
LOCK_S, RETRY_S, LOCK_TRIES = 2.0, 1.0, 20
"""Whoever waits for the lock of a table keeps everybody waiting who comes behind: it gives up soon, and tries again."""
UNFIT = (
    asyncpg.RaiseError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.IntegrityConstraintViolationError,
)
"""What is there is in our way: another type, a table under our name, no right to it, rows that break our rules."""


def known() -> list[str]:
    """The names of all migrations of this version, in order."""
    folder = resources.files("hadir.db") / "migrations"
    return sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql"))


async def migrate(url: str, *, pooler: str = "none") -> list[str]:
    """Applies what is pending and answers the names. Raises `SchemaUnfit`, `PostgresUnavailable`."""
    connection = await connect(url, pooler=pooler)
    try:
        return [name for name in known() if await _insist(connection, name)]
    except asyncpg.LockNotAvailableError as error:
        raise PostgresUnavailable("A table was in use for too long to be migrated; run it again.") from error
    except UNFIT as error:
        raise SchemaUnfit(f"The schema cannot be migrated: {error}") from error
    except LOST as error:
        raise PostgresUnavailable(f"Postgres was lost while migrating: {error}") from error
    finally:
        await close(connection)


async def _insist(connection: asyncpg.Connection, name: str) -> bool:
    """Whether it had to be applied. Between tries others have their turn."""
    for _ in range(LOCK_TRIES - 1):
        try:
            return await _ensure(connection, name)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(RETRY_S)
    return await _ensure(connection, name)


async def _ensure(connection: asyncpg.Connection, name: str) -> bool:
    """Whether it had to be applied; waits for others who are at it."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=MIGRATION_S)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS hadir_migrations "
            "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        if await _is_applied(connection, name):
            return False
        await _apply(connection, name)
        return True


async def _is_applied(connection: asyncpg.Connection, name: str) -> bool:
    return bool(await connection.fetchval("SELECT true FROM hadir_migrations WHERE name = $1", name))


async def _apply(connection: asyncpg.Connection, name: str) -> None:
    text = (resources.files("hadir.db") / "migrations" / f"{name}.sql").read_text()
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
    await connection.execute(text, timeout=MIGRATION_S)
    await connection.execute("INSERT INTO hadir_migrations (name) VALUES ($1)", name)


async def pending(connection: asyncpg.Connection) -> Sequence[str]:
    """The migrations that this version needs and the database does not have."""
    if await connection.fetchval("SELECT to_regclass('hadir_migrations')") is None:
        return known()
    applied = {record["name"] for record in await connection.fetch("SELECT name FROM hadir_migrations")}
    return [name for name in known() if name not in applied]


async def check(connection: asyncpg.Connection) -> None:
    """Raises `SchemaBehind` when migrations are pending. A schema that is ahead is fine: a deploy is under way."""
    if missing := await pending(connection):
        raise SchemaBehind(f"The schema lacks {', '.join(missing)}; run `hadir migrate` first.")

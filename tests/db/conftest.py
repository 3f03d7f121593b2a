"""A connection to a fresh database, and what happens in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from hadir.db.pool import connect
from tests.db.bazaar import Bazaar
from tests.db.world import World


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database, pooler="none")
    yield connection
    await connection.close()


@pytest.fixture
async def patient(sql: asyncpg.Connection) -> None:
    """Whoever waits for a lock gives up late, even on a machine that stands still for a moment."""
    for (name,) in await sql.fetch(
        "SELECT oid::regprocedure::text FROM pg_proc, unnest(proconfig) AS set WHERE set ~ '^lock_timeout=[0-9]+ms$'"
    ):
        await sql.execute(f"ALTER FUNCTION {name} SET lock_timeout = '4s'")


@pytest.fixture
async def world(sql: asyncpg.Connection) -> World:
    return World(sql)


@pytest.fixture
async def bazaar(sql: asyncpg.Connection) -> Bazaar:
    return Bazaar(sql)

"""What tests of the schema say and ask, as any other program would: with plain SQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from hadir.db.pool import connect


class World:
    """Mitras, sessions and logins on one connection."""

    def __init__(self, sql: asyncpg.Connection) -> None:
        self.sql = sql

    async def mitra(self, max_sessions: int | None = None) -> str:
        mitra_id = str(uuid.uuid4())
        await self.sql.execute("INSERT INTO mitras (id, max_sessions) VALUES ($1, $2)", mitra_id, max_sessions)
        return mitra_id

    async def login(self, subject: str, role: str = "mitra") -> str:
        sid = str(uuid.uuid4())
        await self.sql.execute(
            "INSERT INTO auth_sessions (id, subject_id, role, expires_at) "
            "VALUES ($1, $2, $3, now() + interval '1 day')",
            sid,
            subject,
            role,
        )
        return sid

    async def session(self, *mitras: str, status: str = "active") -> list[str]:
        """One session a mitra, inserted in one statement."""
        customer, ids = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in mitras]
        await self.sql.execute("INSERT INTO customers (id) VALUES ($1)", customer)
        await self.sql.execute(
            "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) "
            "SELECT i.id, $1, i.mitra_id, $2 FROM unnest($3::uuid[], $4::uuid[]) AS i(id, mitra_id)",
            customer,
            status,
            ids,
            list(mitras),
        )
        return ids

    async def write(self, mitra_id: str, assignments: str, *args: Any) -> asyncpg.Record:
        """`UPDATE mitra_presence SET …`; answers the row as it then is."""
        await self.sql.execute(f"UPDATE mitra_presence SET {assignments} WHERE mitra_id = $1", mitra_id, *args)
        return await self.row(mitra_id)

    async def vouched(self, mitra_id: str, reason: str, assignments: str, *args: Any) -> asyncpg.Record:
        """The same, vouching for a reason as this program's own writes do."""
        return await self.write(mitra_id, f"version = version + 1, reason = '{reason}', {assignments}", *args)

    async def row(self, mitra_id: str) -> asyncpg.Record:
        record = await self.sql.fetchrow("SELECT * FROM mitra_presence WHERE mitra_id = $1", mitra_id)
        assert record is not None
        return record

    async def log(self, mitra_id: str) -> list[asyncpg.Record]:
        """The history, oldest first, in the order that its index gives."""
        found: list[asyncpg.Record] = await self.sql.fetch(
            "SELECT * FROM presence_log WHERE mitra_id = $1 ORDER BY at DESC, recorded_at DESC", mitra_id
        )
        return found[::-1]

    async def states(self, mitra_id: str) -> list[tuple[str, str]]:
        return [(line["state"], line["reason"]) for line in await self.log(mitra_id)]


async def blocked(database: str, count: int = 1) -> None:
    """Returns when so many in this database wait for a lock."""
    watcher = await asyncpg.connect(database)
    try:
        async with asyncio.timeout(5):
            asked = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            while await watcher.fetchval(asked) < count:
                await asyncio.sleep(0.01)
    finally:
        await watcher.close()


@asynccontextmanager
async def another(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A further connection to the same database."""
    connection = await connect(database, pooler="none")
    try:
        yield connection
    finally:
        connection.terminate()


Step = Callable[[asyncpg.Connection], Coroutine[Any, Any, Any]]


async def overlapping(database: str, first: Step, second: Step, *, waits: bool = True) -> tuple[Any, Any]:
    """The second step begins while the first is done but not committed, and waits for it (or must not)."""
    async with another(database) as one, another(database) as two:
        async with one.transaction():
            answer = await first(one)
            later = asyncio.create_task(second(two))
            if waits:
                await blocked(database)
            else:
                await asyncio.wait_for(asyncio.shield(later), 5)
        return answer, await asyncio.wait_for(later, 5)

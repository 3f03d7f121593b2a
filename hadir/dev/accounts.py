"""Accounts as other services would create them, for people who try Hadir out and for the simulator."""

from __future__ import annotations

import asyncpg

from hadir.db.queries import sql

SESSION_S = 30 * 86_400.0


async def create_account(connection: asyncpg.Connection, role: str, sub: str, *, session_s: float = SESSION_S) -> str:
    """The id of a new auth session of `sub`, whose row is created where it is missing.

    Operators and viewers have no row besides their session.
    """
    return str(await connection.fetchval(sql("account_create"), sub, role, session_s))

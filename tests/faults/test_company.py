"""The core in other company: behind a transaction pooler, on Valkey 8, on Redis, with a managed Valkey's commands.

Everything else is run so on demand: `HADIR_TEST_COMPANY=pgbouncer make test ARGS="tests/realtime tests/faults"`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from hadir.db import migrate
from hadir.db.pool import Postgres, connect
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.support import eventually
from tests.support.company import AllowListed, DebianRedis, PgBouncer, pooled
from tests.support.crowd import Crowd
from tests.support.market import CALM, Market, invoice, of_session
from tests.support.system import FAST, Phone, Served, System

SETTINGS = {
    **CALM,
    **FAST,
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "2",
    "MITRA_HEARTBEAT_STALE_SECONDS": "60",
    "DRAIN_SECONDS": "3",
}


def new_pooler(postgres: EmbeddedPostgres) -> PgBouncer:
    return PgBouncer(postgres.data_dir.parent / uuid.uuid4().hex, postgres)


@pytest.fixture
async def pooler(postgres_server: EmbeddedPostgres) -> AsyncIterator[PgBouncer]:
    async with new_pooler(postgres_server) as server:
        yield server


@pytest.fixture(params=["pgbouncer, redis", "valkey 8, allow-list"])
async def company(
    request: pytest.FixtureRequest, database: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> AsyncIterator[Company]:
    async with AsyncExitStack() as stack:
        valkey: EmbeddedValkey
        if request.param == "pgbouncer, redis":
            valkey = await stack.enter_async_context(DebianRedis(tmp_path))
            reached = pooled(await stack.enter_async_context(new_pooler(postgres_server)), database)
        else:
            valkey = await stack.enter_async_context(managed := AllowListed(tmp_path))
            reached = {"VALKEY_URL": managed.instance_url}
        system = await stack.enter_async_context(System(database, valkey.url, {**SETTINGS, **reached}))
        yield Company(system, valkey)


class Company:
    """A system on unusual servers, and what its people go through there."""

    def __init__(self, system: System, valkey: EmbeddedValkey) -> None:
        self.system = system
        self.valkey = valkey
        self.market = Market(system)

    async def trade(self, first: Served, second: Served) -> None:
        """From a request to a chat in a session that is paid for, between two instances."""
        mitra, phone = await self.market.mitra(first)
        customer = await self.system.account("customer")
        app = await self.system.customer(second, customer)
        session = await self.market.won(first, customer, phone)
        answer = await self.market.webhook(second, invoice(session["id"]))
        assert answer.status_code == 200, answer.text
        await self.market.becomes(session["id"], "active")
        for told in (phone, app):
            await eventually(partial(self._is_active, told, session["id"]), 10)
        said = await app.ask(type="chat.send", session_id=session["id"], client_id="1", body="Halo")
        assert (said["type"], said["message"]["body"]) == ("ack", "Halo"), said
        assert (await phone.message("chat.message"))["message"] == said["message"]
        ended = await phone.ask(type="session.end", session_id=session["id"])
        assert ended["type"] == "ack", ended
        await self.market.becomes(session["id"], "ended")
        await phone.goodbye()
        await self.system.becomes(mitra, "offline")

    def _is_active(self, phone: Phone, session_id: str) -> bool:
        return any(each["status"] == "active" for each in of_session(phone, session_id))


async def test_the_core_holds(company: Company) -> None:
    system, market = company.system, company.market
    first, leaving = await asyncio.gather(system.instance(), system.process())
    stays, stays_phone = await market.mitra(first)
    moves, moves_phone = await market.mitra(leaving.served)
    await system.available(first, 2)
    await company.trade(first, leaving.served)

    # a newer socket wins, HTTP counts, a loss is a loss, a deactivation is one everywhere
    newer = await system.phone(leaving.served, stays)
    assert await stays_phone.ended() == 4006
    by_http = await system.account()
    assert (await system.ask(first, by_http, "POST", "/api/mitra/status/online")).status_code == 200
    beaten = await system.ask(leaving.served, by_http, "POST", "/api/mitra/status/heartbeat")
    assert beaten.json().items() >= {"online": True, "suspect": False}.items(), beaten.text
    lost, lost_phone = await market.mitra(first)
    lost_phone.cut()
    await system.becomes(lost, "offline", 10)
    out, out_phone = await market.mitra(leaving.served)
    await market.operator(first, "POST", f"/api/internal/mitras/{out.id}/deactivate")
    assert await out_phone.ended() == 4502
    await system.available(first, 3)

    # the mirror is lost, then its server; nobody notices
    await system.valkey.flushall()
    await system.available(first, 3, 15)
    await company.valkey.restart()
    await system.valkey.connection_pool.disconnect()
    await system.available(first, 3, 20)
    await system.available(leaving.served, 3, 20)
    assert (await newer.ask(type="ping"))["type"] == "pong"

    # one instance leaves
    leaving.signal(signal.SIGTERM)
    for account in (stays, moves):
        await system.phone(first, account)
    assert await leaving.stopped() == 0
    assert await moves_phone.ended() in (4006, 1012), "as its successor came in time, or hardly"
    await company.trade(first, first)
    await system.available(first, 3, 10)
    await system.no_drift()
    assert [await system.state(each) for each in (stays, moves, by_http)] == ["online"] * 3
    assert "offline" not in {state for each in (stays, moves, by_http) for state, _ in await system.log_of(each)}


async def test_statements_share_few_connections_and_outlive_them(
    database: str, pooler: PgBouncer, postgres_server: EmbeddedPostgres
) -> None:
    direct = await connect(database, pooler="none")
    try:
        async with Postgres(pooler.instead_of(database), pool_max=30, pooler="transaction") as postgres:
            await eventually(lambda: postgres.available)

            async def ask(number: int) -> None:
                found = await postgres.fetchrow("SELECT $1::int AS n, $2::jsonb AS j, $3::uuid AS u",
                                                number, {"n": number}, uuid.UUID(int=number))  # fmt: skip
                assert found is not None
                assert (found["n"], found["j"], found["u"]) == (number, {"n": number}, str(uuid.UUID(int=number)))
                async with postgres.transaction() as connection:
                    before = await connection.fetchval("SELECT txid_current()")
                    assert await connection.fetchval("SELECT txid_current()") == before

            await asyncio.gather(*(ask(number) for number in range(300)))
            ended = await direct.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            assert 0 < ended <= 8, "that is all that the pooler may open"

            async def answers() -> bool:
                await ask(1)
                return True

            await eventually(partial(_in_time, answers), 20)
            await asyncio.gather(*(ask(number) for number in range(50)))
    finally:
        await direct.close()


async def _in_time(answers: Callable[[], object]) -> object:
    try:
        return await answers()  # type: ignore[misc]
    except Exception as error:
        raise AssertionError(repr(error)) from error


async def test_the_pooler_restarts_under_load(database: str, valkey: EmbeddedValkey, pooler: PgBouncer) -> None:
    async with System(
        database, valkey.url, {**SETTINGS, "MITRA_OFFLINE_GRACE_SECONDS": "4", **pooled(pooler, database)}
    ) as system:
        first, second = await asyncio.gather(system.instance(), system.instance())
        async with Crowd(system, [first, second], 60) as crowd:
            await crowd.everyone_back(20)
            crowd.samples.clear()
            pooler.kill()
            for client in crowd.clients[:6]:
                client.drop()  # they come back while nobody can write it down
            await eventually(lambda: not (first.node.postgres.available or second.node.postgres.available), 20)  # type: ignore[union-attr]
            await pooler.start()
            await crowd.everyone_back(30)
            await system.no_drift()
            assert crowd.lows(1.5) == []
            assert await crowd.offline_of_the_living() == []


async def test_many_programs_migrate_at_once_through_the_pooler(empty_database: str, pooler: PgBouncer) -> None:
    environment = {"PATH": os.environ["PATH"], **pooled(pooler, empty_database)}
    programs = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hadir", "migrate", env=environment, stdout=asyncio.subprocess.PIPE, stderr=-2
        )
        for _ in range(4)
    ]
    said = [(await program.communicate())[0].decode() for program in programs]
    assert [program.returncode for program in programs] == [0] * 4, said
    applied = [line for text in said for line in text.splitlines() if line.startswith("Applied")]
    assert sorted(applied) == [f"Applied {name}." for name in migrate.known()]
    connection = await connect(empty_database, pooler="none")
    try:
        await migrate.check(connection)
    finally:
        await connection.close()

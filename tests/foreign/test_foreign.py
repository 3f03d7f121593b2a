"""Clients that nobody here wrote connect, beat, toggle, rotate and meet each close code.

Python's `websockets` is the client of all other tests.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.messages import CloseCode
from tests.foreign.clients import Browser, Foreign, NodeClient
from tests.support import eventually
from tests.support.system import Account, Served, System

ORIGIN_PATH = "/health"


@asynccontextmanager
async def meeting(
    kind: Callable[[], NodeClient | Browser], database: str, valkey: EmbeddedValkey
) -> AsyncIterator[tuple[Foreign, System, Served]]:
    """A client of a kind and a server that it may talk to."""
    async with kind() as client, System(database, valkey.url) as system:
        page = await system.instance()
        served = await system.instance(ALLOWED_ORIGINS=page.url, MITRA_HEARTBEAT_STALE_SECONDS="60")
        if isinstance(client, Browser):
            await client.visit(page.url + ORIGIN_PATH)
        yield client, system, served


KINDS = pytest.mark.parametrize("kind", [NodeClient, Browser])


@KINDS
async def test_it_connects_beats_toggles_and_says_goodbye(
    kind: Callable[[], NodeClient | Browser], database: str, valkey: EmbeddedValkey
) -> None:
    async with meeting(kind, database, valkey) as (client, system, served):
        mitra = await system.account()
        await client.connect(served.ws_url(), mitra.token)
        assert (await client.message("hello"))["state"]["online"] is True
        await system.available(served, 1)
        await client.send(type="ping", id="p")
        assert (await client.message("pong"))["re"] == "p"
        await client.send(type="status", online=False, id="s")
        assert (await client.message("ack"))["re"] == "s"
        await system.becomes(mitra, "offline")
        await client.send(type="status", online=True)
        await system.becomes(mitra, "online")
        await client.close(1000)
        await client.event("close", code=1000)
        row = await system.becomes(mitra, "offline")
        assert row["reason"] == "goodbye"


async def test_nodes_ping_frames_are_beats(database: str, valkey: EmbeddedValkey) -> None:
    async with meeting(NodeClient, database, valkey) as (client, system, served):
        assert isinstance(client, NodeClient)
        mitra = await system.account()
        await client.connect(served.ws_url(), mitra.token)
        await client.message("hello")
        connection = served.node.registry.of(mitra.id)[0]  # type: ignore[union-attr]
        before = connection.session.last_beat
        await client.command(ping=True)
        await client.event("pong")
        assert connection.session.last_beat > before


@KINDS
async def test_it_rotates_without_a_dip(
    kind: Callable[[], NodeClient | Browser], database: str, valkey: EmbeddedValkey
) -> None:
    async with meeting(kind, database, valkey) as (client, system, served):
        mitra = await system.account()
        await client.connect(served.ws_url(), mitra.token)
        await client.message("hello")
        served.node.registry.of(mitra.id)[0].rotate(time.monotonic(), 0.0, "max_age")  # type: ignore[union-attr]
        assert (await client.message("reconnect"))["after_ms"] == 0
        await client.connect(served.ws_url(), mitra.token)
        await client.message("hello", socket=2)
        await client.event("close", socket=1, code=4006)
        assert await system.log_of(mitra) == [("online", "connected")]


@KINDS
async def test_it_meets_every_close_code(
    kind: Callable[[], NodeClient | Browser], database: str, valkey: EmbeddedValkey
) -> None:
    async with meeting(kind, database, valkey) as (client, system, served):
        codes = [code for code in CloseCode if code not in (CloseCode.NORMAL, CloseCode.TOO_BIG)]
        for number, code in enumerate(codes, 1):
            mitra = await system.account()
            await client.connect(served.ws_url(), mitra.token)
            await client.message("hello", socket=number)
            served.node.registry.of(mitra.id)[0].close(code)  # type: ignore[union-attr]
            closed = await client.event("close", socket=number)
            assert (closed["code"], closed["reason"]) == (code, code.text)
        await eventually(lambda: len(served.node.registry) == 0)  # type: ignore[union-attr]


async def test_a_browser_learns_why_it_was_refused(database: str, valkey: EmbeddedValkey) -> None:
    async with meeting(Browser, database, valkey) as (client, system, served):
        mitra: Account = await system.account()
        for number, (token, code) in enumerate([(mitra.make_token(-60), 4001), ("rubbish", 4001)], 1):
            await client.connect(served.ws_url(), token)
            assert (await client.message("error", socket=number))["code"] in ("token_expired", "bad_token")
            await client.event("close", socket=number, code=code)
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", mitra.id)
        await client.connect(served.ws_url(), mitra.token)
        await client.event("close", socket=3, code=4502)


async def test_node_is_refused_before_the_upgrade(database: str, valkey: EmbeddedValkey) -> None:
    async with meeting(NodeClient, database, valkey) as (client, _, served):
        await client.connect(served.ws_url(), "rubbish")
        await client.event("refused", status=401)

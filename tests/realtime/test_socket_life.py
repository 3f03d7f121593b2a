"""A mitra's socket from hello to goodbye."""

from __future__ import annotations

from dataclasses import replace

from hadir.dev.embedded import EmbeddedValkey
from tests.support.system import System


async def test_a_mitra_that_connects_is_available_and_one_that_says_goodbye_is_offline(
    database: str, valkey: EmbeddedValkey, carried: dict[str, str]
) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        assert phone.hello["state"]["online"] is True
        await system.available(served, 1)
        assert (await phone.ask(type="ping"))["type"] == "pong"
        await phone.goodbye()
        await system.becomes(mitra, "offline")
        await system.available(served, 0)
        assert await system.log_of(mitra) == [("online", "connected"), ("offline", "goodbye")]


async def test_a_lost_connection_is_suspect_then_offline(
    database: str, valkey: EmbeddedValkey, carried: dict[str, str]
) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        await system.available(served, 1)
        phone.cut()
        await system.becomes(mitra, "suspect")
        await system.available(served, 0)
        assert (await system.beacon(served))["online"] == 1
        await system.becomes(mitra, "offline")
        assert await system.log_of(mitra) == [("online", "connected"), ("suspect", "lost"), ("offline", "lost")]


async def test_a_connection_that_has_ended_never_reclaims(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        connection = node.registry.of(mitra.id)[0]
        await phone.goodbye()
        await system.becomes(mitra, "offline")
        node.sockets.reclaim([connection])  # as when its last beat was under way while it said goodbye
        await node.transitions.join()
        assert await system.state(mitra) == "offline"


async def test_an_old_rows_deactivation_that_arrives_late_does_not_end_a_newer_connection(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        connection = node.registry.of(mitra.id)[0]
        assert connection.row is not None
        connection.hear(replace(connection.row, version=connection.row.version - 1, is_active=False))
        assert (await phone.ask(type="ping"))["type"] == "pong"
        assert await system.state(mitra) == "online"

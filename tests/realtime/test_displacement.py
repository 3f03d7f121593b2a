"""Two connections of one mitra: the newest claim wins, the other is told, and nobody flaps (R3, R4)."""

from __future__ import annotations

from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.system import SILENT, System


async def test_the_same_login_on_another_instance_supersedes(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        mitra = await system.account()
        old = await system.phone(first, mitra)
        new = await system.phone(second, mitra)
        assert await old.ended() == 4006
        row = await system.row(mitra)
        assert row["connection_id"] == new.hello["connection_id"]
        assert await system.log_of(mitra) == [("online", "connected")]


async def test_another_login_displaces(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        mitra = await system.account()
        other_login = await system.account(sub=mitra.id)
        old = await system.phone(first, mitra)
        await system.phone(second, other_login)
        assert await old.ended() == 4503
        assert await system.state(mitra) == "online"


async def test_on_one_instance_too(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra = await system.account()
        old = await system.phone(served, mitra)
        new = await system.phone(served, mitra)
        assert await old.ended() == 4006
        assert (await new.ask(type="ping"))["type"] == "pong"
        assert served.node is not None
        await eventually(lambda: len(served.node.registry) == 1)  # type: ignore[union-attr]


async def test_an_old_sockets_late_close_does_not_touch_its_successors_row(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        mitra = await system.account()
        old = await system.phone(first, mitra)
        new = await system.phone(second, mitra)
        await old.ended()
        await eventually(lambda: len(first.node.registry) == 0)  # type: ignore[union-attr]
        await first.node.transitions.join()  # type: ignore[union-attr]
        row = await system.row(mitra)
        assert (row["state"], row["connection_id"]) == ("online", new.hello["connection_id"])
        assert await system.log_of(mitra) == [("online", "connected")], "and never did in between"


async def test_with_the_bus_dead_a_displacement_is_found_by_polling(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, SILENT) as system:
        first, second = await system.instance(), await system.instance()
        mitra = await system.account()
        old = await system.phone(first, mitra)
        valkey.freeze()
        try:
            await eventually(lambda: not first.node.bus.up and not second.node.bus.up)  # type: ignore[union-attr]
            await system.phone(second, mitra)
            assert await old.ended(within=4.0) == 4006
        finally:
            valkey.thaw()

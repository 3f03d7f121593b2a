"""R11: a drain sends sockets elsewhere as soon as the other instances take them."""

from __future__ import annotations

import asyncio

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.messages import CloseCode
from tests.support import eventually
from tests.support.system import FAST, System


async def test_a_drain_asks_as_soon_as_the_others_let_in(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, {**FAST, "DRAIN_SECONDS": "60"}) as system:
        leaving, other = await system.instance(), await system.instance()
        accounts = await system.accounts(20)
        phones = [await system.phone(leaving, account) for account in accounts]
        assert leaving.node is not None

        async def others_known() -> bool:
            assert leaving.node is not None
            await leaving.node.liveness.beat()
            return sum(each.state == "ready" for each in leaving.node.liveness.instances) == 2

        await eventually(others_known)
        drain = asyncio.create_task(leaving.node.drain())
        for account, phone in zip(accounts, phones, strict=True):
            await phone.message("reconnect", 15)  # over three quarters of the drain it would be 45 s for the last
            await system.phone(other, account)
        await asyncio.wait_for(drain, 15)
        assert {await phone.ended() for phone in phones} == {CloseCode.SUPERSEDED}

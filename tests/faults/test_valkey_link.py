"""The link to Valkey under a network that resets: every call ends with its answer or with `ValkeyUnavailable`."""

from __future__ import annotations

import asyncio

from hadir.dev.embedded import EmbeddedValkey
from hadir.errors import ValkeyUnavailable
from hadir.realtime.valkey import Valkey
from tests.faults.proxy import Proxy
from tests.support import eventually

MOMENTS = 12
"""Turns of the event loop between the reset and the next call: before, while and after it is noticed."""


async def test_a_reset_of_an_idle_connection_is_an_outage_and_no_defect(valkey: EmbeddedValkey) -> None:
    async with Proxy(valkey.port) as proxy, Valkey(f"redis://127.0.0.1:{proxy.port}/0") as link:
        for turns in range(MOMENTS):
            await eventually(lambda: link.available)
            await asyncio.gather(*(link.command("PING") for _ in range(4)))
            proxy.reset()
            for _ in range(turns):
                await asyncio.sleep(0)
            answers = await asyncio.gather(*(link.command("PING") for _ in range(4)), return_exceptions=True)
            assert [each for each in answers if each is not True and not isinstance(each, ValkeyUnavailable)] == []
            await eventually(lambda: answered(link))


async def answered(link: Valkey) -> bool:
    try:
        return bool(await link.command("PING"))
    except ValkeyUnavailable:
        return False

"""The link to Valkey: every call ends with its answer or with `ValkeyUnavailable`, and only Valkey makes the latter."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.errors import ValkeyUnavailable
from hadir.realtime.valkey import DEADLINE_S, DEADLINES_TO_OPEN, Valkey
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


@pytest.mark.parametrize("within", ["a timer", "a reader"])
async def test_what_came_in_time_counts_although_this_process_stood_still(valkey: EmbeddedValkey, within: str) -> None:
    loop, (ours, theirs) = asyncio.get_running_loop(), socket.socketpair()

    def stand_still() -> None:
        time.sleep(1.5 * DEADLINE_S)

    def read() -> None:
        ours.recv(1)
        stand_still()

    with ours, theirs:
        loop.add_reader(ours, read)
        async with Valkey(valkey.url) as link:
            await eventually(lambda: link.available)
            for _ in range(DEADLINES_TO_OPEN):
                if within == "a timer":
                    loop.call_later(0.1, stand_still)
                else:
                    loop.call_later(0.1, theirs.send, b".")
                assert await link.command("BLPOP", "nothing", 0.2) is None
            assert link.available
        loop.remove_reader(ours)


async def answered(link: Valkey) -> bool:
    try:
        return bool(await link.command("PING"))
    except ValkeyUnavailable:
        return False

"""What a simulated customer remembers, and that it waits for news."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hadir.dev.memory import KEPT, Memory
from hadir.dev.told import State
from tests.dev.histories import ACCEPTED, ACTIVE, ENDED, PAIRING, SESSION


def test_the_newest_version_is_remembered() -> None:
    memory = Memory()
    memory.take([PAIRING, SESSION])
    assert memory.decided("p1") is None
    memory.take([ACCEPTED, ACTIVE])
    memory.take([PAIRING, SESSION])
    assert memory.decided("p1") == ACCEPTED
    assert memory.session("s1") == memory.open_session() == ACTIVE
    memory.take([ENDED])
    assert memory.open_session() is None


def test_what_a_hello_does_not_list_is_over() -> None:
    memory = Memory()
    memory.take([PAIRING, replace(ACCEPTED, id="p2"), ACTIVE, replace(ACTIVE, id="s2"), replace(ENDED, id="s3")])
    assert memory.searching() == PAIRING
    memory.take([State((), (), pending=True, greets=True), State((), (), pending=False, greets=False)])
    assert memory.unlisted == []
    memory.take([State(("s2",), (), pending=False, greets=True)])
    assert memory.unlisted == [PAIRING, ACTIVE]
    assert memory.is_unlisted("s1")
    assert memory.session("s1") is None


async def test_it_waits_until_it_is_told() -> None:
    memory = Memory()
    waiting = asyncio.create_task(memory.until(lambda: memory.decided("p1"), 5))
    memory.take([PAIRING])
    assert await memory.until(lambda: memory.decided("p1"), 0.01) is None
    memory.take([ACCEPTED])
    assert await waiting == ACCEPTED


def test_it_is_bounded() -> None:
    memory = Memory()
    memory.take([replace(PAIRING, id=str(number)) for number in range(2 * KEPT)])
    assert len(memory._pairings) == KEPT

"""The coalescing primitive under cancellation, bad items, conflicts and outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from hadir.errors import PostgresUnavailable, Refused
from hadir.realtime.batcher import Batcher
from tests.support import eventually


class Sink:
    """What is flushed, under the test's control."""

    def __init__(self) -> None:
        self.flushes: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Callable[[list[str]], Exception | None] = lambda items: None

    async def __call__(self, items: list[str]) -> Sequence[str]:
        self.flushes.append(items)
        await self.gate.wait()
        if error := self.fails(items):
            raise error
        return [item.upper() for item in items]


@asynccontextmanager
async def batching(*, paced: bool = False, **limits: int) -> AsyncIterator[tuple[Sink, Batcher[str, str]]]:
    sink = Sink()
    async with Batcher("test", sink, paced=paced, **({"flush_max": 100, "queue_max": 1000} | limits)) as batcher:
        yield sink, batcher


async def test_a_lone_call_waits_for_nobody_and_what_arrives_meanwhile_rides_the_next_flush() -> None:
    async with batching() as (sink, batcher):
        sink.gate.clear()
        first = batcher.submit("a", key="a")
        await eventually(lambda: sink.flushes)
        others = [batcher.submit(item, key=item) for item in "bcd"]
        sink.gate.set()
        assert [await future for future in (first, *others)] == ["A", "B", "C", "D"]
        assert sink.flushes == [["a"], ["b", "c", "d"]]


async def test_after_many_at_once_the_next_ones_are_collected() -> None:
    async with batching(paced=True, flush_max=40) as (sink, batcher):
        await asyncio.gather(*(batcher.submit(f"{n}", key=n) for n in range(40)))
        first = batcher.submit("a", key="a")
        for _ in range(10):
            await asyncio.sleep(0)  # it could begin now, and waits
        await asyncio.gather(first, batcher.submit("b", key="b"))
        assert [len(items) for items in sink.flushes] == [40, 2]


async def test_at_most_one_item_a_key_a_flush_and_later_ones_in_their_order() -> None:
    async with batching() as (sink, batcher):
        futures = [batcher.submit(item, key=item[0]) for item in ("x1", "y1", "x2", "x3", "y2")]
        await asyncio.gather(*futures)
        assert sink.flushes == [["x1", "y1"], ["x2", "y2"], ["x3"]]


async def test_a_caller_that_goes_away_does_not_withdraw_its_item() -> None:
    async with batching() as (sink, batcher):
        sink.gate.clear()

        async def caller(item: str) -> str:
            return await batcher.submit(item, key=item)

        callers = [asyncio.create_task(caller(item)) for item in ("a", "b")]
        await eventually(lambda: sink.flushes)
        for task in callers:
            task.cancel()
        sink.gate.set()
        await asyncio.gather(*callers, return_exceptions=True)
        await batcher.join()
        assert sorted(item for flush in sink.flushes for item in flush) == ["a", "b"]


async def test_a_bad_item_fails_alone() -> None:
    async with batching() as (sink, batcher):
        sink.fails = lambda items: ValueError("bad") if "bad" in items else None
        items = ["a", "b", "bad", "c", "d"]
        results = await asyncio.gather(*(batcher.submit(i, key=i) for i in items), return_exceptions=True)
        assert [str(result) for result in results] == ["A", "B", "bad", "C", "D"]


async def test_a_deadlock_is_repeated() -> None:
    async with batching() as (sink, batcher):
        sink.fails = lambda items: asyncpg.DeadlockDetectedError("deadlock") if len(sink.flushes) < 3 else None
        assert await batcher.submit("a", key="a") == "A"
        assert len(sink.flushes) == 3


async def test_durable_items_wait_for_postgres_and_the_others_fail_at_once() -> None:
    async with batching() as (sink, batcher):
        away = True
        sink.fails = lambda items: PostgresUnavailable("away") if away else None
        durable = batcher.submit("a", key="a", durable=True)
        with pytest.raises(PostgresUnavailable):
            await batcher.submit("b", key="b")
        with pytest.raises(PostgresUnavailable):
            await batcher.submit("c", key="c")
        later = batcher.submit("d", key="a", durable=True)
        away = False
        assert [await durable, await later] == ["A", "D"]
        assert await batcher.submit("e", key="e") == "E"


async def test_a_full_queue_refuses_all_but_what_must_be_kept() -> None:
    async with batching(queue_max=2) as (sink, batcher):
        sink.gate.clear()
        futures = [batcher.submit("a", key="a")]
        await eventually(lambda: sink.flushes)
        futures += [batcher.submit(item, key=item) for item in "bc"]
        with pytest.raises(Refused) as refusal:
            batcher.submit("d", key="d")
        assert refusal.value.status == 503
        futures.append(batcher.submit("e", key="e", must=True))
        sink.gate.set()
        assert [await future for future in futures] == ["A", "B", "C", "E"]


async def test_stopping_fails_what_waits() -> None:
    async with batching() as (sink, batcher):
        sink.gate.clear()
        waiting = [batcher.submit(item, key="a") for item in "ab"]
        await eventually(lambda: sink.flushes)
    for future in waiting:
        with pytest.raises(PostgresUnavailable):
            await future

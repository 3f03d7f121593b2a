"""Where a program may be stopped so that others overtake it: at a call, or at any of its awaits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar

from tests.support import eventually

T = TypeVar("T")


class Barrier:
    """Calls that stand before it, or behind what they did, until it opens."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self.standing = 0
        self._under_way = 0

    async def reached(self, within: float = 10.0) -> None:
        await eventually(lambda: self.standing, within)

    def open(self) -> None:
        self._opened.set()

    async def through(self, within: float = 10.0) -> None:
        """It opens, and whoever stood there has done what it was about to do."""
        self.open()
        await eventually(lambda: not self._under_way, within)

    @contextmanager
    def passing(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def stand(self) -> None:
        if not self._opened.is_set():
            self.standing += 1
            await self._opened.wait()


@asynccontextmanager
async def stopped(owner: object, name: str, *, behind: bool = False) -> AsyncIterator[Barrier]:
    """Whoever calls this method of this one object stops: before it, or `behind` it with the answer in hand.

    Until the barrier opens, at the latest at the end of the block.
    """
    barrier, call = Barrier(), getattr(owner, name)

    async def stopping(*args: Any, **kwargs: Any) -> Any:
        with barrier.passing():
            if not behind:
                await barrier.stand()
            answer = await call(*args, **kwargs)
            if behind:
                await barrier.stand()
            return answer

    setattr(owner, name, stopping)
    try:
        yield barrier
    finally:
        barrier.open()
        setattr(owner, name, call)


class Interrupted(Generic[T]):
    """Awaits a coroutine and cancels it at its `at`-th await, counted from 1.

    `late`: what it waited for had come when the cancellation did, and is lost with it. `over`: it ended before.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], at: int, *, late: bool = False) -> None:
        self._coroutine = coroutine
        self._at = at
        self._late = late
        self.awaits = 0

    @property
    def over(self) -> bool:
        return self.awaits < self._at

    def __await__(self) -> Generator[Any, Any, T]:
        task = asyncio.current_task()
        assert task is not None
        came: BaseException | None = None
        while True:
            try:
                waits_for = self._coroutine.send(None) if came is None else self._coroutine.throw(came)
            except StopIteration as end:
                result: T = end.value
                return result
            self.awaits += 1
            if self.awaits == self._at and not self._late:
                task.cancel()  # is thrown at the await that follows
            try:
                yield waits_for
                came = None
            except BaseException as error:  # whatever it is, it is the coroutine's
                came = error
            if self.awaits == self._at and self._late:
                came = asyncio.CancelledError()


async def interrupt(coroutine: Coroutine[Any, Any, T], at: int, *, late: bool) -> Interrupted[T]:
    """Runs it as a task of its own that is cancelled at its `at`-th await; other errors are the caller's."""
    interrupted = Interrupted(coroutine, at, late=late)

    async def run() -> None:
        await interrupted

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return interrupted

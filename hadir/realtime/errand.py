"""Work that takes as long as a store takes, done beside those who want it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Errand:
    """One piece of work at a time. `late` is called when it ends after whoever began it has waited enough."""

    def __init__(self, work: Callable[[], Awaitable[None]], *, late: Callable[[], None]) -> None:
        self._work = work
        self._late = late
        self._task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    async def go(self, patience_s: float) -> None:
        """Begins it, unless it is under way, and waits so long for its end. Raises what the work raised."""
        if self.under_way:
            return
        self._result()
        task = self._task = asyncio.create_task(self._run())
        await self.wait(patience_s)
        if not task.done():
            task.add_done_callback(lambda _: self._late())

    async def wait(self, seconds: float) -> None:
        """For the end of what is under way, at most so long. Raises what the work raised."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
        self._result()

    async def _run(self) -> None:
        await self._work()

    def _result(self) -> None:
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            if not task.cancelled():
                task.result()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

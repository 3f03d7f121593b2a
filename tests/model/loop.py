"""An event loop on a virtual clock: real tasks, no waiting, the same order every time."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class Process:
    """What a simulated process is for the loop: while it is frozen, what it would do waits; killed, it is dropped."""

    def __init__(self) -> None:
        self.frozen = False
        self.killed = False
        self.backlog: list[asyncio.Handle] = []


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""Whose task runs; the stores, the network and the apps belong to nobody."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs what is ready, then moves its clock to the next timer. `steps` counts what was run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.uncaught: list[BaseException] = []
        """What nobody caught; it ends the run."""
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = 0
        self._outside = Context()

    # for the simulation

    def run_until(self, at: float, *, steps: int | None = None) -> None:
        """Until the clock is there, or `steps` have been counted in all."""
        asyncio._set_running_loop(self)
        try:
            while (steps is None or self.steps < steps) and self._advance(at):
                self._step()
                if self.uncaught:
                    raise self.uncaught.pop(0)
        finally:
            asyncio._set_running_loop(None)

    def outside(self, delay_s: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Calls it as nobody's process, whoever asks."""
        return self.call_at(self.now + delay_s, callback, *args, context=self._outside)

    def thaw(self, process: Process) -> None:
        process.frozen = False
        self._ready.extend(process.backlog)
        process.backlog.clear()

    def _advance(self, at: float) -> bool:
        if self._ready:
            return True
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers or self._timers[0][0] > at:
            self.now = max(self.now, at)
            return False
        self.now = max(self.now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(self._timers)[2])
        return True

    def _step(self) -> None:
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        process = handle._context.get(PROCESS)  # type: ignore[attr-defined] # what asyncio itself runs it in
        if process is not None and process.frozen:
            process.backlog.append(handle)
            return
        self.steps += 1
        handle._run()  # as the loops of asyncio do

    # for asyncio

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override] # their stubs have a TypeVarTuple
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is skipped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.uncaught.append(context.get("exception") or RuntimeError(context["message"]))

"""What tests share: waiting for a condition under a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T | Awaitable[T]], within: float = 5.0) -> T:
    """The condition's first true value; fails after `within` seconds, saying what it last was."""
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            found = condition()
            value: T = await found if inspect.isawaitable(found) else found  # type: ignore[assignment]
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            where = getattr(condition, "__qualname__", condition)
            raise AssertionError(f"not within {within} s: {where}; it was last {last!r}")
        await asyncio.sleep(0.01)

"""What tests share: waiting for a condition under a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from hadir.errors import StoreUnavailable


async def eventually(condition: Callable[[], Any], within: float = 5.0) -> Any:
    """The condition's first true value; fails after `within` seconds, saying what it last was."""
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            found = condition()
            value = await found if inspect.isawaitable(found) else found
            if value:
                return value
            last = value
        except (AssertionError, StoreUnavailable) as error:
            last = error
        if time.monotonic() > deadline:
            where = getattr(condition, "__qualname__", condition)
            raise AssertionError(f"not within {within} s: {where}; it was last {last!r}")
        await asyncio.sleep(0.01)

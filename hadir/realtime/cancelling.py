"""A cancellation that a TaskGroup has lost."""

from __future__ import annotations

import asyncio


def heed_cancellation() -> None:
    """Raises `CancelledError` where the present task is being cancelled and goes on all the same.

    Before Python 3.13 a TaskGroup that is ending because one of its tasks failed swallows a cancellation that arrives
    meanwhile. Whoever then begins again, begins for ever: call this first.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

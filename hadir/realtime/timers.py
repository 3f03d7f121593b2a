"""Timers: what is due is in Postgres, and whichever instance looks first does it, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hadir.db.pool import CONFLICTS
from hadir.errors import StoreUnavailable
from hadir.realtime.waiting import happens

log = logging.getLogger(__name__)

LOOK_S = 0.4
"""Every instance looks this often: a timer is at most this late, plus the time that its work takes."""


class Timer:
    """One kind of work that becomes due. `work` answers how much it did; while it is something, there may be more."""

    def __init__(self, name: str, work: Callable[[], Awaitable[int]]) -> None:
        self._name = name
        self._work = work
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something is due that this instance knows of."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            await happens(self._wake, LOOK_S)
            self._wake.clear()
            try:
                while await self._work():
                    pass
            except (StoreUnavailable, *CONFLICTS) as error:
                log.debug("timer.waits", extra={"timer": self._name, "error": str(error)})
                await asyncio.sleep(LOOK_S)

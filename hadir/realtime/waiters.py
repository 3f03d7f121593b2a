"""Requests that wait for a change of one mitra."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hadir.errors import Refused

WAITING_MAX = 4
"""Requests that wait for one mitra: an app needs one, two while it changes networks."""


class Waiters:
    """Subscribe, then read: whatever changes after the reading sets the event."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False
        """Whether this instance stops: whoever waits answers what is known."""

    @contextmanager
    def watch(self, mitra_id: str) -> Iterator[asyncio.Event]:
        """Raises `Refused` (429) where too many wait for this mitra already."""
        event = asyncio.Event()
        if len(self._waiting.get(mitra_id, ())) >= WAITING_MAX:
            raise Refused(429, "too_many", f"At most {WAITING_MAX} requests may wait for one mitra.", retry_after=1)
        self._waiting.setdefault(mitra_id, set()).add(event)
        try:
            yield event
        finally:
            watching = self._waiting[mitra_id]
            watching.discard(event)
            if not watching:
                del self._waiting[mitra_id]

    def of(self, mitra_ids: Iterable[str]) -> list[str]:
        """Those of the ids that somebody waits for."""
        return [mitra_id for mitra_id in mitra_ids if mitra_id in self._waiting]

    def wake_all(self) -> None:
        """Nobody is to wait any longer."""
        self.closed = True
        for mitra_id in self._waiting:
            self.wake(mitra_id)

    def wake(self, mitra_id: str) -> None:
        for event in self._waiting.get(mitra_id, ()):
            event.set()

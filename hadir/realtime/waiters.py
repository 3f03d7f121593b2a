"""Requests that wait for a change of what concerns one mitra or customer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hadir.errors import Refused

WAITING_MAX = 4
"""Requests that wait for one of them: an app needs one, two while it changes networks."""


class Waiters:
    """Subscribe, then read: whatever changes after the reading sets the event."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False
        """Whether this instance stops: whoever waits answers what is known."""

    @contextmanager
    def watch(self, subject_id: str) -> Iterator[asyncio.Event]:
        """Raises `Refused` (429) where too many wait for this one already."""
        event = asyncio.Event()
        if len(self._waiting.get(subject_id, ())) >= WAITING_MAX:
            why = f"At most {WAITING_MAX} requests may wait for one mitra or customer."
            raise Refused(429, "too_many", why, retry_after=1)
        self._waiting.setdefault(subject_id, set()).add(event)
        try:
            yield event
        finally:
            watching = self._waiting[subject_id]
            watching.discard(event)
            if not watching:
                del self._waiting[subject_id]

    def of(self, subject_ids: Iterable[str]) -> list[str]:
        """Those of the ids that somebody waits for."""
        return [subject_id for subject_id in subject_ids if subject_id in self._waiting]

    def wake_all(self) -> None:
        """Nobody is to wait any longer."""
        self.closed = True
        for subject_id in self._waiting:
            self.wake(subject_id)

    def wake(self, subject_id: str) -> None:
        for event in self._waiting.get(subject_id, ()):
            event.set()

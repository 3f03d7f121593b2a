"""Requests that wait for a change of what concerns one mitra or customer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

WAITING_MAX = 4
"""Requests that wait for one of them: an app needs one, two while it changes networks."""


class Wait:
    """One request's. `changed` is set by what concerns its subject; once it is `over`, what is known is the answer.

    `displaced`: since newer ones wait; an app that asks again at once would only displace another.
    """

    __slots__ = ("changed", "displaced", "over")

    def __init__(self, *, over: bool) -> None:
        self.changed = asyncio.Event()
        self.over = over
        self.displaced = False

    def end(self) -> None:
        self.over = True
        self.changed.set()


class Waiters:
    """Subscribe, then read: whatever changes after the reading sets the event."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Wait]] = {}
        self._closed = False

    @contextmanager
    def watch(self, subject_id: str) -> Iterator[Wait]:
        """Where too many wait for this one already, the oldest gives way: its app may have left without a word."""
        wait = Wait(over=self._closed)
        waiting = self._waiting.setdefault(subject_id, [])
        waiting.append(wait)
        if len(waiting) > WAITING_MAX:
            oldest = waiting[-1 - WAITING_MAX]  # those before it have been ended before
            oldest.displaced = True
            oldest.end()
        try:
            yield wait
        finally:
            waiting.remove(wait)
            if not waiting:
                del self._waiting[subject_id]

    def of(self, subject_ids: Iterable[str]) -> list[str]:
        """Those of the ids that somebody waits for."""
        return [subject_id for subject_id in subject_ids if subject_id in self._waiting]

    def wake_all(self) -> None:
        """This instance stops: nobody is to wait any longer."""
        self._closed = True
        for waiting in self._waiting.values():
            for wait in waiting:
                wait.end()

    def wake(self, subject_id: str) -> None:
        for wait in self._waiting.get(subject_id, ()):
            wait.changed.set()

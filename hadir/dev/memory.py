"""What one simulated customer has been told, and waiting to be told more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable
from typing import TypeVar

from hadir.dev.told import Pairing, Session, State, What

KEPT = 50
"""Of pairings and of sessions."""
Found = TypeVar("Found")


class Memory:
    """The newest version of each pairing and session."""

    def __init__(self) -> None:
        self._pairings: dict[str, Pairing] = {}
        self._sessions: dict[str, Session] = {}
        self._news = asyncio.Event()
        self.unlisted: list[Pairing | Session] = []
        """Those that were open, and that a later `hello` does not list: over, who knows how."""

    def take(self, told: Iterable[What]) -> None:
        for what in told:
            match what:
                case State(pending=False) if what.greets:
                    self._forget_all_but({*what.sessions, *what.pairings})
                case Pairing():
                    _keep_newer(self._pairings, what)
                case Session():
                    _keep_newer(self._sessions, what)
        self._news.set()

    def _forget_all_but(self, listed: Container[str]) -> None:
        known: list[Pairing | Session] = [*self._pairings.values(), *self._sessions.values()]
        over = [each for each in known if each.open and each.id not in listed]
        self.unlisted += over
        for each in over:
            self._pairings.pop(each.id, None)
            self._sessions.pop(each.id, None)

    def is_unlisted(self, name: str) -> bool:
        return any(each.id == name for each in self.unlisted)

    def decided(self, pairing_id: str) -> Pairing | None:
        pairing = self._pairings.get(pairing_id)
        return pairing if pairing is not None and not pairing.open else None

    def searching(self) -> Pairing | None:
        return next((each for each in self._pairings.values() if each.open and not each.reroute), None)

    def session(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def open_session(self) -> Session | None:
        return next((each for each in reversed(self._sessions.values()) if each.open), None)

    async def until(self, found: Callable[[], Found | None], within_s: float) -> Found | None:
        """What `found` answers once it is something; None when it is not in time."""
        try:
            async with asyncio.timeout(within_s):
                while (value := found()) is None:
                    self._news.clear()
                    await self._news.wait()
                return value
        except TimeoutError:
            return None


Told = TypeVar("Told", Pairing, Session)


def _keep_newer(kept: dict[str, Told], what: Told) -> None:
    known = kept.get(what.id)
    if known is None or what.version > known.version:
        kept[what.id] = what
        if len(kept) > KEPT:
            del kept[next(iter(kept))]

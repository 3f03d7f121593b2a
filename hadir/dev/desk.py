"""What one simulated mitra does about offers and sessions while its app runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self

from hadir.client import Answered, ClientStopped, MitraClient
from hadir.dev.told import Fate, Offered, Said, Session, State, What
from hadir.dev.whereabouts import Whereabouts
from hadir.dev.world import World

OFFERED_HABITS = {"accept": 55, "decline": 15, "ignore": 26, "vanish": 4}
"""What a mitra does about an offer, by weight."""
LOOKS_S, THINKS_S = (0.2, 1.0), (0.5, 6.0)
SEES = 0.8
TAPS_ANYWAY = 0.1
"""How often one accepts what it has been told is gone."""
REPLIES = 0.8
TYPES_S = (0.8, 4.0)
ENDS = 0.15
"""How often it is the mitra who ends a session."""
STAYS_S = (10.0, 40.0)
AT_ONCE = 16
"""Things under way; what comes on top is left alone."""
PHRASES = ("Siap, saya ke sana.", "Sebentar ya.", "Sudah di jalan.", "Baik, Kak.", "Sampai dalam 10 menit.", "👍")

Work = Callable[[str], Coroutine[Any, Any, None]]
"""Of a pairing or a session."""


class Desk:
    """Use `async with`: at its end everything that is under way is dropped. `vanish` cuts the connection."""

    def __init__(
        self,
        world: World,
        mitra_id: str,
        client: MitraClient,
        where: Whereabouts,
        look: Callable[[], None],
        vanish: Callable[[], None],
    ) -> None:
        self._world = world
        self._mitra_id = mitra_id
        self._client = client
        self._where = where
        self._look = look
        self._vanish = vanish
        self._group = asyncio.TaskGroup()
        self._under_way: set[asyncio.Task[None]] = set()
        self._offers: set[str] = set()
        self._sessions: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._under_way:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions != (error,):
                raise  # otherwise the body's own error goes on as it is

    def hear(self, told: Iterable[What]) -> None:
        for what in told:
            match what:
                case State(pending=False):
                    self._where.has_open(what.sessions)
                case Offered(pairing_id) if pairing_id not in self._offers:
                    self._offers.add(pairing_id)
                    self._start(self._consider, pairing_id)
                case Fate(pairing_id):
                    self._offers.discard(pairing_id)
                case Session():
                    self._session(what)
                case Said(sender="customer") if self._world.happens(REPLIES):
                    self._start(self._reply, what.session_id)
        self._look()

    def _session(self, session: Session) -> None:
        self._where.hears_of(self._mitra_id, session)
        if not session.open or session.mitra_id != self._mitra_id:
            self._sessions.discard(session.id)
        elif session.id not in self._sessions:
            self._sessions.add(session.id)
            if self._world.happens(ENDS):
                self._start(self._end, session.id)

    def _start(self, work: Work, about: str) -> None:
        if len(self._under_way) < AT_ONCE:
            attempt = self._attempt(work, about)
            try:
                task = self._group.create_task(attempt)
            except RuntimeError:  # the group is ending, and with it the day
                attempt.close()
                return
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _attempt(self, work: Work, about: str) -> None:
        try:
            await work(about)
        except Answered as refused:
            self._world.witness.dealings.refused[refused.code] += 1
        except ClientStopped:
            return  # the day is over

    @property
    def _hangs(self) -> bool:
        """An app that hangs sends nothing."""
        return self._where.frozen_at is not None

    async def _consider(self, pairing_id: str) -> None:
        await self._world.takes(LOOKS_S)
        if not self._hangs and self._world.happens(SEES):
            await self._client.seen(pairing_id)
        await self._world.takes(THINKS_S)
        if self._hangs or (pairing_id not in self._offers and not self._world.happens(TAPS_ANYWAY)):
            return
        match self._world.habit(OFFERED_HABITS):
            case "accept":
                await self._accept(pairing_id)
            case "decline":
                self._offers.discard(pairing_id)
                await self._client.decline(pairing_id)
            case "vanish":
                self._vanish()

    async def _accept(self, pairing_id: str) -> None:
        began = time.monotonic()
        result = await self._sure_again(self._client.accept(pairing_id))
        self._world.witness.dealings.accepted(pairing_id, result.result, began)

    async def _end(self, session_id: str) -> None:
        await self._world.takes(STAYS_S)
        if session_id in self._sessions and not self._hangs:
            await self._sure_again(self._client.end_session(session_id))

    async def _sure_again(self, request: Coroutine[Any, Any, Any]) -> Any:
        """Until the answer nobody knows whether the mitra has capacity; given up, not until its app starts anew."""
        self._where.asks()
        self._look()
        try:
            answer = await request
        except Answered:
            self._where.answered()
            raise
        self._where.answered()
        self._look()
        return answer

    async def _reply(self, session_id: str) -> None:
        await self._world.takes(TYPES_S)
        if session_id in self._sessions and not self._hangs:
            await self._client.send_message(session_id, self._world.random.choice(PHRASES))

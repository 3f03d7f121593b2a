"""What is known of one simulated mitra without asking the server. Values: time is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from hadir.client import MitraClient
from hadir.dev.person import STALE_GUESS_S, stale_s
from hadir.dev.told import Session
from hadir.dev.truth import Standing

COVER_SLACK_S = 2.0
DEATH_S = 15.0
"""Within this, the death of an instance is noticed."""
AWAY = Standing(sure=False, possible=True)
"""How one stands for the moment of a loss, seen or not."""


class State(StrEnum):
    """What a mitra is doing, for people who watch."""

    AVAILABLE = "available for sure"
    SETTLING = "settling"
    BUSY = "in a session"
    OFF = "switched off"
    RECONNECTING = "reconnecting"
    FROZEN = "frozen"
    GONE = "gone"
    STOPPED = "stopped"


class Whereabouts:
    """One mitra's own record: its intent, its losses, its freezes, its sessions."""

    def __init__(self) -> None:
        self.intent: bool | None = None
        """What the server has acknowledged; None while a change is under way."""
        self.stopped = False
        """It was sent away for good, by a close code or a refusal."""
        self.frozen_at: float | None = None
        self._pongs_when_thawed: int | None = None
        self._reconnects = 0
        self._covered_until = 0.0
        self._sessions: set[str] = set()
        """Open ones, as told: with one of them it has no capacity left."""
        self._asking = 0
        """Requests under way that open or end a session: the server may have done it, and counts so."""

    def came(self) -> None:
        """It starts its app anew."""
        self.intent, self.stopped, self._pongs_when_thawed, self._reconnects = None, False, None, 0
        self._sessions, self._asking = set(), 0

    def asks(self) -> None:
        """It accepts an offer or ends a session; until `answered`, or until its app is started anew."""
        self._asking += 1

    def answered(self) -> None:
        self._asking -= 1

    def has_open(self, sessions: Iterable[str]) -> None:
        """All of them, as `hello` or `sync` told."""
        self._sessions = set(sessions)

    def hears_of(self, mitra_id: str, session: Session) -> None:
        """A session is like this now; it may have become another mitra's."""
        if session.open and session.mitra_id == mitra_id:
            self._sessions.add(session.id)
        else:
            self._sessions.discard(session.id)

    def was_here(self, now: float) -> None:
        """An earlier run has left it online: it is counted until that is noticed."""
        self._covered_until = now + STALE_GUESS_S + DEATH_S

    def lost(self, client: MitraClient, now: float) -> None:
        """Its connection is cut: counted until its beat is stale, if nobody notices."""
        self._covered_until = now + stale_s(client) + COVER_SLACK_S

    def says_goodbye(self, client: MitraClient, now: float, within_s: float) -> None:
        """Where it is not connected nobody hears the goodbye: it counts as lost."""
        if client.connected and self.frozen_at is None:
            self._covered_until = now + within_s + COVER_SLACK_S
        else:
            self.lost(client, now)

    def said_goodbye(self, client: MitraClient, now: float) -> None:
        if client.closed_with == 1000:
            self._covered_until = now + COVER_SLACK_S

    def thawed(self, client: MitraClient, now: float) -> None:
        """Sure again only once a beat is answered: it may have been taken for gone meanwhile."""
        frozen_at = now if self.frozen_at is None else self.frozen_at
        self._covered_until = frozen_at + stale_s(client) + COVER_SLACK_S
        self.frozen_at, self._pongs_when_thawed = None, client.counters.pongs

    def opened(self, client: MitraClient, now: float) -> bool:
        """A connection said `hello`; answers whether it followed a loss."""
        if self.frozen_at is not None:
            self.frozen_at = now  # it was under way when the app froze: the server has heard of the mitra since
        before, self._reconnects = self._reconnects, client.counters.reconnects
        return self._reconnects > before

    def standing(self, client: MitraClient | None, now: float) -> Standing:
        """Whether it must and may be counted as available."""
        covered = now < self._covered_until
        if client is None or client.stopped_because is not None:
            return Standing(sure=False, possible=covered)
        if self.frozen_at is not None:
            heard_of = now < self.frozen_at + stale_s(client) + COVER_SLACK_S
            return Standing(sure=False, possible=self.intent is not False and (heard_of or covered))
        if self._pongs_when_thawed is not None and client.counters.pongs > self._pongs_when_thawed:
            self._pongs_when_thawed = None
        state = client.state or {}
        busy = bool(self._sessions) and not self._asking
        sure = (
            client.connected
            and self.intent is True
            and self._pongs_when_thawed is None
            and not state.get("pending")
            and not self._sessions
            and not self._asking
            and bool(state.get("wants_online"))  # or an operator has switched it off
        )
        # Whoever is not connected does not hear of the end of its sessions.
        return Standing(sure=sure, possible=self.intent is not False and not (busy and client.connected))

    def state(self, client: MitraClient | None, now: float) -> State:
        if client is None or client.stopped_because is not None:
            return State.STOPPED if self.stopped else State.GONE
        if self.frozen_at is not None:
            return State.FROZEN
        if not client.connected:
            return State.RECONNECTING
        if self.intent is False:
            return State.OFF
        if self._sessions:
            return State.BUSY
        return State.AVAILABLE if self.standing(client, now).sure else State.SETTLING

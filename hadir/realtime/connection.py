"""One mitra socket's life: claim, register, hello, frames, fenced close. The transport is a `Link`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from hadir import metrics
from hadir.config import Config
from hadir.errors import HadirError, Refused, ValkeyUnavailable
from hadir.realtime import mitra_session as dialogue
from hadir.realtime.appconfig import AppConfig
from hadir.realtime.messages import FRAME_MAX, CloseCode, encode, ending
from hadir.realtime.mirror import Mirror
from hadir.realtime.mitra_session import MitraSession
from hadir.realtime.presence import Claim, Close, Outcome, Reclaim, Row, SetStatus, Standing, standing
from hadir.realtime.registry import Registry
from hadir.realtime.transitions import Result, Transitions

log = logging.getLogger(__name__)

CLAIM_WAIT_S = 3.0
ROTATION_JITTER = 0.1
RECONNECT_WINDOW_OF_GRACE = 0.5
"""Apps that lost their socket spread their return over this part of the grace: all are back before it ends."""


class Link(Protocol):
    """What a transport offers: all three return at once; what cannot be sent in time ends as `slow`."""

    def send(self, text: str) -> None: ...

    def close(self, code: CloseCode) -> None: ...


@dataclass(frozen=True, slots=True)
class Login:
    """Who a verified token says is there; `ends_in_s` from now on."""

    subject_id: str
    role: str
    sid: str
    ends_in_s: float


class Connection:
    """One socket of one mitra. Everything that happens to it is a plain call; nothing here waits."""

    __slots__ = (
        "_early",
        "_link",
        "_unsaid",
        "connection_id",
        "gone",
        "mitra_id",
        "owner",
        "reclaiming",
        "row",
        "session",
        "sid",
        "sockets",
        "was_open",
    )

    def __init__(self, sockets: MitraSockets, login: Login, session: MitraSession) -> None:
        self.sockets = sockets
        self.mitra_id = login.subject_id
        self.sid = login.sid
        self.connection_id = secrets.token_hex(8)
        self.owner = f"{sockets.instance_id} {self.connection_id}"
        self.session = session
        self.row: Row | None = None
        """The newest row heard of since the claim; None while the claim is pending."""
        self.reclaiming = False
        self.gone = False
        self.was_open = False
        self._link: Link | None = None
        self._early: Row | None = None
        self._unsaid: list[str] = []
        """What was to be said before the transport stood."""

    # from the transport

    def start(self, link: Link) -> None:
        """The transport stands: say hello, or what went wrong meanwhile."""
        self._link = link
        if self.session.closing is not None:
            link.close(self.session.closing)
            return
        link.send(self.sockets.hello(self))
        for text in self._unsaid:
            link.send(text)
        self._unsaid.clear()
        self.was_open = True
        metrics.SOCKET_OPENS.labels("mitra").inc()

    def text(self, frame: str) -> None:
        now = time.monotonic()
        self._did(self.session.text(frame, now, utc_now()), now, "text")

    def binary(self) -> None:
        self._act(self.session.binary(time.monotonic()))

    def ping(self) -> None:
        now = time.monotonic()
        self._did(self.session.ping(now), now, "control")

    def frame(self) -> None:
        self._act(self.session.frame(time.monotonic()))

    def ended(self, code: int | None) -> None:
        """The socket is gone; `code` is the client's close code, None without one."""
        self.sockets.ended(self, code)

    # from inside

    def close(self, code: CloseCode) -> None:
        self._act(self.session.close(code))

    def rotate(self, now: float, after_s: float, reason: str) -> None:
        self._act(self.session.rotate(now, after_s, reason))

    def tick(self, now: float) -> None:
        if now >= self.session.next_due:
            self._act(self.session.tick(now))

    def claimed(self, row: Row) -> None:
        """The claim is committed and mirrored; what was heard of the mitra meanwhile counts where it is newer."""
        told_pending = self.row is None and self._link is not None
        self.row = row
        self._stand(standing(row, self.connection_id, self.sid))  # a claim that had to wait may have come too late
        if told_pending:
            self.send_state(None)
        self.sockets.beaten(self)
        if self._early is not None:
            self.hear(self._early)
            self._early = None

    def hear(self, row: Row) -> None:
        """A presence row of this mitra, from whichever way it came; older ones than the known change nothing."""
        known = self.row
        if known is None:
            if self._early is None or row.version > self._early.version:
                self._early = row
        elif row.version > known.version:
            self.row = row
            self._stand(standing(row, self.connection_id, self.sid))
            if (row.is_online, row.wants_online) != (known.is_online, known.wants_online):
                self.send_state(None)

    def learn(self, row: Row) -> None:
        """A row of which the app need not be told."""
        if self.row is None or row.version > self.row.version:
            self.row = row

    def answered(self, row: Row) -> None:
        """What Postgres had when this connection asked it for something."""
        if self.row is not None and row.version < self.row.version:
            # It has lost its last seconds, our claim among them: the app must come again.
            self.close(CloseCode.RESTARTING)
        else:
            self.hear(row)

    def revoked(self, sid: str) -> None:
        if sid == self.sid:
            self.close(CloseCode.REVOKED)

    def send(self, text: str) -> None:
        if self._link is not None and self.session.closing is None:
            self._link.send(text)

    def send_state(self, re: str | None) -> None:
        self.send(encode("sync", re=re, server_time=utc_now(), state=self.sockets.state_of(self)))

    @property
    def wants_online(self) -> bool:
        """Whether its beats belong into the mirror."""
        return self.row is not None and self.row.wants_online and not self.gone

    def _stand(self, place: Standing) -> None:
        match place:
            case Standing.SUPERSEDED:
                self.close(CloseCode.SUPERSEDED)
            case Standing.DISPLACED:
                self.close(CloseCode.DISPLACED)
            case Standing.DEACTIVATED:
                self.close(CloseCode.DEACTIVATED)
            case Standing.ASLEEP:
                self.sockets.reclaim([self])
            case Standing.OWNER:
                pass

    def _did(self, effects: Sequence[dialogue.Effect], now: float, kind: str) -> None:
        if self.session.last_beat == now:
            metrics.BEATS.labels(kind).inc()
            self.sockets.beaten(self)
        self._act(effects)

    def _act(self, effects: Sequence[dialogue.Effect]) -> None:
        for effect in effects:
            match effect:
                case dialogue.Send(text, error):
                    if error is not None:
                        metrics.PROTOCOL_ERRORS.labels(error).inc()
                    if self._link is not None:
                        self._link.send(text)
                    else:
                        self._unsaid.append(text)
                case dialogue.Close(code):
                    if self._link is not None:
                        self._link.close(code)
                    self.sockets.ended(self, None)
                case dialogue.ChangeStatus(online, re):
                    self.sockets.change_status(self, online, re)
                case dialogue.RefreshToken(token, re):
                    self._refresh(token, re)
                case dialogue.TellState(re):
                    self.send_state(re)

    def _refresh(self, token: str, re: str | None) -> None:
        now = time.monotonic()
        try:
            login = self.sockets.verify(token)
        except Refused as refusal:
            self._act(self.session.refused_token(refusal.detail, re, now))
            return
        if (login.subject_id, login.role, login.sid) != (self.mitra_id, "mitra", self.sid):
            why = "The token must be of the same mitra and the same login (sub, role and sid)."
            self._act(self.session.refused_token(why, re, now))
            return
        self._act(self.session.renewed_token(now + login.ends_in_s, re))


class MitraSockets:
    """Opens and ends mitra connections; `draining` refuses new ones."""

    def __init__(
        self,
        config: Config,
        instance_id: str,
        transitions: Transitions,
        mirror: Mirror,
        registry: Registry,
        app_config: AppConfig,
        *,
        postgres_available: Callable[[], bool],
        verify: Callable[[str], Login],
    ) -> None:
        self.config = config
        self.instance_id = instance_id
        self.verify = verify
        self.draining = False
        self._transitions = transitions
        self._mirror = mirror
        self._registry = registry
        self._app_config = app_config
        self._postgres_available = postgres_available
        self._pending = 0
        self.beaten: Callable[[Connection], None] = lambda connection: None

    async def admit(self, login: Login, wants_online: bool | None) -> Connection:
        """Claims the row for a new connection and registers it. Raises `Refused`, holding nothing.

        Registered before the claim: whatever is said of the mitra from now on is heard. The caller must call
        `Connection.ended` in the end, whatever happens.
        """
        now = time.monotonic()
        rotate_in = self.config.socket_max_age_s * (1 + ROTATION_JITTER * (2 * secrets.randbelow(1000) / 999 - 1))
        session = MitraSession(
            now,
            stale_s=self.config.heartbeat_stale_s,
            token_ends=now + login.ends_in_s,
            rotate_at=now + rotate_in,
        )
        connection = Connection(self, login, session)
        after_outage = not self._postgres_available()
        claim = Claim(connection.connection_id, self.instance_id, login.sid, wants_online, after_outage)
        future = self._transitions.submit(login.subject_id, claim, at=now, durable=True)
        self._registry.add(connection)
        try:
            await asyncio.wait([future], timeout=0 if after_outage else CLAIM_WAIT_S)
            if future.done():
                self._settle(connection, future.result())
            else:
                await self._admit_pending(connection, future)
        except BaseException:
            self.ended(connection, None)
            raise
        return connection

    async def _admit_pending(self, connection: Connection, future: asyncio.Future[Result]) -> None:
        """Postgres is away. A mitra that a warm mirror does not know as deactivated is let in, unclaimed."""
        try:
            deactivated = await self._mirror.is_deactivated(connection.mitra_id)
        except ValkeyUnavailable:
            deactivated = None
        if deactivated is None:
            raise Refused(503, "unavailable", "Nobody can be checked at the moment.", retry_after=2)
        if deactivated:
            raise Refused(403, "deactivated", "This mitra is deactivated.")
        self._pending += 1
        metrics.PENDING_CONNECTIONS.set(self._pending)
        future.add_done_callback(lambda done: self._claimed_late(connection, done))

    def _claimed_late(self, connection: Connection, future: asyncio.Future[Result]) -> None:
        self._pending -= 1
        metrics.PENDING_CONNECTIONS.set(self._pending)
        if future.cancelled():
            return
        if future.exception() is not None:
            connection.close(CloseCode.RESTARTING)
            return
        try:
            self._settle(connection, future.result())
        except Refused as refusal:
            known = {"deactivated": CloseCode.DEACTIVATED}
            connection.close(known.get(refusal.code, CloseCode.REVOKED))

    def _settle(self, connection: Connection, result: Result) -> None:
        match result.outcome:
            case Outcome.UNKNOWN_SUBJECT:
                raise Refused(403, "unknown_subject", "The token's sub is no mitra that is known here.")
            case Outcome.DEACTIVATED:
                raise Refused(403, "deactivated", "This mitra is deactivated.")
            case Outcome.REVOKED:
                raise Refused(401, "revoked", "The token's login (sid) is revoked, expired or unknown.")
        assert result.row is not None
        connection.claimed(result.row)

    def ended(self, connection: Connection, code: int | None) -> None:
        """Removes a connection and enqueues its fenced close: it changes only a row that it still owns."""
        if connection.gone:
            return
        connection.gone = True
        self._registry.remove(connection)
        now = time.monotonic()
        closing = connection.session.closing
        offline, reason = ending(code if closing is None else closing, ours=closing is not None)
        beat_age = 0.0 if reason == "goodbye" else now - connection.session.last_beat
        close = Close(connection.connection_id, offline, reason, beat_age)
        future = self._transitions.submit(connection.mitra_id, close, at=now, durable=True, must=True)
        future.add_done_callback(_heed)
        if connection.was_open:
            label = closing if closing is not None else code if code in (1000, 1001) else 1006
            metrics.SOCKET_CLOSES.labels("mitra", str(int(label))).inc()

    def reclaim(self, connections: Iterable[Connection]) -> None:
        """Owners that were taken for gone take their rows back, if they still own them."""
        for connection in connections:
            # Never after its close was enqueued: a reclaim must not raise the dead.
            if connection.reclaiming or connection.row is None or connection.gone:
                continue
            if time.monotonic() - connection.session.last_beat >= self.config.heartbeat_stale_s:
                continue
            event = Reclaim(connection.connection_id, self.instance_id, connection.sid)
            try:
                future = self._transitions.submit(connection.mitra_id, event, at=connection.session.last_beat)
            except HadirError:
                continue  # its next beat is a stranger's again, and asks again
            connection.reclaiming = True
            future.add_done_callback(partial(self._reclaimed, connection))

    def _reclaimed(self, connection: Connection, future: asyncio.Future[Result]) -> None:
        connection.reclaiming = False
        if future.cancelled() or future.exception() is not None:
            return
        result = future.result()
        metrics.RECLAIMS.labels(result.outcome.value).inc()
        if result.outcome is Outcome.REVOKED or result.row is None:
            connection.close(CloseCode.REVOKED)
        else:
            connection.answered(result.row)

    def change_status(self, connection: Connection, online: bool, re: str | None) -> None:
        event = SetStatus(connection.connection_id, online)
        try:
            future = self._transitions.submit(connection.mitra_id, event)
        except HadirError as refusal:
            connection.send(encode("error", code="unavailable", message=str(refusal), re=re))
            return
        future.add_done_callback(lambda done: self._status_changed(connection, done, re))

    def _status_changed(self, connection: Connection, future: asyncio.Future[Result], re: str | None) -> None:
        if future.cancelled():
            return
        problem = future.exception()
        if problem is not None:
            connection.send(encode("error", code="unavailable", message=str(problem), re=re))
            return
        result = future.result()
        if result.row is None:
            connection.close(CloseCode.REVOKED)
        elif result.outcome in (Outcome.DONE, Outcome.UNCHANGED):
            connection.learn(result.row)
            connection.send(encode("ack", re=re))
            self.beaten(connection)
        else:
            connection.answered(result.row)

    # what an app is told

    def state_of(self, connection: Connection) -> dict[str, Any]:
        """The truth an app rebuilds itself from; offers and sessions come with pairing."""
        row = connection.row
        return {
            "online": row is not None and row.is_online,
            "wants_online": row is not None and row.wants_online,
            "pending": row is None,
            "offers": [],
            "sessions": [],
            "config": self._app_config.public(),
        }

    def hello(self, connection: Connection) -> str:
        config = self.config
        return encode(
            "hello",
            connection_id=connection.connection_id,
            heartbeat_interval_s=config.heartbeat_interval_s,
            stale_after_s=config.heartbeat_stale_s,
            reconnect_window_s=config.offline_grace_s * RECONNECT_WINDOW_OF_GRACE,
            server_time=utc_now(),
            token_ttl_s=max(0, round(connection.session.token_ends - time.monotonic())),
            limits={
                "frame_bytes": FRAME_MAX,
                "frames_per_s": dialogue.FRAMES_PER_S,
                "frames_burst": dialogue.FRAMES_BURST,
            },
            state=self.state_of(connection),
        )


def utc_now() -> str:
    """Wall-clock time for people and apps; no decision is taken on it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _heed(future: asyncio.Future[Result]) -> None:
    """Nobody waits for a close; one that failed is logged where it failed."""
    if not future.cancelled():
        future.exception()

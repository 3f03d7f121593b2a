"""What every socket is, whoever is at its other end: a dialogue, and the link that carries it out."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from hadir import metrics
from hadir.config import Config
from hadir.errors import Refused
from hadir.realtime import dialogue
from hadir.realtime.dialogue import Dialogue
from hadir.realtime.messages import FRAME_MAX, CloseCode, Command

log = logging.getLogger(__name__)

ROTATION_JITTER = 0.1
RECONNECT_WINDOW_OF_GRACE = 0.5
"""Apps that lost their socket spread their return over this part of the grace: all are back before it ends."""


class Link(Protocol):
    """What a transport offers: all return at once; what cannot be sent in time ends as `slow`."""

    @property
    def busy(self) -> bool:
        """Whether something that was sent still waits for the peer to read; `Peer.sent` is called when it is gone."""

    def send(self, text: str) -> None: ...

    def close(self, code: CloseCode) -> None: ...


class _Gone:
    """The link of a peer that has ended: with its own it would be a cycle, and stay until somebody collects those."""

    busy = False

    def send(self, text: str) -> None: ...

    def close(self, code: CloseCode) -> None: ...


GONE = _Gone()


@dataclass(frozen=True, slots=True)
class Login:
    """Who a verified token says is there; `ends_in_s` from now on."""

    subject_id: str
    role: str
    sid: str
    ends_in_s: float


Verify = Callable[[str], Login]
"""A token's login. Raises `Refused`."""


class Peer:
    """One socket. Everything that happens to it is a plain call; nothing here waits."""

    __slots__ = ("_link", "_unsaid", "_verify", "gone", "role", "session", "sid", "subject_id", "was_open")

    kind: ClassVar[str]
    """What metrics call such a socket."""

    def __init__(self, login: Login, session: Dialogue, verify: Verify) -> None:
        self.subject_id, self.role, self.sid = login.subject_id, login.role, login.sid
        self.session = session
        self.gone = False
        self.was_open = False
        self._verify = verify
        self._link: Link | None = None
        self._unsaid: list[str] = []
        """What was to be said before the transport stood."""

    # what the kinds of sockets differ in

    def hello(self) -> str:
        """The first message."""
        raise NotImplementedError

    def send_state(self, re: str | None) -> None:
        """Answers `sync`."""
        raise NotImplementedError

    def change_status(self, online: bool, re: str | None) -> None:
        """Answers `status`, where that is among what the dialogue takes."""
        raise NotImplementedError

    def carry_out(self, command: Command) -> None:
        """Answers a command, where such are among what the dialogue takes."""
        raise NotImplementedError

    def beat(self, kind: str) -> None:
        """A sign of life came: `text` or `control`."""

    def sent(self) -> None:
        """The link is no longer busy."""

    def ended(self, code: int | None) -> None:
        """The socket is gone; `code` is the client's close code, None without one. Called at least once."""
        if self._link is not None:
            self._link = GONE
        if self.gone:
            return
        self.gone = True
        if self.was_open:
            closing = self.session.closing
            label = closing if closing is not None else code if code in (1000, 1001) else 1006
            metrics.SOCKET_CLOSES.labels(self.kind, str(int(label))).inc()
            log.debug("socket.closed", extra={"kind": self.kind, "subject": self.subject_id, "code": int(label)})

    # from the transport

    def start(self, link: Link) -> None:
        """The transport stands: say hello, or what went wrong meanwhile."""
        self._link = link
        if self.session.closing is not None:
            link.close(self.session.closing)
            return
        link.send(self.hello())
        for text in self._unsaid:
            link.send(text)
        self._unsaid.clear()
        self.was_open = True
        metrics.SOCKET_OPENS.labels(self.kind).inc()
        log.debug("socket.opened", extra={"kind": self.kind, "subject": self.subject_id})

    def text(self, frame: str) -> None:
        now = time.monotonic()
        self._did(self.session.text(frame, now, utc_now()), now, "text")

    def binary(self) -> None:
        self._act(self.session.binary(time.monotonic()))

    def ping(self) -> None:
        self.beaten("control")

    def beaten(self, kind: str) -> float | None:
        """A frame came that is a beat and nothing else; answers when, None where it was refused (and that is said)."""
        now = time.monotonic()
        effects = self.session.ping(now)
        if effects:
            self._act(effects)
            return None
        self.beat(kind)
        return now

    def frame(self) -> None:
        self._act(self.session.frame(time.monotonic()))

    # from inside

    @property
    def started(self) -> bool:
        """Whether its transport stands."""
        return self._link is not None

    @property
    def busy(self) -> bool:
        return self._link is None or self._link.busy

    def close(self, code: CloseCode) -> None:
        self._act(self.session.close(code))

    def rotate(self, now: float, after_s: float, reason: str) -> None:
        self._act(self.session.rotate(now, after_s, reason))

    def tick(self, now: float) -> None:
        if now >= self.session.next_due:
            self._act(self.session.tick(now))

    def revoked(self, sid: str) -> None:
        if sid == self.sid:
            self.close(CloseCode.REVOKED)

    def send(self, text: str) -> None:
        if self._link is not None and self.session.closing is None:
            self._link.send(text)

    def _did(self, effects: Sequence[dialogue.Effect], now: float, kind: str) -> None:
        if self.session.last_beat == now:
            self.beat(kind)
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
                    self.ended(None)
                case dialogue.ChangeStatus(online, re):
                    self.change_status(online, re)
                case dialogue.RefreshToken(token, re):
                    self._refresh(token, re)
                case dialogue.TellState(re):
                    self.send_state(re)
                case dialogue.CarryOut(command):
                    self.carry_out(command)

    def _refresh(self, token: str, re: str | None) -> None:
        now = time.monotonic()
        try:
            login = self._verify(token)
        except Refused as refusal:
            self._act(self.session.refused_token(refusal.detail, re, now))
            return
        if (login.subject_id, login.role, login.sid) != (self.subject_id, self.role, self.sid):
            why = "The token must be of the same login (sub, role and sid)."
            self._act(self.session.refused_token(why, re, now))
            return
        self._act(self.session.renewed_token(now + login.ends_in_s, re))


def new_dialogue(config: Config, login: Login, now: float, takes: frozenset[str]) -> Dialogue:
    """A dialogue of a socket that was opened just now; sockets that were opened together are not rotated together."""
    spread = 1 + ROTATION_JITTER * (2 * secrets.randbelow(1000) / 999 - 1)
    return Dialogue(
        now,
        takes=takes,
        stale_s=config.heartbeat_stale_s,
        token_ends=now + login.ends_in_s,
        rotate_at=now + config.socket_max_age_s * spread,
    )


def limits() -> dict[str, float]:
    """What `hello` says of frames."""
    return {
        "frame_bytes": FRAME_MAX,
        "frames_per_s": dialogue.FRAMES_PER_S,
        "frames_burst": dialogue.FRAMES_BURST,
    }


def greeting_of(config: Config, session: Dialogue) -> dict[str, Any]:
    """What every `hello` has."""
    return {
        "heartbeat_interval_s": config.heartbeat_interval_s,
        "stale_after_s": config.heartbeat_stale_s,
        "reconnect_window_s": config.offline_grace_s * RECONNECT_WINDOW_OF_GRACE,
        "server_time": utc_now(),
        "token_ttl_s": max(0, round(session.token_ends - time.monotonic())),
        "limits": limits(),
    }


def utc_now() -> str:
    """Wall-clock time for people and apps; no decision is taken on it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

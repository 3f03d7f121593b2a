"""A socket's dialogue as a value: frames and time go in, what to send and do comes out.

It knows no socket, store or clock. Times are monotonic seconds that the caller reads once per event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hadir.realtime.messages import (
    CloseCode,
    Command,
    Ping,
    Status,
    Sync,
    TokenRefresh,
    WireError,
    encode,
    error,
    parse,
)

FRAMES_PER_S = 5.0
FRAMES_BURST = 20.0
ERRORS_MAX = 10
ERRORS_WINDOW_S = 60.0
ROTATION_ANSWER_S = 30.0
TOKEN_LEEWAY_S = 10.0
TOKEN_NOTICE_S = 60.0


@dataclass(frozen=True, slots=True)
class Send:
    """Send this text frame; `error` is the code where it is an `error`."""

    text: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection with this code."""

    code: CloseCode


@dataclass(frozen=True, slots=True)
class ChangeStatus:
    """Store the intent and answer `ack` to message `re`."""

    online: bool
    re: str | None


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """Verify this token and, if it is of the same login, go on with it."""

    token: str
    re: str | None


@dataclass(frozen=True, slots=True)
class TellState:
    """Read the truth and send `sync`."""

    re: str | None


@dataclass(frozen=True, slots=True)
class CarryOut:
    """Have it decided and send the answer, after what was to be carried out before."""

    command: Command


Effect = Send | Close | ChangeStatus | RefreshToken | TellState | CarryOut


class Dialogue:
    """One connection's budget, errors, deadlines and rotation.

    Every frame that is within the budget, whole and of the protocol is a beat, whatever it says; so is a
    WebSocket Ping. `next_due` is the earliest time at which `tick` can have something to do.
    """

    __slots__ = (
        "_errors",
        "_expiry_told",
        "_frames_at",
        "_frames_left",
        "_reconnect_by",
        "_rotate_at",
        "_stale_s",
        "_takes",
        "closing",
        "last_beat",
        "next_due",
        "token_ends",
    )

    def __init__(
        self, now: float, *, takes: frozenset[str], stale_s: float, token_ends: float, rotate_at: float
    ) -> None:
        self._takes = takes
        self._stale_s = stale_s
        self._rotate_at = rotate_at
        self._reconnect_by: float | None = None
        self._frames_left, self._frames_at = FRAMES_BURST, now
        self._errors: deque[float] | None = None
        self._expiry_told = False
        self.token_ends = token_ends
        self.last_beat = now
        self.closing: CloseCode | None = None
        self.next_due = 0.0
        self._plan()

    def text(self, frame: str, now: float, server_time: str) -> Sequence[Effect]:
        """A text frame came."""
        if refused := self._spend(now):
            return refused
        self.last_beat = now
        try:
            message = parse(frame, self._takes)
        except WireError as problem:
            return self._complain(problem, now)
        match message:
            case Ping():
                return (Send(encode("pong", server_time=server_time, re=message.id)),)
            case Status():
                return (ChangeStatus(message.online, message.id),)
            case TokenRefresh():
                return (RefreshToken(message.token, message.id),)
            case Sync():
                return (TellState(message.id),)
            case _:
                return (CarryOut(message),)

    def binary(self, now: float) -> Sequence[Effect]:
        """A binary frame came."""
        if refused := self._spend(now):
            return refused
        return self._complain(WireError("binary_frame", "Frames must be text, not binary."), now)

    def ping(self, now: float) -> Sequence[Effect]:
        """A WebSocket Ping came (the transport answers it)."""
        if refused := self._spend(now):
            return refused
        self.last_beat = now
        return ()

    def frame(self, now: float) -> Sequence[Effect]:
        """A frame came that is no beat and no message: a Pong, or a part of a message."""
        return self._spend(now)

    def refused_token(self, why: str, re: str | None, now: float) -> Sequence[Effect]:
        """The token of a `token.refresh` was not good."""
        return self._complain(WireError("bad_token", why, field="token", re=re), now)

    def renewed_token(self, token_ends: float, re: str | None) -> Sequence[Effect]:
        """The token of a `token.refresh` was good until `token_ends`."""
        self.token_ends, self._expiry_told = token_ends, False
        self._plan()
        return (Send(encode("ack", re=re)),)

    def rotate(self, now: float, after_s: float, reason: str) -> Sequence[Effect]:
        """Ask the app to open a successor within `after_s`; unanswered, `tick` ends this one in time."""
        if self._reconnect_by is not None:
            return ()
        self._reconnect_by = now + after_s + ROTATION_ANSWER_S
        self._plan()
        return (Send(encode("reconnect", after_ms=round(after_s * 1000), reason=reason)),)

    def tick(self, now: float) -> Sequence[Effect]:
        """What time alone brings; call it when `next_due` is reached."""
        effects: Sequence[Effect] = ()
        if now >= self.last_beat + self._stale_s:
            effects = self._close(CloseCode.SILENT)
        elif now >= self.token_ends + TOKEN_LEEWAY_S:
            effects = self._close(CloseCode.TOKEN_EXPIRED)
        elif self._reconnect_by is not None and now >= self._reconnect_by:
            effects = self._close(CloseCode.ROTATED)
        elif self._reconnect_by is None and now >= self._rotate_at:
            effects = self.rotate(now, 0.0, "max_age")
        elif not self._expiry_told and now >= self.token_ends - TOKEN_NOTICE_S:
            self._expiry_told = True
            effects = (Send(encode("token.expiring", expires_in_s=round(max(0.0, self.token_ends - now)))),)
        self._plan()
        return effects

    def close(self, code: CloseCode) -> Sequence[Effect]:
        """Something outside ends the connection; only the first reason counts."""
        return self._close(code)

    def _plan(self) -> None:
        """A beat moves its own deadline later without telling: `tick` then finds nothing and plans again."""
        due = [self.last_beat + self._stale_s, self.token_ends + TOKEN_LEEWAY_S]
        due.append(self._rotate_at if self._reconnect_by is None else self._reconnect_by)
        if not self._expiry_told:
            due.append(self.token_ends - TOKEN_NOTICE_S)
        self.next_due = min(due)

    def _spend(self, now: float) -> Sequence[Effect]:
        """Takes one frame from the budget (a token bucket)."""
        left = self._frames_left + (now - self._frames_at) * FRAMES_PER_S
        self._frames_left = left = (left if left < FRAMES_BURST else FRAMES_BURST) - 1.0
        self._frames_at = now
        if left >= 0.0:
            return ()
        self._frames_left = 0.0
        why = f"At most {FRAMES_PER_S:g} frames a second, {FRAMES_BURST:g} at once, are allowed."
        return self._complain(WireError("too_fast", why), now)

    def _complain(self, problem: WireError, now: float) -> Sequence[Effect]:
        if self._errors is None:
            self._errors = deque(maxlen=ERRORS_MAX)
        self._errors.append(now)
        told = Send(error(problem.code, problem.message, field=problem.field, re=problem.re), problem.code)
        if len(self._errors) == ERRORS_MAX and now - self._errors[0] < ERRORS_WINDOW_S:
            return (told, *self._close(CloseCode.TOO_FAST))
        return (told,)

    def _close(self, code: CloseCode) -> Sequence[Effect]:
        if self.closing is not None:
            return ()
        self.closing = code
        return (Close(code),)

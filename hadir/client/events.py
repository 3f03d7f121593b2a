"""What a client tells of itself, for programs that measure and log: values, handed to `on_event`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hadir.client.verdict import Verdict


@dataclass(slots=True)
class Counters:
    """What a client did since its start; `reconnects` follow a loss, `rotations` a `reconnect` message."""

    opens: int = 0
    reconnects: int = 0
    rotations: int = 0
    beats: int = 0
    pongs: int = 0
    freezes: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection has said `hello`, so many seconds after connecting began."""

    connection_id: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """One address was tried and did not say `hello`: an HTTP `status` with a `problem` code, a close code, or neither.

    `stops` is why the client stops, None where it tries again.
    """

    why: str
    status: int | None
    problem: str | None
    close_code: int | None
    stops: str | None


@dataclass(frozen=True, slots=True)
class Replied:
    """The server has answered a message of type `kind`; a WebSocket Ping is a `ping` too."""

    kind: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection that had said `hello` has ended. `code`: who ended it sent that, 1006 where nobody sent one."""

    connection_id: str
    code: int
    by: Literal["server", "client", "network"]
    verdict: Verdict
    beat_age_s: float
    """Since the last beat that was answered was sent; without one, since connecting began."""
    lived_s: float
    sent: int
    """Frames, beats included."""
    froze: bool
    """The client was frozen at some time of this connection."""


Event = Opened | Failed | Replied | Ended

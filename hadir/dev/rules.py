"""Rules of docs/protocol.md that whoever is connected can judge. Values: times are arguments.

They err on one side: what lateness, a lost frame or a clock could explain is not called wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hadir.client import Beacon, Ended
from hadir.client.verdict import LISTED

BEACON_STATES = ("live", "rebuilding", "stale")
UNJUDGED = "stale"
"""This state says itself that it may be wrong, and each instance has its own last answer."""
CLOCKS_S = 2.0
"""How far the stores' clocks may be apart: a beacon is counted in one or in the other."""
STALE_PART = 0.9
FRAMES_BURST = 20
FRAMES_PER_S = 5
SILENT, SLOW, TOO_FAST = 4002, 4003, 4004


@dataclass(frozen=True, slots=True)
class Wrong:
    """What was seen and what should have been, as parts of one sentence."""

    found: str
    expected: str


def close_code(code: int) -> Wrong | None:
    """Of a server's close frame."""
    if code in LISTED:
        return None
    return Wrong(f"the server closed with {code}", f"a code that the protocol lists: {', '.join(map(str, LISTED))}")


def ending(event: Ended, stale_s: float) -> Wrong | None:
    """Of a connection that had said `hello`; `stale_s` is what that promised."""
    if event.by != "server":
        return None
    if (wrong := close_code(event.code)) is not None:
        return wrong
    closed = f"the server closed connection {event.connection_id} with {event.code} {LISTED[event.code]}"
    if event.code == SILENT and event.beat_age_s < stale_s * STALE_PART:
        # It heard that beat after it was sent: counted from there, this is the longest that it can have waited.
        found = f"{closed} {event.beat_age_s:.1f} s after a beat that it answered"
        return Wrong(found, f"no such thing within {stale_s:g} s")
    if event.code == SLOW and not event.froze:
        return Wrong(closed, "no such thing while the app reads")
    if event.code == TOO_FAST and event.sent <= FRAMES_BURST + FRAMES_PER_S * event.lived_s:
        found = f"{closed} after {event.sent} frames in {event.lived_s:.1f} s"
        return Wrong(found, f"no such thing below {FRAMES_PER_S} a second")
    return None


def agreement(acknowledged: bool, state: Mapping[str, Any]) -> Wrong | None:
    """Of the state that `sync` tells after the `ack` of `status`."""
    if state.get("pending"):
        return None
    told = {name: state.get(name) for name in ("online", "wants_online")}
    if all(value is acknowledged for value in told.values()):
        return None
    said = ", ".join(f"{name} {str(value).lower()}" for name, value in told.items())
    status = "online" if acknowledged else "offline"
    return Wrong(f"after the ack of status {status} the state says {said}", f"both {str(acknowledged).lower()}")


def beacon(seen: Beacon, newest: datetime | None) -> Wrong | None:
    """Of one answer alone; `newest` is the latest `as_of` that had been seen when it was asked for."""
    if seen.state not in BEACON_STATES:
        return Wrong(f"the beacon's state is {seen.state!r}", f"one of {', '.join(BEACON_STATES)}")
    if not 0 <= seen.available <= seen.online:
        return Wrong(f"the beacon says {seen.available} available of {seen.online} online", "no more than online")
    try:
        counted = datetime.fromisoformat(seen.as_of)
    except ValueError:
        counted = datetime.min
    if counted.tzinfo is None:
        return Wrong(f"the beacon's as_of is {seen.as_of!r}", "a time in ISO-8601 with its zone")
    if newest is None or seen.state == UNJUDGED:
        return None
    # What was valid when it was asked for was counted at most max_age_s before the newest that was known then.
    if (newest - counted) > timedelta(seconds=seen.max_age_s + CLOCKS_S):
        back_s = (newest - counted).total_seconds()
        return Wrong(f"the beacon's as_of went back by {back_s:.1f} s", f"at most max_age_s, {seen.max_age_s:g} s")
    return None

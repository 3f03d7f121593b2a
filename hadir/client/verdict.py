"""When to come back: close codes, refusals and waiting times as values (docs/protocol.md, close codes)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from random import Random

BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 30.0

GOODBYE = 1000
GOING_AWAY = 1001
FINAL: Mapping[int, str] = {
    4501: "revoked",
    4502: "deactivated",
    4503: "displaced",
    4504: "protocol_error",
}
"""Close codes after which an app must not come back by itself. Every other one means: again."""
LISTED: Mapping[int, str] = {
    1000: "normal",
    1009: "too_big",
    1012: "restarting",
    1013: "overloaded",
    4001: "token_expired",
    4002: "silent",
    4003: "slow",
    4004: "too_fast",
    4005: "rotated",
    4006: "superseded",
    **FINAL,
}
"""Every close code that a server of this protocol sends of its own accord."""


class Verdict(StrEnum):
    """What the client makes of a connection's end."""

    AGAIN = "came back"
    SUCCEEDED = "had its successor"
    STOPPED = "stopped"
    OWN = "its own doing"


def backoff(failures: int, random: Random) -> float:
    """Seconds to wait after that many failed attempts in a row (0 = the first): full jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0.0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(failures, 16)))


def spread(window_s: float, random: Random) -> float:
    """Seconds to wait after a lost connection: everybody who lost theirs at once comes back over the window."""
    return random.uniform(0.0, max(window_s, BACKOFF_BASE_S))


class ClientStopped(Exception):
    """The client has stopped and will not come back; the text is its `stopped_because`."""


class Refused(Exception):
    """A connection that did not come to its `hello`: over HTTP, by a close frame, or by the network."""

    def __init__(
        self,
        why: str,
        *,
        status: int | None = None,
        close_code: int | None = None,
        problem: str | None = None,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(why)
        self.status, self.close_code, self.problem = status, close_code, problem
        self.retry_after_s = retry_after_s

    def final(self, *, new_token: bool) -> str | None:
        """Why coming back is of no use, or None. `new_token`: the next attempt would carry another token."""
        if self.close_code is not None:
            return FINAL.get(self.close_code)
        if self.status == 403 or (self.status == 401 and (self.problem == "revoked" or not new_token)):
            return self.problem or f"http_{self.status}"
        return None

    @property
    def elsewhere(self) -> bool:
        """Whether another instance may answer otherwise."""
        return self.status not in (401, 403) and self.close_code not in FINAL

"""How often one of many may do something."""

from __future__ import annotations

import math
import time

from hadir.errors import Refused


class Pace:
    """A leaky bucket each, as the one time until which its doings are paid for (GCRA, ITU-T I.371)."""

    def __init__(self, every_s: float, burst: float) -> None:
        self._every_s = every_s
        self._burst_s = burst * every_s
        self._paid_until: dict[str, float] = {}
        self._prune_at = 1_000

    def take(self, name: str, why: str) -> None:
        """It does it once more. Raises `Refused` (429) with `why` where it may not yet."""
        now = time.monotonic()
        paid_until = max(now, self._paid_until.get(name, now)) + self._every_s
        if paid_until > now + self._burst_s:
            raise Refused(429, "too_many", why, retry_after=math.ceil(self._every_s))
        self._paid_until[name] = paid_until
        if len(self._paid_until) > self._prune_at:
            self._paid_until = {each: until for each, until in self._paid_until.items() if until > now}
            self._prune_at = max(1_000, 2 * len(self._paid_until))

"""How often things happen: now, and over the whole time. Values: time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

WINDOW_S = 10.0
STEP_S = 1.0


class Rates:
    """Totals that only grow, looked at about once a second."""

    def __init__(self, now: float, totals: Mapping[str, int]) -> None:
        self._first = (now, totals)
        self._samples = deque([self._first])

    def due(self, now: float) -> bool:
        return now >= self._samples[-1][0] + STEP_S

    def sample(self, now: float, totals: Mapping[str, int]) -> None:
        self._samples.append((now, totals))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()

    def lately(self) -> Mapping[str, float]:
        """A second, over the last ten."""
        return self._between(self._samples[0])

    def overall(self) -> Mapping[str, float]:
        """A second, since the start."""
        return self._between(self._first)

    def _between(self, start: tuple[float, Mapping[str, int]]) -> Mapping[str, float]:
        (began, before), (ended, after) = start, self._samples[-1]
        took_s = max(ended - began, STEP_S)
        return {name: (after[name] - before[name]) / took_s for name in after}

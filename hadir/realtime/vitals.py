"""What an instance says of itself with each beat of its row."""

from __future__ import annotations

from hadir import metrics

LEAST_S = 1.0
"""Over less time nothing is measured: what was said last is said again."""


class Vitals:
    """Measured since it was last said; `now` is monotonic."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._beats = _beats()
        self._lag_s = 0.0
        self._said: tuple[float | None, float | None] = (None, None)

    def lagged(self, seconds: float) -> None:
        """The event loop did something so late."""
        self._lag_s = max(self._lag_s, seconds)

    def take(self, now: float) -> tuple[float | None, float | None]:
        """Beats of sockets a second, and the longest delay of the event loop in seconds; None: not measured yet."""
        elapsed = now - self._since
        if elapsed >= LEAST_S:
            beats = _beats()
            self._said = round((beats - self._beats) / elapsed, 1), round(self._lag_s, 4)
            self._since, self._beats, self._lag_s = now, beats, 0.0
        return self._said


def _beats() -> int:
    return sum(tally.total for tally in metrics.SOCKET_BEATS.values())

"""What a simulation knows of its own mitras, and whether a beacon fits it. Values: time is an argument."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

KEPT_S = 120.0
LAG_S = 1.0
"""How much longer than `max_age_s` a beacon may lag behind the truth where no store or instance fails."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one mitra: `sure` = live with intent online, so it must be counted; `possible` = it may be."""

    sure: bool
    possible: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many mitras must and may be available."""

    low: int
    high: int

    def hold(self, available: int) -> bool:
        return self.low <= available <= self.high


GONE = Standing(sure=False, possible=False)


class Truth:
    """How many mitras must and may be available, now and over the last two minutes."""

    def __init__(self, now: float) -> None:
        self._standings: dict[str, Standing] = {}
        self._bounds = Bounds(0, 0)
        self._history: deque[tuple[float, Bounds]] = deque([(now, self._bounds)])
        self._sure_since: dict[str, float] = {}
        self._possible_until: dict[str, float] = {}

    @property
    def now(self) -> Bounds:
        return self._bounds

    def note(self, mitra_id: str, standing: Standing, now: float) -> None:
        """A mitra stands like this from now on."""
        before = self._standings.get(mitra_id, GONE)
        if standing == before:
            return
        self._standings[mitra_id] = standing
        if standing.sure and not before.sure:
            self._sure_since[mitra_id] = now
        if not standing.sure:
            self._sure_since.pop(mitra_id, None)
        if before.possible and not standing.possible:
            self._possible_until[mitra_id] = now
        self._bounds = Bounds(
            self._bounds.low + standing.sure - before.sure, self._bounds.high + standing.possible - before.possible
        )
        self._history.append((now, self._bounds))
        while len(self._history) > 1 and self._history[1][0] < now - KEPT_S:
            self._history.popleft()

    def over(self, window_s: float, now: float) -> Bounds:
        """The widest bounds that held at some time of the last `window_s` seconds.

        A beacon that was counted within the window is within them; one outside has been wrong for longer.
        """
        low, high = self._bounds.low, self._bounds.high
        for at, bounds in reversed(self._history):
            low, high = min(low, bounds.low), max(high, bounds.high)
            if at <= now - window_s:
                break  # this one was in force when the window began
        return Bounds(low, high)

    def each(self, window_s: float, now: float) -> Bounds:
        """Who was sure all through the last `window_s` seconds, and who was possible at some time of them.

        Where a store or instance fails, what happened to one mitra is counted later than what happened to another.
        """
        began = now - window_s
        low = sum(since <= began for since in self._sure_since.values())
        high = sum(
            standing.possible or self._possible_until.get(mitra_id, -math.inf) >= began
            for mitra_id, standing in self._standings.items()
        )
        return Bounds(low, high)

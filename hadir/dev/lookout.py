"""Looks at the beacon, as customers do; every answer is judged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from random import Random

from hadir.client import Beacon, BeaconMalformed, BeaconUnavailable, fetch_beacon
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.dev import rules
from hadir.dev.rules import Wrong
from hadir.dev.tally import BEACON, NO_ANSWER, Tally
from hadir.dev.truth import LAG_S, Bounds, Truth
from hadir.errors import PostgresUnavailable

PATH = "/api/beacon"
LOOK_AGAIN_S = (0.5, 1.5)
"""Whoever has not been told of a session's end yet is, by then: with the bus down events are a second late."""
RETRY_S = 1.0


class Lookout:
    """Asks `urls` as a balancer would, and knows the truth about the mitras `ours`; `look` brings it up to date.

    `lag_s`: how much longer than `max_age_s` each mitra may be counted as it was; None where nothing fails.
    """

    def __init__(
        self,
        urls: Sequence[str],
        postgres: Postgres,
        truth: Truth,
        tally: Tally,
        ours: Sequence[str],
        look: Callable[[], None],
        random: Random,
        lag_s: float | None,
    ) -> None:
        self._urls = urls
        self._postgres = postgres
        self._tally = tally
        self._ours = ours
        self._look = look
        self._random = random
        self._lag_s, self._within = (LAG_S, truth.over) if lag_s is None else (lag_s, truth.each)
        self._newest: datetime | None = None

    async def live(self) -> None:
        """One customer: looks, and looks again when what it saw is no longer valid."""
        beacon = None
        while True:
            again_s = RETRY_S if beacon is None else beacon.max_age_s
            await asyncio.sleep(again_s * self._random.uniform(0.8, 1.2))
            beacon = await self.ask()

    async def ask(self) -> Beacon | None:
        """One look at the beacon, judged; None when there was no beacon to see."""
        began, newest = time.monotonic(), self._newest
        try:
            beacon = await self._fetch()
        except BeaconUnavailable as unavailable:
            self._tally.answers[str(unavailable.status)] += 1
            return None
        except BeaconMalformed as malformed:
            self._tally.answers["malformed"] += 1
            self._tally.take_down(Wrong(str(malformed), "what docs/protocol.md says"), str(malformed))
            return None
        except OSError:
            self._tally.answers[NO_ANSWER] += 1
            return None
        self._tally.latencies[BEACON].add(time.monotonic() - began)
        self._tally.answers[beacon.state] += 1
        self._tally.last = beacon
        if (wrong := rules.beacon(beacon, newest)) is not None:
            self._tally.take_down(wrong, f"answer {beacon.as_of} {beacon.state}")
            self._newest = None
            return beacon
        self._remember(beacon)
        await self._judge(beacon, began)
        return beacon

    def _remember(self, beacon: Beacon) -> None:
        if beacon.state != rules.UNJUDGED:
            counted = datetime.fromisoformat(beacon.as_of)
            self._newest = counted if self._newest is None else max(self._newest, counted)

    async def _fetch(self) -> Beacon:
        """From any URL that answers. Raises as `fetch_beacon` when none does."""
        *others, last = self._random.sample(self._urls, len(self._urls))
        for url in others:
            with suppress(OSError):
                return await fetch_beacon(url + PATH, self._tally.last)
        return await fetch_beacon(last + PATH, self._tally.last)

    async def _judge(self, beacon: Beacon, began: float) -> None:
        """Takes a wrong count down, once nothing that is only under way explains it."""
        if beacon.state == rules.UNJUDGED or self._bounds(beacon, began).hold(beacon.available):
            return
        self._look()
        for wait_s in LOOK_AGAIN_S:
            if self._bounds(beacon, began).hold(beacon.available):
                return
            await asyncio.sleep(wait_s)
            self._look()
        bounds = self._bounds(beacon, began)
        if beacon.available > bounds.high:
            try:
                bounds = Bounds(bounds.low, bounds.high + await self._more(beacon, began))
            except PostgresUnavailable:
                return  # goodbyes wait for Postgres too: nobody can say what would be right
        if not bounds.hold(beacon.available):
            wrong = Wrong(f"the beacon says {beacon.available}", f"{bounds.low} to {bounds.high}")
            self._tally.take_down(wrong, f"count {beacon.as_of}")

    def _bounds(self, beacon: Beacon, began: float) -> Bounds:
        return self._within(self._window_s(beacon, began), time.monotonic())

    def _window_s(self, beacon: Beacon, began: float) -> float:
        return beacon.max_age_s + self._lag_s + time.monotonic() - began

    async def _more(self, beacon: Beacon, began: float) -> int:
        """Who may have been counted besides: mitras that are not ours, and ours that can have several sessions."""
        moment_s = self._window_s(beacon, began)
        others = int(await self._postgres.fetchval(sql("others_present"), self._ours, moment_s))
        # Apps are not told their capacity.
        return others + int(await self._postgres.fetchval(sql("roomy_of"), self._ours))

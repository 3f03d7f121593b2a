"""What all simulated people share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.dev.attendance import Attendance
from hadir.dev.tally import Tally
from hadir.dev.truth import Truth
from hadir.dev.witness import Witness


@dataclass(frozen=True, slots=True)
class World:
    """`churn`: how often a mitra goes away or does something else, per minute. `pace`: how much quicker than human.

    `attendance`: where mitras keep when they were there, if anybody wants to know.
    """

    config: Config
    postgres: Postgres
    urls: Sequence[str]
    churn: float
    truth: Truth
    tally: Tally
    witness: Witness
    random: Random
    pace: float = 1.0
    attendance: Attendance | None = None

    def shuffled(self) -> list[str]:
        """The addresses as a balancer would hand them out."""
        return self.random.sample(self.urls, len(self.urls))

    def happens(self, chance: float) -> bool:
        return self.random.random() < chance

    async def takes(self, bounds: tuple[float, float]) -> None:
        """Lets so many seconds go by, at the pace of people."""
        await asyncio.sleep(self.random.uniform(*bounds) / self.pace)

    def habit(self, weights: dict[str, int]) -> str:
        """One of them, by weight."""
        return self.random.choices(list(weights), weights=list(weights.values()))[0]

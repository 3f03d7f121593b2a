"""What happens in a world: a storm from its seed, or steps that were written down; then quiet, and all is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.model.faults import DEEDS, FAULTS, WISHES, Fault, heal
from tests.model.world import World

SETTLE_S = 120.0
"""Longer than everything that may take its time: a silence, a hold, a long grace."""
LOOKS = 5


@dataclass(frozen=True, slots=True)
class Step:
    """`verb` meets `who` for `for_s` seconds; the next step comes `then_s` later."""

    verb: str
    who: int
    for_s: float
    then_s: float


def act(world: World, step: Step) -> None:
    world.note(step)
    (FAULTS | DEEDS | WISHES)[step.verb](world, step.who, step.for_s)


def tell(world: World, steps: Sequence[Step]) -> None:
    """Steps, one after the other, then quiet."""
    for step in steps:
        world.after(0.0, act, world, step)
        world.run(step.then_s)
    settle(world)


def storm(world: World, seconds: float, *, faults_s: float = 15.0, deeds_s: float = 0.5, wishes_s: float = 1.0) -> None:
    """Each comes every so many seconds on the average, faults with calm stretches between."""
    dice = Random(world.dice.getrandbits(64))
    ends = world.now + seconds

    def done(among: dict[str, Fault], every_s: float) -> None:
        if world.now < ends:
            act(world, Step(dice.choice(list(among)), dice.getrandbits(32), dice.expovariate(1 / 15), 0.0))
            world.after(dice.expovariate(1 / every_s), done, among, every_s)

    def fault() -> None:
        if world.now < ends:
            act(world, Step(dice.choice(list(FAULTS)), dice.getrandbits(32), dice.expovariate(1 / 10), 0.0))
            calm = 40.0 if dice.random() < 0.2 else 0.0
            world.after(calm + dice.expovariate(1 / faults_s), fault)

    world.after(0.0, done, DEEDS, deeds_s)
    world.after(0.0, done, WISHES, wishes_s)
    world.after(0.0, fault)
    world.run(seconds)
    settle(world)


def settle(world: World) -> None:
    """Nothing happens any more; then Postgres, the mirror and the apps must agree."""
    heal(world)
    world.run(SETTLE_S)
    for _ in range(LOOKS):
        found = world.checks.quiet()
        if not found:
            return
        world.run(2.0)
    world.checks.fail("mirror = rows = apps, when all is quiet", "; ".join(found[:5]))

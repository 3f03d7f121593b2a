"""Presence and pairings on a virtual clock: nothing lost, no ghosts, one winner, whatever goes wrong
(R2 to R5, R7, R9, R13, R15).

`HADIR_TEST_MODEL` is how many steps are taken, `HADIR_TEST_MODEL_SEED` which world alone.
"""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.faults import DEEDS, FAULTS, WISHES
from tests.model.story import Step, storm, tell
from tests.model.world import BRISK, World

STEPS = int(os.environ.get("HADIR_TEST_MODEL", "400000"))
SEED = os.environ.get("HADIR_TEST_MODEL_SEED")
AS_BY_DEFAULT: dict[str, str] = {}
SHAPES: tuple[tuple[int, int, dict[str, str]], ...] = (
    (3, 40, BRISK),
    (2, 30, BRISK),
    (4, 60, BRISK),
    (3, 40, BRISK),
    (3, 1500, AS_BY_DEFAULT),
    (1, 20, BRISK),
    (3, 40, BRISK),
)
"""Instances, mitras, settings: a world's is by its seed."""
STORM_S = 240.0
EXAMPLES = max(30, STEPS // 20_000)


def live_through(seed: int) -> World:
    """A world's storm and the quiet after it."""
    instances, mitras, durations = SHAPES[seed % len(SHAPES)]
    try:
        with World(seed, instances=instances, mitras=mitras, settings=durations) as world:
            storm(world, STORM_S)
    except Exception as broken:
        command = f'HADIR_TEST_MODEL_SEED={seed} make test ARGS="-n 0 tests/model/test_model.py -k storms"'
        raise AssertionError(f"{broken!r}\nAgain: {command}") from broken
    return world


def test_nothing_breaks_a_rule_in_storms_of_many_seeds() -> None:
    steps = won = 0
    seeds = iter([int(SEED)] if SEED else range(1_000_000))
    while steps < STEPS and (seed := next(seeds, None)) is not None:
        world = live_through(seed)
        steps, won = steps + world.loop.steps, won + world.checks.won
    assert won > 0


def test_the_same_seed_makes_the_same_world() -> None:
    told = "from tests.model.test_model import live_through; print(live_through(1).trace.hexdigest())"
    here = live_through(1).trace.hexdigest()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == here
    assert live_through(2).trace.hexdigest() != here


steps_of_a_story = st.builds(
    Step,
    st.sampled_from(sorted(FAULTS | DEEDS | WISHES)),
    st.integers(0, 99),
    st.floats(0.5, 60.0),
    st.floats(0.0, 30.0),
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=STEPS <= 1_000_000,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(steps_of_a_story, max_size=12))
def test_nothing_breaks_a_rule_in_any_story(steps: list[Step]) -> None:
    with World(0, instances=3, mitras=8, http=0.25) as world:
        world.run(12.0)
        tell(world, steps)

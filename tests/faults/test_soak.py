"""What judges a soak: its faults can be had again, and what grows is found whatever else goes up and down."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from tests.faults.soak import BOUNDS, VERBS, faults_of, judged

POINTS = 12
USUAL = {
    "resident MB": (55, 3),
    "allocated blocks": (280_000, 8_000),
    "tasks": (65, 8),
    "descriptors": (62, 8),
    "sockets": (22, 5),
    "waiting to be written": (7, 7),
    "connections of postgres": (33, 3),
    "connections of valkey": (21, 4),
}
"""What an instance of a soak holds, and by how much that goes up and down."""


def test_a_seed_makes_the_same_sequence_of_faults() -> None:
    first, again, other = (list(islice(faults_of(seed), 3 * len(VERBS))) for seed in (7, 7, 8))
    assert first == again != other


def test_no_verb_is_left_out() -> None:
    assert {fault.verb for fault in islice(faults_of(7), len(VERBS))} == VERBS.keys()


@pytest.mark.parametrize("what", BOUNDS)
def test_what_goes_up_and_down_has_not_grown(what: str) -> None:
    assert not any(_grew(what, seed, slope=0.0) for seed in range(200))


@pytest.mark.parametrize("what", BOUNDS)
def test_what_leaks_has_grown(what: str) -> None:
    level, swing = USUAL[what]
    slope = 2 * max(BOUNDS[what].more, (BOUNDS[what].share - 1) * level) / POINTS + swing / 3
    assert all(_grew(what, seed, slope) for seed in range(200))


def test_what_fills_up_in_the_beginning_has_not_grown() -> None:
    points = [20.0, 45.0, *[62.0] * 10]
    ((_, _, first, last, grew),) = judged({("i1", "descriptors"): points})
    assert (first, last, grew) == (62, 62, False)


def test_a_single_outlier_decides_nothing() -> None:
    ((*_, grew),) = judged({("i1", "tasks"): [60.0] * 11 + [900.0]})
    assert not grew


def _grew(what: str, seed: int, slope: float) -> bool:
    random, (level, swing) = Random(seed), USUAL[what]
    points = [max(0.0, level + random.uniform(-swing, swing) + slope * n) for n in range(POINTS)]
    ((*_, grew),) = judged({("i1", what): points})
    return grew

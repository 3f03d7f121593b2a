"""The measuring of deaths: one tiny rig, and what is made of figures that may not be."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.deaths import plot
from benchmarks.deaths.kinds import KINDS, PROFILES, RIGS, Bounds, Rule, bounds
from benchmarks.deaths.measure import Deaths, Found, config_of, judged, percentile
from benchmarks.deaths.report import table, wrong
from benchmarks.deaths.rigs import RIGS as SCRIPTS

RESET = Deaths("reset", 3, [0.01, 0.02, 0.05], [5.2, 5.8, 6.1], [0.0, 0.0, 0.01], 15.0, 22.0)
SOUND = Found("clients", [RESET], alive=20)


async def test_a_tiny_rig(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hadir", "bench", "deaths", "--profile", "fast", "--kinds", "goodbye,reset"),
        *("--die", "5", "--alive", "20", "--window", "1", "--results", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    text = out.decode()
    assert process.returncode == 0, text
    assert "Every promise kept." in text
    found = json.loads((tmp_path / "fast-clients.json").read_text())["found"]
    goodbye, reset = found["deaths"]
    assert [each["died"] for each in (goodbye, reset)] == [5, 5]
    assert len(goodbye["offline"]) == len(goodbye["out"]) == len(reset["out"]) == len(reset["offline"]) == 5
    assert goodbye["offline"][-1] < 5.0 <= reset["offline"][0], "a goodbye is offline at once, a loss after its grace"
    assert found["alive"] == 20


def test_what_is_well_is_not_mentioned() -> None:
    assert list(wrong(SOUND)) == []
    assert "⚠" not in table([SOUND])
    assert "| 0.02 / 0.05 / 0.05 (≤ 15) | 5.80 / 6.10 / 6.10 (≤ 22) | 0 of 20 |" in table([SOUND])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(SOUND, deaths=[replace(RESET, offline=[5.2, 5.8, 22.1])]), "reset: 1 offline after more than 22 s"),
        (
            replace(SOUND, deaths=[replace(RESET, seen=[0.1, 0.1, 15.1])]),
            "reset: 1 out of the pool after more than 15",
        ),
        (replace(SOUND, deaths=[replace(RESET, offline=[5.2, 5.8])]), "reset: 1 of 3 never offline"),
        (replace(SOUND, deaths=[replace(RESET, out=[])]), "reset: 3 of 3 never out of the pool"),
        (replace(SOUND, false_offlines=["somebody lost"]), "clients: 1 false offlines: somebody lost"),
        (replace(SOUND, drift="one differs"), "clients: the stores differ at the end: one differs"),
    ],
)
def test_what_breaks_a_promise_is_said_and_marked(found: Found, said: str) -> None:
    (line,) = wrong(found)
    assert line.startswith(said)
    assert table([found]).count("⚠") == 1


def test_the_reading_that_finds_somebody_gone_may_be_a_moment_after_the_bound() -> None:
    assert list(wrong(replace(SOUND, deaths=[replace(RESET, out=[0.1, 0.1, 15.04], seen=[0.0, 0.0, 14.99])]))) == []


def test_the_living_who_are_not_there_are_missed() -> None:
    assert list(wrong(replace(SOUND, missing=2))) == ["clients: 2 of the living are not connected"]


def test_whoever_was_offline_alive_is_a_false_offline_also_one_that_died_later() -> None:
    records = [
        ("lives", "suspect", "lost", 1.0),
        ("lives", "offline", "lost", 2.0),
        ("dies", "offline", "lost", 3.0),
        ("dies", "suspect", "lost", 5.0),
        ("dies", "offline", "lost", 6.0),
        ("dies", "offline", "lost", 8.0),
    ]
    assert judged(records, {"dies": 4.0}) == (["lives lost", "dies lost"], {"lost": 1}, {"dies": 8.0})


def test_the_bounds_are_those_of_the_rule() -> None:
    config = config_of(PROFILES["default"])
    assert bounds(KINDS["reset"], config, 0.0) == Bounds(60.0, 77.0)
    assert bounds(KINDS["killed"], config, 0.0) == Bounds(14.0, 69.0)
    assert bounds(KINDS["most-held"], config, 600.0) == Bounds(60.0, 677.0)


def test_every_kind_has_a_rig_and_those_that_share_one_a_rule() -> None:
    assert set(RIGS) == SCRIPTS.keys()
    for rig in RIGS:
        assert len({kind.rule for kind in KINDS.values() if kind.rig == rig}) == 1
    assert {kind.rule for kind in KINDS.values()} == set(Rule)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 201)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [100.0, 198.0, 200.0]
    assert percentile([], 0.5) == 0.0


def test_the_picture_has_a_lane_a_kind_and_both_curves_end_at_all() -> None:
    picture = ElementTree.fromstring(plot.svg("Deaths & times", [SOUND]))
    lines = [each for each in picture.iter("{http://www.w3.org/2000/svg}polyline") if each.get("class")]
    legend, curves = lines[:2], lines[2:]
    assert [each.get("class") for each in (*legend, *curves)] == ["out", "offline"] * 2
    for curve in curves:
        heights = [float(point.split(",")[1]) for point in (curve.get("points") or "").split()]
        assert heights == sorted(heights, reverse=True)
        assert heights[0] - heights[-1] == plot.LANE

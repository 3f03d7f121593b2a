"""The measuring of many mitras, on a tiny fleet, and the page that it writes."""

from __future__ import annotations

import shutil

import pytest

from benchmarks.document import rewritten
from benchmarks.load import build
from benchmarks.scale import measure
from benchmarks.scale.__main__ import PAGE, goals
from benchmarks.scale.report import LINES, table
from benchmarks.scale.stores import filled


async def test_a_tiny_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler: apt-get install gcc libc6-dev")
    build()
    for name, value in {"SOCKETS_MAX": 10, "STARTS": 1, "ASKED": 100, "SETS": 50}.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(measure, "SETTLED_S", 3.0)
    monkeypatch.setattr(measure, "MINUTE_S", 3.0)
    async with filled(200) as stores:
        online = await measure.online(stores)
        found = await measure.of(stores)
    assert (found["online"], found["sockets"]) == (online, 10)
    assert 0 < found["seeds_available"] == found["available"] < online, "both ways to count agree; some are busy"
    assert found["beats_share"] > 0.5, "those without a socket beat by the clock"
    assert found["copy_statements"] >= 1
    assert len(table({200: found}).splitlines()) == 2 + len(LINES)
    assert [goal.values for goal in goals(found, 200)][-1] == (found["start_s"],)


def test_the_page_has_a_place_for_each_table() -> None:
    page = PAGE.read_text()
    for name in ("goals", "sizes"):
        page = rewritten(page, name, f"all of {name}")
        assert f"\nall of {name}\n" in page

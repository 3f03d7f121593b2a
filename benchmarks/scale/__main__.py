"""The command; `hadir bench scale --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop

from benchmarks import scale
from benchmarks.document import ROOT, made, write
from benchmarks.load import build
from benchmarks.performance.report import Goal, goals_table
from benchmarks.scale import measure
from benchmarks.scale.report import table
from benchmarks.scale.stores import SLOW_MS, filled
from hadir.config import raise_descriptor_limit

PAGE = ROOT / "docs/scaling.md"
SIZES = (10_000, 100_000, 1_000_000)


async def run(sizes: Sequence[int]) -> dict[int, measure.Figures]:
    found = {}
    for rows in sizes:
        async with filled(rows) as stores:
            found[rows] = await measure.of(stores)
        print(f"{rows:,}: { ({name: round(value, 3) for name, value in found[rows].items()}) }", flush=True)
    return found


def goals(figures: Mapping[str, float], rows: int) -> list[Goal]:
    """What was to be reached with a million mitras."""

    def goal(what: str, name: str, unit: str, most: float, digits: int) -> Goal:
        return Goal(f"{what}, {rows:,} mitras", (figures[name],), unit, most=most, digits=digits)

    return [
        goal("count, p99 at the client", "count_p99_ms", "ms", 1, 2),
        goal("find 20, p99 at the client", "find_p99_ms", "ms", 2, 2),
        goal("seed into an empty Valkey", "seed_s", "s", 40, 1),
        goal(f"its slowest script (at least {SLOW_MS:g})", "slowest_script_ms", "ms", 5, 1),
        goal("start with a warm mirror, to ready", "start_s", "s", 2, 2),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="hadir bench scale", description=scale.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, action="append", help="one number of mitras, instead of three")
    parser.add_argument("--json", type=Path, help="where to write all figures, and the goals as rows of a table")
    parser.add_argument("--write", action="store_true", help="write docs/scaling.md")
    asked = parser.parse_args()
    raise_descriptor_limit()
    build()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(run(asked.rows or SIZES))
    largest = max(found)
    reached, sizes = goals(found[largest], largest), table(found)
    if asked.json:
        kept = {"made": made(), "sizes": found, "goals": [asdict(goal) for goal in reached]}
        asked.json.write_text(json.dumps(kept, indent=1))
    print(goals_table(reached), sizes, sep="\n\n")
    if asked.write:
        write(PAGE, "goals", f"{made()}\n\n{goals_table(reached)}")
        write(PAGE, "sizes", sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())

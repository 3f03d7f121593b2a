"""The command; `hadir bench performance --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from benchmarks import performance
from benchmarks.document import ROOT, made, write
from benchmarks.load import build
from benchmarks.peers import FLOOR, PEERS
from benchmarks.performance import servers
from benchmarks.performance.goals import HADIR, goals
from benchmarks.performance.measure import FULL, QUICK, Size, of_beacon, of_fanout, of_sockets
from benchmarks.performance.own import OWN
from benchmarks.performance.report import BEACON, FANOUT, SOCKETS, goals_table, svg, table
from benchmarks.performance.servers import Server
from hadir.config import raise_descriptor_limit

PAGE = ROOT / "docs/performance.md"
SETTINGS: Mapping[str, Mapping[str, str]] = {HADIR: {}, "Hadir, HADIR_SOCKETS=asgi": {"HADIR_SOCKETS": "asgi"}}
OTHERS = {peer.name: peer for peer in (*PEERS, FLOOR)}
SUBJECTS = (*SETTINGS, *OTHERS, *OWN)
RUN_S = 240.0
"""A run that takes longer has failed."""
STILL_S, TRIES = 5.0, 3
TABLES = {"sockets": SOCKETS, "fanout": FANOUT, "beacon": BEACON}
QUICK_LEAST = {"beats_per_cpu_s": 0.3, "connects_per_cpu_s": 0.03, "beacon_whole_per_cpu_s": 0.38}
"""Half of what is measured against the bare protocol in the same run: 0.6, 0.06, 0.76 and more with so few."""
Figures = dict[str, float]


def started(name: str, mitras: int) -> AbstractAsyncContextManager[Server]:
    return servers.hadir(mitras, **SETTINGS[name]) if name in SETTINGS else servers.peer(OTHERS[name], mitras)


async def one(name: str, size: Size) -> Figures:
    """One run of one subject, started anew."""
    if name in OWN:
        return await OWN[name](size)
    does = FLOOR.does if name in SETTINGS else OTHERS[name].does
    async with started(name, size.sockets) as server:
        found = await of_beacon(server, size) if "beacon" in does else {}
        if "sockets" in does:
            found |= await of_sockets(server, size)
        elif "fanout" in does:
            found |= await of_fanout(server, size)
    return found


async def undisturbed(name: str, size: Size) -> Figures:
    """One run; another one where the machine, a laptop or a virtual one, stood still meanwhile.

    Raises what the run does, `TimeoutError` where it takes too long.
    """
    for left in reversed(range(TRIES)):
        gaps: list[float] = []
        watching = asyncio.create_task(stillness(gaps))
        try:
            async with asyncio.timeout(RUN_S):
                found = await one(name, size)
        except Exception:
            if not gaps or not left:
                raise
        else:
            if not gaps:
                return found
        finally:
            watching.cancel()
        print(f"{name}: the machine stood still for {sum(gaps):.0f} s", flush=True)
    raise RuntimeError("The machine stood still each time.")


async def stillness(gaps: list[float]) -> None:
    """Adds seconds in which nothing ran here, whenever there were some."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.1)
        if (gap := time.monotonic() - before) > STILL_S:
            gaps.append(gap)


async def measured(names: Sequence[str], size: Size, repeat: int) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """All subjects in turn, so that whatever else the machine does meets all of them.

    A run in which one does not do its work has no figures; the second answer says why, of the last one.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in names}
    failures: dict[str, str] = {}
    for number in range(repeat):
        for name in names:
            found: Figures = {}
            began = time.monotonic()
            try:
                found = await undisturbed(name, size)
            except Exception as failure:
                failures[name] = repr(failure)
                traceback.print_exc()
            runs[name].append(found)
            took = time.monotonic() - began
            print(f"{number + 1}/{repeat} {name}, {took:.0f} s: {rounded(found) or 'FAILED'}", flush=True)
    return runs, failures


def rounded(found: Figures) -> Figures:
    return {name: round(value, 2 if value < 100 else 0) for name, value in found.items()}


async def quick() -> int:
    """Hadir against the bare protocol, smaller: fails where half of the ratio is lost."""
    runs, failures = await measured((FLOOR.name, HADIR), QUICK, 1)
    if failures:
        return 1
    wrong = 0
    for name, least in QUICK_LEAST.items():
        share = runs[HADIR][0][name] / runs[FLOOR.name][0][name]
        wrong += share < least
        lost = "" if share >= least else ": LOST"
        print(f"{name}: {share:.2f} of the bare protocol's, at least {least} expected{lost}")
    return 1 if wrong else 0


async def full(asked: argparse.Namespace, when: str) -> int:
    absent = {name: why for name in asked.only if name in OTHERS and (why := OTHERS[name].missing())}
    for name, why in absent.items():
        print(f"{name}: not measured. {why}", flush=True)
    size = replace(FULL, sockets=asked.sockets)
    runs, failures = await measured([name for name in asked.only if name not in absent], size, asked.repeat)
    texts = {"goals": f"{when} Median of {asked.repeat} (least to most).\n\n{goals_table(goals(runs, size))}"}
    texts |= {name: table(runs, columns) for name, columns in TABLES.items()}
    texts["versions"] = "\n".join(
        [f"- {name}: {OTHERS[name].versions()}" for name in runs if name in OTHERS]
        + [f"- {name}: not measured. {why}" for name, why in absent.items()]
        + [
            f"- {name}: {len(runs[name]) - runs[name].count({})} of {asked.repeat} runs; {why}"
            for name, why in failures.items()
        ]
    )
    print(*texts.values(), sep="\n\n")
    if asked.json:
        asked.json.write_text(json.dumps({"made": when, "runs": runs, "failures": failures}, indent=1))
    if asked.write:
        for name, text in texts.items():
            write(PAGE, name, text)
        picture = svg("On one core, the same work", runs, (*SOCKETS[:3], FANOUT[0], *BEACON[:2]))
        PAGE.with_suffix(".svg").write_text(picture)
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="hadir bench performance",
        description=performance.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the short form")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", choices=SUBJECTS, default=SUBJECTS, metavar="NAME", help="; ".join(SUBJECTS)
    )
    parser.add_argument("--sockets", type=int, default=FULL.sockets)
    parser.add_argument("--json", type=Path, help="where to write every figure of every run")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its picture")
    asked = parser.parse_args()
    raise_descriptor_limit()
    build()
    when = made()  # of the whole machine
    servers.leave_a_core()
    return asyncio.run(quick() if asked.quick else full(asked, when))


if __name__ == "__main__":
    sys.exit(main())

"""The command; `hadir bench performance --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import uvloop

from benchmarks import performance
from benchmarks.document import ROOT, made, write
from benchmarks.load import build
from benchmarks.peers import FLOOR, PEERS
from benchmarks.performance import own, servers
from benchmarks.performance.measure import FULL, QUICK, Size, of_beacon, of_fanout, of_sockets
from benchmarks.performance.report import BEACON, FANOUT, SOCKETS, Goal, Runs, goals_table, ratio, svg, table, values_of
from benchmarks.performance.servers import Server
from hadir.config import raise_descriptor_limit
from hadir.errors import HadirError

PAGE = ROOT / "docs/performance.md"
HADIR, PLAIN_PATH = "Hadir", "Hadir, HADIR_SOCKETS=asgi"
SETTINGS: Mapping[str, Mapping[str, str]] = {HADIR: {}, PLAIN_PATH: {"HADIR_SOCKETS": "asgi"}}
NODE, PLAIN, FASTIFY = "Node ws + ioredis", "Starlette, a SET per ping", "Fastify"
OTHERS = {peer.name: peer for peer in (*PEERS, FLOOR)}
BEACON_S = 4.0
LAG_S = 30.0
STORM = 15_000
EVENT_TRIES = 30
TABLES = {"sockets": SOCKETS, "fanout": FANOUT, "beacon": BEACON}
QUICK_LEAST = {"beats_per_cpu_s": 0.3, "connects_per_cpu_s": 0.03, "beacon_whole_per_cpu_s": 0.38}
"""Half of what is measured against the bare protocol in the same run: 0.6, 0.06, 0.76 and more with so few."""


def started(name: str, mitras: int) -> AbstractAsyncContextManager[Server]:
    if name in SETTINGS:
        return servers.hadir(mitras, **SETTINGS[name])
    return servers.peer(OTHERS[name], mitras)


def does(name: str) -> frozenset[str]:
    return FLOOR.does if name in SETTINGS else OTHERS[name].does


async def one(name: str, size: Size) -> dict[str, float]:
    """One repeat of one server, started anew."""
    async with started(name, size.sockets) as server:
        found = await of_beacon(server, BEACON_S) if "beacon" in does(name) else {}
        if "beats" in does(name):
            found |= await of_sockets(server, size)
        elif "fanout" in does(name):
            found |= await of_fanout(server, size)
    return found


async def measured(names: Sequence[str], size: Size, repeat: int) -> dict[str, list[dict[str, float]]]:
    """All servers in turn, so that whatever else the machine does meets all of them.

    A repeat in which a server does not do its work has no figures of it; why is printed.
    """
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(repeat):
        for name in names:
            try:
                found, text = await one(name, size), ""
            except (RuntimeError, TimeoutError, HadirError, ConnectionError) as failure:
                found, text = {}, f"FAILED: {failure!r}"
            runs[name].append(found)
            print(f"{number + 1}/{repeat} {name}: {text or rounded(found)}", flush=True)
    return runs


async def measured_alone(repeat: int) -> dict[str, list[float]]:
    """What only Hadir does."""
    found: dict[str, list[float]] = {"config_ms": [], "loss_ms": [], "lag_ms": [], "storm_s": [], "statements": []}
    async with servers.hadir(EVENT_TRIES) as server:
        found["loss_ms"] = await own.loss_event(server, EVENT_TRIES)
    for _ in range(repeat):
        async with servers.hadir(FULL.sockets) as server:
            found["lag_ms"].append(await own.loop_lag(server, FULL.sockets, LAG_S))
        async with servers.hadir(STORM) as server:
            found["config_ms"].append(await own.config_event(server, STORM))
        async with servers.hadir(STORM) as server:
            took, statements = await own.storm(server, STORM)
        found["storm_s"].append(took)
        found["statements"].append(statements)
        print({name: values[-1] for name, values in found.items()}, flush=True)
    return found


def goals(runs: Runs, alone: Mapping[str, Sequence[float]]) -> list[Goal]:
    beats, connects, memory = "beats_per_cpu_s", "connects_per_cpu_s", "kb_per_socket"
    ours = {name: values_of(runs[HADIR], name) for name in (beats, connects, memory)}
    found = [
        Goal("memory of a mitra's socket that beats, 9,500 to 19,000", ours[memory], "KB", most=6, digits=1),
        Goal("beats, until they are in Valkey, 19,000 sockets", ours[beats], "a CPU-second", least=70_000),
        Goal("the same, by Node ws + ioredis", ratio(runs, HADIR, NODE, beats), "times", least=1.2, digits=2),
        Goal("the same, by plain Starlette", ratio(runs, HADIR, PLAIN, beats), "times", least=8, digits=1),
        Goal("memory, by Node ws + ioredis", ratio(runs, HADIR, NODE, memory), "times", most=1, digits=2),
        Goal("connects, to `hello`, online and mirrored", ours[connects], "a CPU-second", least=2_000),
        *(
            Goal(f"beacon, {text}, by Fastify", ratio(runs, HADIR, FASTIFY, name), "times", least=1, digits=2)
            for text, name in (("whole", "beacon_whole_per_cpu_s"), ("304", "beacon_not_modified_per_cpu_s"))
        ),
        Goal(f"config event to {STORM:,} sockets, last byte", tuple(alone.get("config_ms", ())), "ms", most=300),
        Goal("reset socket to the event on the bus", tuple(alone.get("loss_ms", ())), "ms", most=20, digits=1),
        Goal(
            "loop lag, p99 at most, 19,000 sockets, 100 a second come and go",
            tuple(alone.get("lag_ms", ())),
            "ms",
            most=10,
        ),
        Goal(
            f"{STORM:,} sockets of a killed instance available on another",
            tuple(alone.get("storm_s", ())),
            "s",
            most=15,
            digits=1,
        ),
        Goal("Postgres statements for that", tuple(alone.get("statements", ())), "statements", most=400),
    ]
    return [goal for goal in found if goal.values]


def rounded(found: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2 if value < 100 else 0) for name, value in found.items()}


async def quick() -> int:
    """Hadir against the bare protocol, smaller: fails where half of the ratio is lost."""
    runs = await measured((FLOOR.name, HADIR), QUICK, 1)
    wrong = 0
    for name, least in QUICK_LEAST.items():
        share = runs[HADIR][0][name] / runs[FLOOR.name][0][name]
        wrong += share < least
        print(
            f"{name}: {share:.2f} of the bare protocol's, at least {least} expected{'' if share >= least else ': LOST'}"
        )
    return 1 if wrong else 0


async def full(asked: argparse.Namespace, made: str) -> int:
    names = [name for name in (*SETTINGS, *OTHERS) if not asked.only or name in asked.only]
    left_out = {name: why for name in names if name in OTHERS and (why := OTHERS[name].missing())}
    print(*(f"{name}: left out. {why}" for name, why in left_out.items()), sep="\n", file=sys.stderr)
    size = replace(FULL, sockets=min(FULL.sockets, asked.sockets))
    runs = await measured([name for name in names if name not in left_out], size, asked.repeat)
    alone = await measured_alone(min(3, asked.repeat)) if HADIR in names and size == FULL else {}
    if asked.json:
        asked.json.write_text(json.dumps({"made": made, "servers": runs, "alone": alone}, indent=1))
    reached = goals(runs, alone) if HADIR in runs else []
    reached += [Goal(**row) for file in asked.rows for row in json.loads(file.read_text())]
    texts = {"goals": f"{made} Median of {asked.repeat} (least to most).\n\n{goals_table(reached)}"}
    texts |= {name: table(runs, columns) for name, columns in TABLES.items()}
    print(*texts.values(), sep="\n\n")
    if asked.write:
        absent = [f"- {name}: not measured. {why}" for name, why in left_out.items()]
        there = [f"- {name}: {OTHERS[name].versions()}" for name in runs if name in OTHERS]
        texts["versions"] = "\n".join(there + absent)
        for name, text in texts.items():
            write(PAGE, name, text)
        (PAGE.parent / "performance.svg").write_text(
            svg("On one core, the same work", runs, (*SOCKETS[:3], FANOUT[0], *BEACON[:2]))
        )
    failed = sorted({name for name, repeats in runs.items() if not all(repeats)})
    print(*(f"{name} has failed; its figures are of the other repeats." for name in failed), sep="\n", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="hadir bench performance",
        description=performance.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the short form")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="some servers, by their names in the table")
    parser.add_argument("--sockets", type=int, default=FULL.sockets)
    parser.add_argument("--rows", type=Path, nargs="+", default=[], help="more goals, as lists in JSON")
    parser.add_argument("--json", type=Path, help="where to write every figure of every repeat")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its picture")
    asked = parser.parse_args()
    raise_descriptor_limit()
    build()
    when = made()  # of the whole machine
    servers.leave_a_core()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(quick() if asked.quick else full(asked, when))


if __name__ == "__main__":
    sys.exit(main())

"""How a simulation shows itself in words: a line every now and then, a summary at the end."""

from __future__ import annotations

import asyncio
from statistics import median

from hadir.dev.simulation import Simulation

BREACHES_SHOWN = 10


async def print_lines(simulation: Simulation, every_s: float) -> None:
    """A status line every few seconds, and every breach when it is seen; until cancelled."""
    told = 0
    while True:
        await simulation.ask()
        for breach in simulation.tally.breaches[told:]:
            print(breach, flush=True)
        told = len(simulation.tally.breaches)
        print(status_line(simulation), flush=True)
        await asyncio.sleep(every_s)


def status_line(simulation: Simulation) -> str:
    """The range is open where a phone fell silent: it counts until its beat is stale."""
    return f"simulated mitras available: {ours(simulation)} · beacon: {beacon(simulation)}"


def summary(simulation: Simulation) -> str:
    """What it came to, several lines."""
    tally = simulation.tally
    lines = [f"{name}: {value}" for name, value in figures(simulation)]
    lines += [str(breach) for breach in tally.breaches[:BREACHES_SHOWN]]
    if (unsaid := len(tally.breaches) - BREACHES_SHOWN) > 0:
        lines.append(f"… and {unsaid} more like these")
    return "\n".join(lines)


def ours(simulation: Simulation) -> str:
    """How many simulated mitras must be counted, and how many more may be."""
    bounds = simulation.truth.now
    return f"{bounds.low}" + (f" to {bounds.high}" if bounds.high > bounds.low else "")


def beacon(simulation: Simulation) -> str:
    """What the last beacon said."""
    last = simulation.tally.last
    if last is None:
        return "no answer yet"
    return f"{last.available}" + ("" if last.state == "live" else f" ({last.state})")


def figures(simulation: Simulation) -> list[tuple[str, str]]:
    """(what, how much) of everything that was counted."""
    counters, tally = simulation.counters(), simulation.tally
    answers = ", ".join(f"{count} {what}" for what, count in sorted(tally.answers.items()))
    found = [
        ("connections", f"{counters.opens} ({counters.reconnects} after a loss, {counters.rotations} rotations)"),
        ("beats", f"{counters.beats}, {counters.pongs} answered"),
        ("beacons", answers or "none asked for"),
        ("rules broken", str(len(tally.breaches))),
    ]
    latencies = sorted(simulation.latencies_s())
    if latencies:
        ms = median(latencies) * 1000, latencies[int(len(latencies) * 0.99)] * 1000
        found.insert(2, ("beat to pong", f"median {ms[0]:.1f} ms, 99 % within {ms[1]:.1f} ms"))
    return found

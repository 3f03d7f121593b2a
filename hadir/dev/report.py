"""How a simulation shows itself in words: a line every now and then, a summary at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from hadir.client import Counters
from hadir.client.verdict import LISTED
from hadir.dev.dealings import ACCEPTED, FIRST_OFFER, KNOWN, Dealings
from hadir.dev.simulation import Simulation
from hadir.dev.tally import BEACON, OPENING, REPLIES, Tally
from hadir.dev.whereabouts import State

BREACHES_SHOWN = 10
TIMED = (OPENING, *REPLIES.values(), FIRST_OFFER, ACCEPTED, KNOWN, BEACON)
OTHER_CODES = {1000: "goodbye", 1001: "going_away", 1006: "lost"}


async def print_lines(simulation: Simulation, every_s: float) -> None:
    """A status line every few seconds, and every breach when it is seen; until cancelled."""
    told = 0
    while True:
        await simulation.lookout.ask()
        for breach in simulation.tally.breaches[told:]:
            print(breach, flush=True)
        told = len(simulation.tally.breaches)
        print(status_line(simulation), flush=True)
        await asyncio.sleep(every_s)


def status_line(simulation: Simulation) -> str:
    """The range is open where a phone fell silent: it counts until its beat is stale."""
    seen = f"simulated mitras available: {ours(simulation)} · beacon: {beacon(simulation)}"
    work = f"pairings: {_pairings(simulation.dealings)} · sessions: {simulation.dealings.open} open"
    return f"{seen} · {_states(simulation)} · {work} · a second: {_rates(simulation.rates.lately())}"


def summary(simulation: Simulation) -> str:
    """What it came to, several lines."""
    tally = simulation.tally
    lines = [f"{name}: {value}" for name, value in figures(simulation, simulation.rates.overall())]
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


def figures(simulation: Simulation, rates: Mapping[str, float]) -> list[tuple[str, str]]:
    """(what, how much) of everything that was counted."""
    tally, counters, dealings = simulation.tally, simulation.counters(), simulation.dealings
    timed = [(each, tally.latencies[each]) for each in TIMED if each in tally.latencies]
    return [
        ("mitras", _states(simulation)),
        ("a second", _rates(rates)),
        ("connections", _connections(counters)),
        ("closed", _join(_endings(tally)) or "none"),
        ("connections refused", _times(tally.refusals)),
        ("beats", f"{counters.beats}, {counters.pongs} answered"),
        ("pairings", _pairings(dealings)),
        ("accepts", _counted(dealings.accepts)),
        ("sessions", _join([f"{dealings.open} open", *_parts(dealings.sessions)])),
        ("messages", f"{dealings.sent} sent, {dealings.delivered} delivered"),
        ("payments", _counted(dealings.payments)),
        ("requests refused", _times(dealings.refused)),
        ("beacons", _join(f"{count} {what}" for what, count in sorted(tally.answers.items())) or "none asked for"),
        *((name, str(latency)) for name, latency in timed),
        ("rules broken", str(len(tally.breaches))),
    ]


def _pairings(dealings: Dealings) -> str:
    searching = [f"{dealings.searching} searching"] if dealings.searching else []
    return _join([*searching, *_parts(dealings.pairings)]) or "none"


def _counted(counts: Counter[str]) -> str:
    return _join(_parts(counts)) or "none"


def _times(counts: Counter[str]) -> str:
    """Of what begins with a number itself."""
    return _join(f"{count} x {what}" for what, count in counts.most_common()) or "none"


def _parts(counts: Counter[str]) -> list[str]:
    return [f"{count} {what}" for what, count in counts.most_common()]


def _states(simulation: Simulation) -> str:
    states = simulation.states()
    return _join(f"{states[each]} {each}" for each in State if states[each]) or "none"


def _rates(rates: Mapping[str, float]) -> str:
    return _join(f"{rate:.1f} {name}" for name, rate in rates.items() if rate >= 0.05) or "nothing"


def _connections(counters: Counters) -> str:
    return f"{counters.opens} ({counters.reconnects} after a loss, {counters.rotations} rotations)"


def _endings(tally: Tally) -> Iterator[str]:
    """`3 x 4006 superseded (had its successor)`: the code, and what the client made of it."""
    for (code, verdict), count in tally.endings.most_common():
        name = OTHER_CODES.get(code) or LISTED.get(code, "not listed")
        yield f"{count} x {code} {name} ({verdict})"


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts)

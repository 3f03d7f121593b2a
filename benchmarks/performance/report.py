"""The figures as JSON, as tables, and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP, LANE, GAP = 900, 230, 90, 40, 22, 8
STYLE = """
    .paper { fill: #ffffff } text { fill: #1f2328; font: 13px system-ui, sans-serif } .small { fill: #59636e }
    .ours { fill: #0969da } .theirs { fill: #8c959f } .spread { stroke: #1f2328 }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117 } text { fill: #e6edf3 } .small { fill: #9198a1 } .spread { stroke: #e6edf3 }
      .ours { fill: #58a6ff } .theirs { fill: #6e7681 }
    }
"""
OURS = "Hadir"
Runs = Mapping[str, Sequence[Mapping[str, float]]]
"""Of each server the figures of each repeat."""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of all servers."""

    name: str
    title: str
    digits: int = 0


SOCKETS = (
    Column("kb_per_socket", "KB a socket", 1),
    Column("beats_per_cpu_s", "beats a CPU-second"),
    Column("connects_per_cpu_s", "connects a CPU-second"),
    Column("beat_p99_ms", "p99 of an answer, ms", 1),
    Column("beats_per_s", "beats a second then"),
    Column("beats_answered_percent", "of them answered, %", 1),
)
FANOUT = (
    Column("told_per_cpu_s", "messages delivered a CPU-second"),
    Column("told_last_ms", "ms to the last byte"),
)
BEACON = (
    Column("beacon_whole_per_cpu_s", "GET a CPU-second"),
    Column("beacon_not_modified_per_cpu_s", "304 a CPU-second"),
    Column("beacon_whole_p99_ms", "p99 of a GET, ms", 1),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached; `most` where less is better, else `least`."""

    what: str
    values: tuple[float, ...]
    unit: str
    least: float | None = None
    most: float | None = None
    digits: int = 0

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        if not self.values:
            return "not measured"
        if self.least is not None and self.value < self.least:
            return f"**missed** by {(self.least - self.value) / self.least:.0%}"
        if self.most is not None and self.value > self.most:
            return f"**missed** by {(self.value - self.most) / self.most:.0%}"
        return "reached"

    def row(self) -> str:
        asked = f"≥ {self.least:,g}" if self.least is not None else f"≤ {self.most:,g}"
        return f"| {self.what} | {asked} {self.unit} | {spread(self.values, self.digits)} | {self.verdict} |"


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and between what the repeats lay."""
    if not values:
        return ""
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def goals_table(goals: Iterable[Goal]) -> str:
    return "\n".join(["| | asked | measured | |", "|---|---|---|---|", *(goal.row() for goal in goals)])


def table(runs: Runs, columns: Sequence[Column]) -> str:
    """A row a server that was measured so."""
    lines = [
        "| | " + " | ".join(column.title for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for server, repeats in runs.items():
        if values_of(repeats, columns[0].name):
            cells = [spread(values_of(repeats, column.name), column.digits) for column in columns]
            lines.append(f"| {server} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def values_of(repeats: Iterable[Mapping[str, float]], name: str) -> tuple[float, ...]:
    return tuple(repeat[name] for repeat in repeats if name in repeat)


def ratio(runs: Runs, ours: str, theirs: str, name: str) -> tuple[float, ...]:
    """Of each repeat; nothing where one of the two was not measured."""
    pairs = zip(runs.get(ours, ()), runs.get(theirs, ()), strict=False)
    return tuple(one[name] / other[name] for one, other in pairs if name in one and name in other)


def svg(title: str, runs: Runs, columns: Iterable[Column]) -> str:
    """Bars of the medians, with the spread as a line."""
    parts, y = [], TOP
    for column in columns:
        lanes = {server: values for server, repeats in runs.items() if (values := values_of(repeats, column.name))}
        if not lanes:
            continue
        most = max(max(values) for values in lanes.values())
        parts.append(f'<text class="small" x="{LEFT}" y="{y + 14}">{escape(column.title)}</text>')
        y += LANE
        for server, values in lanes.items():
            parts += _bar(server, values, most, column.digits, y)
            y += LANE + GAP
        y += LANE
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{y}"/>',
        f'<text x="{LEFT}" y="24">{escape(title)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _bar(server: str, values: Sequence[float], most: float, digits: int, y: int) -> list[str]:
    def x(value: float) -> float:
        return round(value / most * (WIDTH - LEFT - RIGHT), 1)

    middle, kind = statistics.median(values), "ours" if server.startswith(OURS) else "theirs"
    line, end = y + LANE / 2, LEFT + x(max(values))
    return [
        f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(server)}</text>',
        f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{x(middle)}" height="{LANE}"/>',
        f'<line class="spread" x1="{LEFT + x(min(values))}" x2="{end}" y1="{line}" y2="{line}"/>',
        f'<text class="small" x="{end + 6}" y="{y + 16}">{middle:,.{digits}f}</text>',
    ]

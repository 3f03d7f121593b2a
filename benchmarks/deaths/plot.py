"""The picture: for each kind the share of its dead that were out of the pool, and offline, after so many seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.deaths.kinds import KINDS
from benchmarks.deaths.measure import Deaths, Found

LEFT, RIGHT, TOP, LANE, GAP = 150, 24, 58, 40, 12
WIDTH = 900
LEAST_S = 0.02
POINTS = 120
TICKS = ((0.02, "20 ms"), (0.1, "0.1 s"), (0.5, "0.5 s"), (1, "1 s"), (5, "5 s"), (10, "10 s"), (30, "30 s"),
         (60, "1 min"), (120, "2 min"), (300, "5 min"), (600, "10 min"), (1200, "20 min"))  # fmt: skip
STYLE = """
    .paper { fill: #ffffff } .lane { fill: #f3f4f6 } text { fill: #1f2328; font: 13px system-ui, sans-serif }
    .small { font-size: 11px; fill: #59636e } .grid { stroke: #d1d9e0; stroke-width: 1 }
    .out { stroke: #0969da } .offline { stroke: #bc4c00 } polyline { fill: none; stroke-width: 2 }
    line.out, line.offline { stroke-width: 2; stroke-dasharray: 3 3 }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117 } .lane { fill: #161b22 } text { fill: #e6edf3 } .small { fill: #9198a1 }
      .grid { stroke: #30363d } .out { stroke: #58a6ff } .offline { stroke: #f0883e }
    }
"""


def svg(title: str, rigs: Iterable[Found]) -> str:
    """Lanes in the order of the kinds, a logarithmic axis of seconds; dashed: the bounds."""
    found = {deaths.kind: deaths for rig in rigs for deaths in rig.deaths}
    lanes = [found[name] for name in KINDS if name in found]
    most = max(max([deaths.offline_bound_s, *deaths.offline[-1:]]) for deaths in lanes) * 1.2
    height = TOP + len(lanes) * (LANE + GAP) + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        f'<text x="{LEFT}" y="22">{escape(title)}</text>',
        *_legend(),
    ]
    bottom = height - 24
    for number in range(len(lanes)):
        y = TOP + number * (LANE + GAP)
        parts.append(f'<rect class="lane" x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{LANE}"/>')
    for seconds, label in TICKS:
        if seconds <= most:
            x = _x(seconds, most)
            parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom - 6}"/>')
            parts.append(f'<text class="small" x="{x}" y="{bottom + 10}" text-anchor="middle">{label}</text>')
    for number, deaths in enumerate(lanes):
        parts += _lane(deaths, TOP + number * (LANE + GAP), most)
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> list[str]:
    return [
        f'<polyline class="out" points="{LEFT},40 {LEFT + 24},40"/>',
        f'<text class="small" x="{LEFT + 30}" y="44">out of the pool</text>',
        f'<polyline class="offline" points="{LEFT + 130},40 {LEFT + 154},40"/>',
        f'<text class="small" x="{LEFT + 160}" y="44">offline</text>',
        f'<text class="small" x="{LEFT + 220}" y="44">from none (bottom) to all of the dead (top); dashed: R13</text>',
    ]


def _lane(deaths: Deaths, y: float, most: float) -> list[str]:
    parts = [f'<text x="{LEFT - 10}" y="{y + LANE / 2 + 5}" text-anchor="end">{escape(deaths.kind)}</text>']
    for name, seconds, bound_s in (
        ("out", deaths.out, deaths.out_bound_s),
        ("offline", deaths.offline, deaths.offline_bound_s),
    ):
        x = _x(bound_s, most)
        parts.append(f'<line class="{name}" x1="{x}" x2="{x}" y1="{y}" y2="{y + LANE}"/>')
        if seconds:
            corners = _steps(seconds, deaths.died)
            points = " ".join(f"{_x(at, most)},{y + LANE * (1 - share):.1f}" for at, share in corners)
            parts.append(f'<polyline class="{name}" points="{points}"/>')
    return parts


def _steps(seconds: Sequence[float], died: int) -> list[tuple[float, float]]:
    """Corners of the distribution, thinned out."""
    chosen = sorted({round(n * (len(seconds) - 1) / POINTS) for n in range(POINTS + 1)})
    corners, below = [(LEAST_S, 0.0)], 0.0
    for n in chosen:
        corners += [(seconds[n], below), (seconds[n], (n + 1) / died)]
        below = (n + 1) / died
    return corners


def _x(seconds: float, most: float) -> float:
    share = math.log(max(seconds, LEAST_S) / LEAST_S) / math.log(most / LEAST_S)
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

"""What the rigs found, as a table, and what of it may not be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.deaths.kinds import KINDS, Profile
from benchmarks.deaths.measure import Deaths, Found, percentile

BEYOND = " ⚠"


def wrong(found: Found) -> Iterator[str]:
    """A sentence for each thing that breaks a promise."""
    for deaths in found.deaths:
        for what, seconds, held, bound_s in (
            ("out of the pool", deaths.out, deaths.seen, deaths.out_bound_s),
            ("offline", deaths.offline, deaths.offline, deaths.offline_bound_s),
        ):
            if len(seconds) < deaths.died:
                yield f"{deaths.kind}: {deaths.died - len(seconds)} of {deaths.died} never {what}"
            elif late := sum(each > bound_s for each in held):
                bound = f"{round(bound_s, 1):g} s"
                yield f"{deaths.kind}: {late} {what} after more than {bound}, the last after {seconds[-1]:.1f} s"
    if found.false_offlines:
        yield f"{found.rig}: {len(found.false_offlines)} false offlines: {', '.join(found.false_offlines[:5])}"
    if found.drift:
        yield f"{found.rig}: the stores differ at the end: {found.drift}"
    if found.missing:
        yield f"{found.rig}: {found.missing} of the living are not connected"


def table(rigs: Iterable[Found]) -> str:
    """Markdown; seconds since the death, in the order of the kinds."""
    order = list(KINDS)
    rows = sorted(((order.index(d.kind), d, found) for found in rigs for d in found.deaths), key=lambda row: row[0])
    lines = [
        "| how they went | died | out of the pool: p50 / p99 / max (≤ bound) | offline: p50 / p99 / max (≤ bound) "
        "| false offlines | the living: connections lost / suspect for a moment | drift |",
        "|---|---|---|---|---|---|---|",
    ]
    for _, deaths, found in rows:
        lines.append(
            f"| `{deaths.kind}`: {KINDS[deaths.kind].title} | {deaths.died} "
            f"| {_figures(deaths, deaths.out, deaths.seen, deaths.out_bound_s)} "
            f"| {_figures(deaths, deaths.offline, deaths.offline, deaths.offline_bound_s)} "
            f"| {len(found.false_offlines)}{BEYOND if found.false_offlines else ''} of {found.alive} "
            f"| {sum(found.lost.values())} / {sum(found.suspects.values())} "
            f"| {'yes' + BEYOND if found.drift else 'none'} |"
        )
    return "\n".join(lines)


def _figures(deaths: Deaths, seconds: Sequence[float], held: Sequence[float], bound_s: float) -> str:
    if not seconds:
        return "never" + BEYOND
    shown = " / ".join(f"{each:.2f}" for each in (percentile(seconds, 0.5), percentile(seconds, 0.99), seconds[-1]))
    beyond = held[-1] > bound_s or len(seconds) < deaths.died
    return f"{shown} (≤ {round(bound_s, 1):g}){BEYOND if beyond else ''}"


def notes(rigs: Sequence[Found]) -> str:
    """What the table has no room for."""
    lines = [line for found in rigs for line in (*_hold(found), *_connections(found))]
    spacing_ms, busy = max(found.sampled_p99_s for found in rigs) * 1000, max(found.cpu for found in rigs)
    lines.append(
        f"- In the worst rig, p99 of the distance between two readings of the pool was {spacing_ms:.0f} ms; "
        f"in the busiest, the machine was {busy:.0f} % busy."
    )
    return "\n".join(lines)


def _hold(found: Found) -> Iterator[str]:
    for deaths in found.deaths:
        if deaths.released:
            yield (
                f"- `{deaths.kind}`: R5 held for {found.held_s:.1f} s, then an operator let go; from then on, "
                f"offline after p50 {percentile(deaths.released, 0.5):.2f} s, max {deaths.released[-1]:.2f} s."
            )
        elif found.held_s:
            yield f"- `{deaths.kind}`: R5 held for {found.held_s:g} s (`MITRA_AUTO_OFFLINE_HOLD_SECONDS`)."


def _connections(found: Found) -> Iterator[str]:
    if found.suspects:
        reasons = ", ".join(f"{count} as `{reason}`" for reason, count in sorted(found.suspects.items()))
        yield f"- `{found.rig}`: the living were suspect for a moment, {reasons}."
    if found.lost:
        ends = ", ".join(f"{count} with {how}" for how, count in sorted(found.lost.items()))
        yield (
            f"- `{found.rig}`: connections of the living ended, {ends}; "
            f"they came back {found.reconnects} times after a loss, {found.rotations} times by rotation."
        )


def section(profile: Profile, rigs: Sequence[Found], made: str, picture: str) -> str:
    """The part of the document between a profile's markers."""
    parts = (profile.about, made, table(rigs), notes(rigs), f"![time to offline, {profile.name} settings]({picture})")
    return "\n\n".join(parts)

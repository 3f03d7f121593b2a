"""The figures as a table, one column a number of mitras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Line(NamedTuple):
    """A row: what it is, the figures in it, each with its digits, as a sentence."""

    what: str
    text: str


LINES = (
    Line("online, of them sockets of one instance", "{online:,.0f}, {sockets:,.0f}"),
    Line("**Valkey**: memory", "{valkey_mb:,.0f} MB"),
    Line("the same for 100,000 mitras", "{valkey_mb_per_100k:,.1f} MB"),
    Line("CPU in a minute", "{valkey_cpu_s:,.1f} s"),
    Line("CPU of a beat", "{beat_valkey_us:,.1f} µs"),
    Line("**Instance**: memory without, with its sockets", "{instance_mb:,.0f} MB, {instance_sockets_mb:,.0f} MB"),
    Line("CPU in a minute", "{instance_cpu_s:,.1f} s"),
    Line("CPU of sending a beat to Valkey", "{beat_own_us:,.1f} µs"),
    Line("start to ready, mirror warm", "{start_s:,.2f} s"),
    Line("**Postgres**: statements in a minute", "{statements:,.0f}"),
    Line("dead presence rows made in a minute, of them HOT", "{row_versions:,.0f}, {hot_share:.0%}"),
    Line("copy of a minute's beats: took, instance's CPU", "{copy_s:,.1f} s, {copy_own_cpu_s:,.1f} s"),
    Line("**Seed** into an empty Valkey", "{seed_s:,.1f} s"),
    Line("CPU: instance's, Valkey's", "{seed_own_cpu_s:,.1f} s, {seed_valkey_cpu_s:,.1f} s"),
    Line("scripts over 5 ms", "{slow_scripts:,.0f}"),
    Line("again, where all is right", "{again_seed_s:,.1f} s"),
    Line("CPU: instance's, Valkey's", "{again_seed_own_cpu_s:,.1f} s, {again_seed_valkey_cpu_s:,.1f} s"),
    Line("**Count**, p50, p99", "{count_p50_ms:,.2f} ms, {count_p99_ms:,.2f} ms"),
    Line("**Find** 20, p50, p99", "{find_p50_ms:,.2f} ms, {find_p99_ms:,.2f} ms"),
    Line("**Mirror cold**: count, find 20, in Postgres", "{cold_count_s:,.2f} s, {cold_find_s:,.2f} s"),
    Line("**The seed's design**: a count", "{seeds_count_s:,.2f} s"),
    Line("for so long Valkey answers nobody meanwhile", "{seeds_blocked_ms:,.0f} ms"),
    Line("a beat, CPU: client's, Valkey's", "{seeds_beat_own_us:,.0f} µs, {seeds_beat_valkey_us:,.1f} µs"),
    Line(
        "beats, six counts a minute, CPU: client's, Valkey's",
        "{seeds_own_cpu_s:,.0f} s, {seeds_valkey_cpu_s:,.1f} s",
    ),
)


def table(found: Mapping[int, Mapping[str, float]]) -> str:
    head = "| mitras | " + " | ".join(f"{rows:,}" for rows in found) + " |"
    lines = [
        f"| {line.what} | " + " | ".join(line.text.format(**figures) for figures in found.values()) + " |"
        for line in LINES
    ]
    return "\n".join([head, "|---" * (len(found) + 1) + "|", *lines])

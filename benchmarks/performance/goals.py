"""What is asked of Hadir, and what came of it."""

from __future__ import annotations

from benchmarks.performance.measure import Size
from benchmarks.performance.own import BEAT_EVERY_S, CHURN_PER_S, CROWD
from benchmarks.performance.report import Goal, Runs, ratio, values_of

HADIR = "Hadir"
NODE, STARLETTE, FASTIFY = "Node ws + ioredis", "Starlette, a SET per ping", "Fastify"
BEATS, CONNECTS, MEMORY = "beats_per_cpu_s", "connects_per_cpu_s", "kb_per_socket"
WHOLE, NOT_MODIFIED = "beacon_whole_per_cpu_s", "beacon_not_modified_per_cpu_s"


def goals(runs: Runs, size: Size) -> list[Goal]:
    crowd = f"{min(CROWD, size.sockets):,} sockets"
    churn = f"{size.sockets:,} sockets beat every {BEAT_EVERY_S:g} s and {CHURN_PER_S:g} a second come and go"

    def of(subject: str, name: str) -> tuple[float, ...]:
        return values_of(runs.get(subject, ()), name)

    def beside(server: str, name: str) -> tuple[float, ...]:
        return ratio(runs, HADIR, server, name)

    return [
        Goal(f"memory of each of {size.sockets:,} sockets that beat", of(HADIR, MEMORY), "KB", most=6, digits=1),
        Goal(f"memory beside {NODE}", beside(NODE, MEMORY), "times", most=1, digits=2),
        Goal("beats, until they are in Valkey", of(HADIR, BEATS), "a CPU-second", least=70_000),
        Goal("the same, where each has an id", of(HADIR, "beats_with_id_per_cpu_s"), "a CPU-second", least=70_000),
        Goal("beats that are answered", of(HADIR, "beats_answered_percent"), "%", least=100, digits=1),
        Goal(f"beats beside {NODE}", beside(NODE, BEATS), "times", least=1.2, digits=2),
        Goal(f"beats beside {STARLETTE}", beside(STARLETTE, BEATS), "times", least=8, digits=1),
        Goal("connects, to `hello`, online and mirrored", of(HADIR, CONNECTS), "a CPU-second", least=2_000),
        Goal(f"beacon, whole, beside {FASTIFY}", beside(FASTIFY, WHOLE), "times", least=1, digits=2),
        Goal(f"beacon, 304, beside {FASTIFY}", beside(FASTIFY, NOT_MODIFIED), "times", least=1, digits=2),
        Goal(f"config event to {crowd}, last byte", of("config", "config_ms"), "ms", most=300),
        Goal("reset socket to the event on the bus, median", of("loss", "loss_ms"), "ms", most=20, digits=1),
        Goal(f"p99 of the loop's lag, at most, while {churn}", of("lag", "lag_ms"), "ms", most=10, digits=1),
        Goal(f"{crowd} of a killed instance are back", of("storm", "storm_s"), "s", most=15, digits=1),
        Goal("Postgres statements for that", of("storm", "storm_statements"), "statements", most=400),
    ]

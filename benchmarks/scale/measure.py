"""Figures of one number of mitras."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from benchmarks.load import Load
from benchmarks.scale.stores import INSTANCES, SLOW_MS, Fleet, Stores, cpu_s, serving
from hadir.db.queries import sql
from hadir.realtime.heartbeats import mirror_beats
from hadir.realtime.mirror import BEATS_PER_SCRIPT

SOCKETS_MAX = 18_000
"""What one process holds here, with room for a client's connections: its limit of descriptors is 20,000."""
CONNECTS_PER_S = 1_500.0
ASKED = 3_000
POOL = 20
STARTS = 3
SETTLED_S = 45.0
"""After this long the sockets stand, and the first copy of beats to Postgres is still to come."""
MINUTE_S = 60.0
SETS = 10_000
SEED_CACHE_S = 10.0
SEED_GETS = 10_000
Figures = dict[str, float]


async def of(stores: Stores) -> Figures:
    """All figures, in an order in which nothing is stale when it is looked at."""
    found = await seeded(stores)
    for instance_id in INSTANCES:
        await stores.mirror.lease(instance_id, "begin")
        await stores.mirror.lease(instance_id, "beaten")
    found |= await beaten(stores, await stores.fleet(0))
    found |= await asked(stores)
    found |= await copied(stores)
    found |= await by_the_seeds_design(stores, found["online"])
    found |= {f"again_{name}": value for name, value in (await seeded(stores)).items()}
    found |= await started(stores)
    return found | await a_minute(stores)


@asynccontextmanager
async def spent(stores: Stores, name: str, found: Figures) -> AsyncIterator[None]:
    """The seconds that something takes, of the clock and of the processors."""
    began, own, valkey = time.monotonic(), time.process_time(), stores.valkey_cpu_s
    yield
    found[f"{name}_s"] = time.monotonic() - began
    found[f"{name}_own_cpu_s"] = time.process_time() - own
    found[f"{name}_valkey_cpu_s"] = stores.valkey_cpu_s - valkey


async def seeded(stores: Stores) -> Figures:
    found: Figures = {}
    await stores.slow_scripts_ms()
    before = await stores.valkey_mb()
    async with spent(stores, "seed", found):
        if not await stores.seeder.seed("benchmark"):
            raise RuntimeError("somebody else seeded")
    slow = await stores.slow_scripts_ms()
    rows = await stores.sql.fetchval("SELECT count(*) FROM mitra_presence")
    megabytes = await stores.valkey_mb() - before
    return found | {
        "slow_scripts": len(slow),
        "slowest_script_ms": max(slow, default=SLOW_MS),
        "valkey_mb": megabytes,
        "valkey_mb_per_100k": megabytes / rows * 1e5,
    }


async def beaten(stores: Stores, fleet: Fleet) -> Figures:
    """Everybody beats once, as fast as it goes."""
    found: Figures = {"online": len(fleet.mitra_ids)}
    async with spent(stores, "beats", found):
        for start in range(0, len(fleet.mitra_ids), BEATS_PER_SCRIPT):
            await beat(stores, fleet, start)
    for whose in ("own", "valkey"):
        found[f"beat_{whose}_us"] = found[f"beats_{whose}_cpu_s"] / found["online"] * 1e6
    return found


async def beat(stores: Stores, fleet: Fleet, start: int) -> int:
    """A flush of one of the made-up instances; answers how many beat."""
    ids = fleet.mitra_ids[start : start + BEATS_PER_SCRIPT]
    owners = fleet.owners[start : start + BEATS_PER_SCRIPT]
    flush_s = stores.config.heartbeat_flush_s
    ages = [flush_s * n / len(ids) for n in range(len(ids))]  # as they come: few in one millisecond
    answer = await stores.mirror.beat(ids, owners, ages)
    if not answer.seeded or answer.deactivated or answer.strangers:
        raise RuntimeError(f"refused: {answer}")
    return len(ids)


async def asked(stores: Stores) -> Figures:
    """Milliseconds of counts and of finding whom to offer, one after the other; seconds of one each in Postgres."""
    found: Figures = {}
    fresh_s = stores.config.postgres_fresh_s
    for name, query in (
        ("cold_count", ("counts", fresh_s, INSTANCES)),
        ("cold_find", ("available_pool", fresh_s, INSTANCES, POOL)),
    ):
        async with spent(stores, name, found):
            await stores.postgres.fetch(sql(query[0]), *query[1:])
    for name, ask in (("count", stores.mirror.counts), ("find", lambda: stores.mirror.pool(POOL))):
        taken = await timed(ask)
        found[f"{name}_p50_ms"] = statistics.median(taken)
        found[f"{name}_p99_ms"] = taken[round(0.99 * len(taken))]
    return found


async def timed(ask: Callable[[], Awaitable[object]]) -> list[float]:
    taken = []
    for _ in range(ASKED):
        began = time.perf_counter()
        if await ask() is None:
            raise RuntimeError("the mirror is cold")
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


async def started(stores: Stores) -> Figures:
    taken = []
    for _ in range(STARTS):
        async with serving(stores) as (_, _, seconds):
            taken.append(seconds)
    return {"start_s": statistics.median(taken)}


async def a_minute(stores: Stores) -> Figures:
    """All beat by the clock, at one instance as many as it holds: what it, Valkey and Postgres spend in a minute."""
    async with serving(stores) as (process, port, _):
        ready, rss = time.monotonic(), process.memory_info().rss
        sockets = min(SOCKETS_MAX, round(await online(stores)))
        rest = await stores.fleet(sockets)
        async with Load(port, await stores.tokens(sockets)) as load, asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(beat_by_the_clock(stores, rest, SETTLED_S + MINUTE_S))
            opened = await load(f"open {sockets} {CONNECTS_PER_S}")
            if opened["failed"]:
                raise RuntimeError(f"sockets: {opened}")
            interval_s = stores.config.heartbeat_interval_s
            lives_s = ready + SETTLED_S + MINUTE_S - time.monotonic()
            living = tasks.create_task(load(f"live {sockets / interval_s} 0 {lives_s}"))
            await asyncio.sleep(max(0.0, ready + SETTLED_S - time.monotonic()))
            began, cpu, valkey = time.monotonic(), cpu_s(process), stores.valkey_cpu_s
            statements, written = await stores.statements(), await stores.rows_written()
            await asyncio.sleep(ready + SETTLED_S + MINUTE_S - time.monotonic())
            minutes = (time.monotonic() - began) / 60
            cpu, valkey = cpu_s(process) - cpu, stores.valkey_cpu_s - valkey
            statements = await stores.statements() - statements
            after, grown = await stores.rows_written(), process.memory_info().rss
    lived = living.result()
    if lived["lost"]:
        raise RuntimeError(f"sockets: {lived}")
    versions = after[0] - written[0]
    whole = (SETTLED_S + MINUTE_S) / interval_s
    return {
        "sockets": sockets,
        "instance_mb": rss / 1e6,
        "instance_sockets_mb": grown / 1e6,
        "instance_cpu_s": cpu / minutes,
        "valkey_cpu_s": valkey / minutes,
        "beats_share": 1.0 if not rest.mitra_ids else sent.result() / (whole * len(rest.mitra_ids)),
        "statements": statements / minutes,
        "row_versions": versions / minutes,
        "hot_share": (after[1] - written[1]) / versions if versions else 1.0,
        "dead": after[2],
    }


async def online(stores: Stores) -> int:
    return int(await stores.sql.fetchval("SELECT count(*) FROM mitra_presence WHERE is_online"))


async def beat_by_the_clock(stores: Stores, fleet: Fleet, seconds: float) -> int:
    """Everybody beats once an interval; answers how many beats that were."""
    sent, began = 0, time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds and fleet.mitra_ids:
        due = elapsed / stores.config.heartbeat_interval_s * len(fleet.mitra_ids)
        if sent < due:
            sent += await beat(stores, fleet, sent % len(fleet.mitra_ids))
        else:
            await asyncio.sleep(0.005)
    return sent


async def copied(stores: Stores) -> Figures:
    """The beats of a minute to Postgres, as one instance does it once a minute."""
    found: Figures = {}
    before = await stores.statements()
    async with spent(stores, "copy", found):
        await mirror_beats(stores.mirror, stores.postgres, stores.config.heartbeat_stale_s)
    return found | {"copy_statements": await stores.statements() - before}


async def by_the_seeds_design(stores: Stores, beating: float) -> Figures:
    """The same count from the first four keys alone, and a beat as a `SET` of its own."""
    found: Figures = {}
    await stores.client.slowlog_reset()
    counted = await stores.mirror.counts()
    assert counted is not None, "warm since the leases of made-up instances were taken"
    found["available"] = counted.available
    async with spent(stores, "seeds_count", found):
        found["seeds_available"] = await seeds_count(stores)
    blocked = [entry["duration"] / 1000 for entry in await stores.client.slowlog_get(10_000)]
    found["seeds_blocked_ms"] = max(blocked, default=SLOW_MS)
    ids = (await stores.fleet(0)).mitra_ids[:SETS]
    async with spent(stores, "seeds_beats", found):
        for mitra_id in ids:
            await stores.client.set(f"mitra:heartbeat:{mitra_id}", "2026-05-25T10:07:55.123Z", ex=45)
    beats = beating * MINUTE_S / stores.config.heartbeat_interval_s
    for whose in ("own", "valkey"):
        each = found[f"seeds_beats_{whose}_cpu_s"] / len(ids)
        found[f"seeds_beat_{whose}_us"] = each * 1e6
        counts = found[f"seeds_count_{whose}_cpu_s"] * MINUTE_S / SEED_CACHE_S
        found[f"seeds_{whose}_cpu_s"] = each * beats + counts
    return found


async def seeds_count(stores: Stores) -> int:
    answer = await stores.client.execute_command("SDIFF", "mitras:online", "mitras:deactivated")  # type: ignore[no-untyped-call]
    names = list(answer)
    found = 0
    for start in range(0, len(names), SEED_GETS):
        pipeline = stores.client.pipeline(transaction=False)
        for name in names[start : start + SEED_GETS]:
            pipeline.get(b"mitra:capacity:" + name)
            pipeline.get(b"mitra:heartbeat:" + name)
        answers = await pipeline.execute()
        found += sum(
            int(capacity or 0) < 1 and beat is not None
            for capacity, beat in zip(answers[::2], answers[1::2], strict=True)
        )
    return found

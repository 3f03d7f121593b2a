"""What only Hadir does: news to all, news of a loss, an instance's sockets that come back elsewhere, its loop."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

import httpx
import jwt
import orjson
import redis.asyncio as redis

from benchmarks.performance.measure import CONNECTS_PER_S, Size, opened, tellings
from benchmarks.performance.servers import Server, another, hadir, statements_of
from hadir.realtime.keys import Keys

CROWD = 15_000
"""Sockets of one instance that are told, or lose it."""
LOSSES = 30
TOLD_S = 10.0
BEAT_EVERY_S = 20.0
CHURN_PER_S = 100.0
LAG_S = 100.0
"""As many samples: the loop is looked at once a second."""
LAG = re.compile(r'hadir_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')
BACK_PER_S = 2_000
BACK_S = 60.0


async def config(size: Size) -> dict[str, float]:
    """Milliseconds from an operator's request to the last byte at the last socket."""
    sockets = min(CROWD, size.sockets)
    async with hadir(sockets) as server, server.sockets() as load:
        opened(await load(f"open {sockets} {CONNECTS_PER_S}"))
        return {"config_ms": (await tellings(server, load, sockets))["told_last_ms"]}


async def loss(_: Size) -> dict[str, float]:
    """Milliseconds from a TCP reset to the event that other instances hear; the median of some."""
    took = []
    async with hadir(LOSSES) as server, server.sockets() as load:
        tokens = server.tokens.read_text().split()
        async with redis.Redis.from_url(server.valkey_url) as valkey, valkey.pubsub() as bus:
            opened(await load(f"open {LOSSES} {CONNECTS_PER_S}"))
            await bus.subscribe(Keys("").events_channel)
            for token in tokens:
                mitra_id = jwt.decode(token, options={"verify_signature": False})["sub"]
                reset_at = (await load("reset 1"))["at_s"]
                await _heard(bus, mitra_id.encode())
                took.append((time.monotonic() - reset_at) * 1000)
    return {"loss_ms": statistics.median(took)}


async def _heard(bus: redis.client.PubSub, mitra_id: bytes) -> None:
    """Returns with the next presence event of this mitra."""
    async with asyncio.timeout(TOLD_S):
        async for message in bus.listen():
            if message["type"] != "message" or mitra_id not in message["data"]:
                continue
            if orjson.loads(message["data"])["type"] == "presence":
                return


async def lag(size: Size) -> dict[str, float]:
    """The 99th percentile of the loop's delay, in ms at most, while sockets beat and some come and go."""
    async with hadir(size.sockets) as server, server.sockets() as load, httpx.AsyncClient() as http:
        opened(await load(f"open {size.sockets} {CONNECTS_PER_S}"))
        before = await _lags(http, server)
        lived = await load(f"live {size.sockets / BEAT_EVERY_S} {CHURN_PER_S} {LAG_S}")
        after = await _lags(http, server)
    if lived["lost"]:
        raise RuntimeError(f"Sockets were lost: {lived}")
    since = {bound: many - before[bound] for bound, many in after.items()}
    return {"lag_ms": next(bound for bound, many in since.items() if many >= 0.99 * max(since.values())) * 1000}


async def _lags(http: httpx.AsyncClient, server: Server) -> dict[float, float]:
    """How many delays were at most so many seconds."""
    text = (await http.get(f"{server.inner}/metrics")).text
    return {float(bound): float(many) for bound, many in LAG.findall(text)}


async def storm(size: Size) -> dict[str, float]:
    """An instance is killed, its apps come to another: seconds until all are available, and Postgres statements."""
    sockets = min(CROWD, size.sockets)
    async with hadir(sockets) as server, another(server, BACK_PER_S) as heir:
        async with server.sockets() as load:
            opened(await load(f"open {sockets} {CONNECTS_PER_S}"))
            for process in server.processes:
                process.kill()
        async with heir.sockets() as load, statements_of(server) as statements:
            began = time.monotonic()
            opened(await load(f"open {sockets} {BACK_PER_S}"))
            await _available(heir, sockets)
            took = time.monotonic() - began
    return {"storm_s": took, "storm_statements": statements.count}


async def _available(heir: Server, sockets: int) -> None:
    async with httpx.AsyncClient(headers=heir.operator) as http, asyncio.timeout(BACK_S):
        while True:
            counts = (await http.get(f"{heir.inner}/api/internal/counts")).json()
            if min(counts["available"], counts["connected"]) >= sockets:  # the heir's own sockets, and all of them fit
                return
            await asyncio.sleep(0.05)


OWN: Mapping[str, Callable[[Size], Awaitable[dict[str, float]]]] = {
    "config": config,
    "loss": loss,
    "lag": lag,
    "storm": storm,
}

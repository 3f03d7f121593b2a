"""What only Hadir does: news to all, news of a loss, an instance's sockets that come back elsewhere, its loop."""

from __future__ import annotations

import asyncio
import re
import time

import httpx
import jwt
import orjson
import redis.asyncio as redis

from benchmarks.performance.measure import CONNECTS_PER_S, opened, tellings
from benchmarks.performance.servers import Server, another, statements_of
from hadir.realtime.keys import Keys

TOLD_S = 10.0
BEAT_EVERY_S = 20.0
CHURN_PER_S = 100.0
LAG = re.compile(r'hadir_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')


async def config_event(server: Server, sockets: int) -> float:
    """Milliseconds from an operator's request to the last byte at the last socket."""
    async with server.sockets() as load:
        opened(await load(f"open {sockets} {CONNECTS_PER_S}"))
        return (await tellings(server, load, sockets))["told_last_ms"]


async def loss_event(server: Server, tries: int) -> list[float]:
    """Milliseconds from a TCP reset to the event that other instances hear."""
    ids = [jwt.decode(each, options={"verify_signature": False})["sub"] for each in server.tokens.read_text().split()]
    took = []
    async with server.sockets() as load, redis.Redis.from_url(server.valkey_url) as valkey, valkey.pubsub() as bus:
        opened(await load(f"open {tries} {CONNECTS_PER_S}"))
        await bus.subscribe(Keys("").events_channel)
        for mitra_id in ids[:tries]:
            reset_at = (await load("reset 1"))["at_s"]
            while mitra_id.encode() not in await _next(bus):
                pass
            took.append((time.monotonic() - reset_at) * 1000)
    return took


async def _next(bus: redis.client.PubSub) -> bytes:
    async with asyncio.timeout(TOLD_S):
        async for message in bus.listen():
            if message["type"] == "message" and orjson.loads(message["data"])["type"] == "presence":
                return bytes(message["data"])
    raise RuntimeError("the subscription ended")


async def loop_lag(server: Server, sockets: int, seconds: float) -> float:
    """The 99th percentile of the loop's delay, in ms at most, while sockets beat and some come and go."""
    async with server.sockets() as load, httpx.AsyncClient() as http:
        opened(await load(f"open {sockets} {CONNECTS_PER_S}"))
        before = await _lags(http, server)
        lived = await load(f"live {sockets / BEAT_EVERY_S} {CHURN_PER_S} {seconds}")
        after = await _lags(http, server)
    if lived["lost"] > CHURN_PER_S:
        raise RuntimeError(f"loop lag: {lived}")
    counts = [(bound, many - before[bound]) for bound, many in after.items()]
    total = counts[-1][1]
    return next(bound for bound, many in counts if many >= 0.99 * total) * 1000


async def _lags(http: httpx.AsyncClient, server: Server) -> dict[float, float]:
    text = (await http.get(f"{server.inner}/metrics")).text
    return {float(bound): float(many) for bound, many in LAG.findall(text)}


async def storm(server: Server, sockets: int) -> tuple[float, int]:
    """An instance is killed, its apps come to another: seconds until all are available, and Postgres statements."""
    async with another(server) as heir, httpx.AsyncClient() as http:
        async with server.sockets() as load:
            opened(await load(f"open {sockets} {CONNECTS_PER_S}"))
            for process in server.processes:
                process.kill()
        async with heir.sockets() as load, statements_of(server) as statements:
            began = time.monotonic()
            opened(await load(f"open {sockets} 2000"))
            while True:
                answer = (await http.get(f"{heir.inner}/api/internal/counts", headers=server.operator)).json()
                if answer["available"] >= sockets:
                    break
                if time.monotonic() - began > 60:
                    raise RuntimeError(f"storm: {answer}")
                await asyncio.sleep(0.05)
            took = time.monotonic() - began
    return took, statements.count

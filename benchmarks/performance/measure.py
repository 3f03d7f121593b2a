"""One measurement of one server each; all figures are of the server's process alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import httpx
import redis.asyncio as redis

from benchmarks.load import http
from benchmarks.performance.servers import Server

CONNECTS_PER_S = 1_500.0
WARM_S = 4.0
BEACON_CONNECTIONS = 32
FRAMES_PER_S = 5.0
"""What a socket may send (docs/protocol.md)."""
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: sockets of which half are there before those that count, beats a second, seconds."""

    sockets: int
    beats: int
    rate: float
    seconds: float

    def at_most(self, rate: float | None) -> Size:
        return self if rate is None else replace(self, rate=min(self.rate, rate))


FULL = Size(19_000, 18_000, 45_000.0, 8.0)
QUICK = Size(3_000, 3_000, 9_000.0, 4.0)


async def of_sockets(server: Server, size: Size) -> dict[str, float]:
    """Memory a socket, connects and beats a CPU-second, milliseconds until the answer.

    Raises `RuntimeError` where sockets or answers are lost.
    """
    async with server.sockets() as load:
        opened(await load(f"open {size.sockets // 2} {CONNECTS_PER_S}"))
        await load(f"beat {size.rate / 4} {WARM_S}")
        half, spent = server.rss, server.cpu_s
        opened(await load(f"open {size.sockets - size.sockets // 2} {CONNECTS_PER_S}"))
        connecting = server.cpu_s - spent
        await load(f"beat {size.rate / 4} {WARM_S}")
        whole = server.rss
        rate = min(size.rate, size.sockets * FRAMES_PER_S * 0.9)
        spent = server.cpu_s
        beaten = await load(f"beat {rate} {size.seconds}")
        spent = server.cpu_s - spent
        if beaten["lost"] or beaten["answered"] < beaten["sent"]:
            raise RuntimeError(f"beats: {beaten}")
        if server.records:
            await recorded(server, size.sockets)
    more = size.sockets - size.sockets // 2
    return {
        "kb_per_socket": (whole - half) / more / 1024,
        "connects_per_cpu_s": more / connecting,
        "beats_per_cpu_s": beaten["answered"] / spent,
        "beats_per_s": beaten["answered"] / beaten["seconds"],
        "beat_p50_ms": beaten["p50_ms"],
        "beat_p99_ms": beaten["p99_ms"],
        "load_cores": beaten["cpu_s"] / beaten["seconds"],
    }


def opened(answer: dict[str, object]) -> None:
    if answer["failed"]:
        raise RuntimeError(f"sockets: {answer}")


async def recorded(server: Server, sockets: int) -> None:
    """Every socket's beat is in Valkey, whatever the server keeps it as."""
    async with redis.Redis.from_url(server.valkey_url) as valkey, asyncio.timeout(20):
        while await valkey.dbsize() < sockets:
            await asyncio.sleep(SETTLE_S)


async def of_beacon(server: Server, seconds: float) -> dict[str, float]:
    """Answers a CPU-second: whole ones, and those to a client that has the present one."""
    path, found = "/api/beacon", {}
    async with httpx.AsyncClient() as client:
        etag = (await client.get(f"http://127.0.0.1:{server.port}{path}")).headers.get("etag")
    kinds = [("whole", "", "of_200"), ("not_modified", f"If-None-Match: {etag}", "of_304")]
    for name, header, of_that in kinds if etag else kinds[:1]:
        spent = server.cpu_s
        answer = await http(server.port, path, BEACON_CONNECTIONS, seconds, header)
        spent = server.cpu_s - spent
        if answer[of_that] < 0.5 * answer["answers"]:
            raise RuntimeError(f"beacon, {name}: {answer}")
        found[f"beacon_{name}_per_cpu_s"] = answer["answers"] / spent
        found[f"beacon_{name}_p99_ms"] = answer["p99_ms"]
    return found

"""One measurement of one server each; all figures are of the server's process alone."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from dataclasses import dataclass

import httpx
import redis.asyncio as redis

from benchmarks.load import Load, http
from benchmarks.performance.servers import Server

CONNECTS_PER_S = 1_500.0
WARM_S = 4.0
BEACON_CONNECTIONS = 32
FRAMES_PER_S = 5.0
"""What a socket may send (docs/protocol.md)."""
BUSY = 0.85
"""How much of its core a server is given to do; above, beats wait for each other and a figure is one of the queue."""
TELLINGS, TOLD_S = 5, 30.0
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Size:
    """Sockets, of which half are there before those that count; beats a second at most; seconds."""

    sockets: int
    rate: float
    seconds: float


FULL = Size(19_000, 45_000.0, 8.0)
QUICK = Size(3_000, 9_000.0, 4.0)


async def of_sockets(server: Server, size: Size) -> dict[str, float]:
    """Memory a socket, connects, beats and tellings a CPU-second, milliseconds until the answer and the last byte.

    Raises `RuntimeError` where sockets or answers are lost.
    """
    async with server.sockets() as load:
        opened(await load(f"open {size.sockets // 2} {CONNECTS_PER_S}"))
        await load(f"beat {size.rate / 4} {WARM_S}")
        half, spent = server.rss, server.cpu_s
        opened(await load(f"open {size.sockets - size.sockets // 2} {CONNECTS_PER_S}"))
        connecting = server.cpu_s - spent
        spent = server.cpu_s
        warm = await load(f"beat {size.rate / 4} {WARM_S}")
        whole, takes = server.rss, warm["answered"] / (server.cpu_s - spent)
        rate = min(size.rate, size.sockets * FRAMES_PER_S * 0.9, takes * BUSY)
        spent = server.cpu_s
        beaten = await load(f"beat {rate} {size.seconds}")
        spent = server.cpu_s - spent
        if beaten["lost"] or beaten["answered"] < beaten["sent"]:
            raise RuntimeError(f"beats: {beaten}")
        if server.records:
            await recorded(server, size.sockets)
        told = await tellings(server, load, size.sockets)
    more = size.sockets - size.sockets // 2
    return {
        "kb_per_socket": (whole - half) / more / 1024,
        "connects_per_cpu_s": more / connecting,
        "beats_per_cpu_s": beaten["answered"] / spent,
        "beats_per_s": beaten["answered"] / beaten["seconds"],
        "beat_p50_ms": beaten["p50_ms"],
        "beat_p99_ms": beaten["p99_ms"],
        "load_cores": beaten["cpu_s"] / beaten["seconds"],
        **told,
    }


async def of_fanout(server: Server, size: Size) -> dict[str, float]:
    """For a server that does nothing else."""
    async with server.sockets() as load:
        opened(await load(f"open {size.sockets} {CONNECTS_PER_S}"))
        await asyncio.sleep(SETTLE_S)  # it says nothing when a socket listens
        return await tellings(server, load, size.sockets)


async def tellings(server: Server, load: Load, sockets: int) -> dict[str, float]:
    """Messages to all that a CPU-second delivers; ms from asking for one to the last byte at the last socket."""
    took, spent = [], server.cpu_s
    for _ in range(TELLINGS):
        mark = uuid.uuid4().hex
        watching = asyncio.create_task(load(f"watch {mark} {sockets} {TOLD_S}"))
        asked = time.monotonic()
        await server.tell(mark)
        seen = await watching
        if seen["seen"] < sockets:
            raise RuntimeError(f"told: {seen}")
        took.append((seen["last_s"] - asked) * 1000)
    return {
        "told_per_cpu_s": TELLINGS * sockets / (server.cpu_s - spent),
        "told_last_ms": statistics.median(took),
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

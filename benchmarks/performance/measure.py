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
WARM_SHARE, WARMINGS = 0.25, 3
BEACON_CONNECTIONS = 32
SOCKET_BEATS_PER_S = 4.5
"""A socket may send 5 frames a second (docs/protocol.md)."""
BUSY = 0.85
"""How much of its core a server is given to do; above, beats wait for each other and a figure is one of the queue.
What it takes is found in steps: the more beats there are, the less each costs."""
TELLINGS, TOLD_S = 5, 20.0
RECORDED_S = 20.0
SETTLE_S, LOOK_S = 1.0, 0.05
BEAT_WITH_ID = '{"type":"ping","id":"ping-1"}'
"""As `hadir.client` sends them. Other servers are not asked for it: their answer has no `re`."""


@dataclass(frozen=True, slots=True)
class Size:
    """Sockets, of which half are there before those that count; beats a second at most; seconds."""

    sockets: int
    beats_per_s: float
    seconds: float
    beacon_s: float

    def rate(self, sockets: int, share: float = 1.0) -> float:
        """Beats a second: a share of all, and no more than so many sockets may send."""
        return min(self.beats_per_s * share, SOCKET_BEATS_PER_S * sockets)


FULL = Size(19_000, 70_000.0, 8.0, 4.0)
QUICK = Size(3_000, 9_000.0, 4.0, 4.0)


async def of_sockets(server: Server, size: Size) -> dict[str, float]:
    """Memory a socket; connects, beats and tellings a CPU-second; milliseconds until the answer and the last byte.

    Raises `RuntimeError` where sockets do not open, `TimeoutError` where beats do not reach Valkey.
    """
    half = size.sockets // 2
    more = size.sockets - half
    async with server.sockets() as load:
        opened(await load(f"open {half} {CONNECTS_PER_S}"))
        await load(f"beat {size.rate(half, WARM_SHARE)} {WARM_S}")
        before, spent = server.rss, server.cpu_s
        opened(await load(f"open {more} {CONNECTS_PER_S}"))
        connecting = server.cpu_s - spent
        rate = size.rate(size.sockets, WARM_SHARE)
        for _ in range(WARMINGS):
            spent = server.cpu_s
            warm = await load(f"beat {rate} {WARM_S}")
            rate = min(size.rate(size.sockets), BUSY * warm["answered"] / (server.cpu_s - spent))
        grown = server.rss - before
        beaten, spent = await beats(server, load, size, rate)
        with_ids = {}
        if server.database_url:  # a peer has none
            await load(f"ping {BEAT_WITH_ID}")
            answered, spent_so = await beats(server, load, size, rate)
            with_ids["beats_with_id_per_cpu_s"] = answered["answered"] / spent_so
        told = await tellings(server, load, size.sockets)
    return {
        "kb_per_socket": grown / more / 1024,
        "connects_per_cpu_s": more / connecting,
        "beats_per_cpu_s": beaten["answered"] / spent,
        "beats_per_s": beaten["answered"] / beaten["seconds"],
        "beats_answered_percent": 100 * beaten["answered"] / beaten["sent"],
        "beat_p99_ms": beaten["p99_ms"],
        "load_cores": beaten["cpu_s"] / beaten["seconds"],
        **with_ids,
        **told,
    }


async def of_fanout(server: Server, size: Size) -> dict[str, float]:
    """For a server that does nothing else."""
    async with server.sockets() as load:
        opened(await load(f"open {size.sockets} {CONNECTS_PER_S}"))
        await asyncio.sleep(SETTLE_S)  # it says nothing when a socket listens
        return await tellings(server, load, size.sockets)


async def tellings(server: Server, load: Load, sockets: int) -> dict[str, float]:
    """Messages to all that a CPU-second delivers; ms from asking for one to the last byte at the last socket.

    Raises `RuntimeError` where one does not reach every socket in time.
    """
    took, spent = [], server.cpu_s
    for _ in range(TELLINGS):
        mark, asked = uuid.uuid4().hex, time.monotonic()
        seen, _ = await asyncio.gather(load(f"watch {mark} {sockets} {TOLD_S}"), server.tell(mark))
        if seen["seen"] < sockets:
            raise RuntimeError(f"Of {sockets} sockets so many were told: {seen}")
        took.append((seen["last_s"] - asked) * 1000)
    return {
        "told_per_cpu_s": TELLINGS * sockets / (server.cpu_s - spent),
        "told_last_ms": statistics.median(took),
    }


def opened(answer: dict[str, object]) -> None:
    if answer["failed"]:
        raise RuntimeError(f"Sockets did not open: {answer}")


async def beats(server: Server, load: Load, size: Size, rate: float) -> tuple[dict[str, float], float]:
    """What the load says of beats, and the CPU seconds until those of all sockets are in Valkey.

    They have all been there before, so they are taken out first. Raises `TimeoutError`.
    """
    async with redis.Redis.from_url(server.valkey_url) as valkey, asyncio.timeout(size.seconds + RECORDED_S):
        if server.records:
            await asyncio.sleep(SETTLE_S)  # the last flush of those before is through
            for start in range(0, len(known := await _recorded(valkey)), 1_000):
                await valkey.unlink(*known[start : start + 1_000])
        spent = server.cpu_s
        beaten = await load(f"beat {rate} {size.seconds}")
        while server.records and len(await _recorded(valkey)) < min(size.sockets, beaten["answered"]):
            await asyncio.sleep(LOOK_S)
        return beaten, server.cpu_s - spent


async def _recorded(valkey: redis.Redis) -> list[bytes]:
    """The keys of all beats."""
    return list({key async for key in valkey.scan_iter("mitra:heartbeat:*", count=5_000)})


async def of_beacon(server: Server, size: Size) -> dict[str, float]:
    """Answers a CPU-second: whole ones, and those to a client that has the present one."""
    path, found = "/api/beacon", {}
    async with httpx.AsyncClient() as client:
        etag = (await client.get(f"http://127.0.0.1:{server.port}{path}")).headers.get("etag")
    kinds = [("whole", "", "of_200"), ("not_modified", f"If-None-Match: {etag}", "of_304")]
    for name, header, of_that in kinds if etag else kinds[:1]:
        spent = server.cpu_s
        answer = await http(server.port, path, BEACON_CONNECTIONS, size.beacon_s, header)
        spent = server.cpu_s - spent
        if answer[of_that] < 0.5 * answer["answers"]:  # a 304 becomes a whole answer when the present one is replaced
            raise RuntimeError(f"The beacon, {name}: {answer}")
        found[f"beacon_{name}_per_cpu_s"] = answer["answers"] / spent
        found[f"beacon_{name}_p99_ms"] = answer["p99_ms"]
    return found

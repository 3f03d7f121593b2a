"""What dashboards cost: 50 of them on a fleet of 20,000 mitras over two instances, with 500 status flips a second.

Real sockets, real stores, instances as processes of their own. The same load runs with and without dashboards in turn;
the difference in the CPU of both instances is theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import orjson
import uvloop
import websockets

from benchmarks.load import Load, build
from benchmarks.performance.servers import cpu_clock
from benchmarks.scene import Socket, accounts, masked, open_socket, serving, stores
from hadir.config import Config, load, raise_descriptor_limit
from hadir.dev.accounts import create_account
from hadir.dev.embedded import dies_with_parent, free_port
from hadir.http.auth import mint

INSTANCES = 2
FLIPPING = 500
"""Sockets of those that flip; the others only beat."""
OPENS_PER_S = 1_000.0
HOST = "127.0.0.1"
FLIP_TICK_S = 0.01
READY_S = 30.0
SETTLE_S = 3.0
"""From the opening of dashboards, or their end, until what is counted begins."""
STATUS = {online: masked(1, f'{{"type":"status","online":{str(online).lower()}}}'.encode()) for online in (True, False)}


@dataclass
class Instance:
    pid: int
    port: int
    inner_port: int

    @property
    def cpu_s(self) -> float:
        return time.clock_gettime(cpu_clock(self.pid))


@dataclass
class Page:
    """What one dashboard was told in a time: kind and bytes of each frame; changes, listed or counted."""

    frames: list[tuple[str, int]] = field(default_factory=list)
    changes: int = 0

    async def read(self, socket: websockets.ClientConnection) -> None:
        async for text in socket:
            message = orjson.loads(text)
            self.frames.append((message["type"], len(text)))
            if message["type"] == "presence":
                self.changes += len(message["changes"]) + message["more"]


async def flip(sockets: Sequence[Socket], per_s: float, flips: list[int]) -> None:
    """For ever: one socket after the other, evenly; `flips` counts them."""
    started = time.monotonic()
    while True:
        due = int((time.monotonic() - started) * per_s)
        for n in range(flips[0], due):
            turn, which = divmod(n, len(sockets))
            if sockets[which].lost:
                raise RuntimeError("a mitra lost its socket")
            sockets[which].transport.write(STATUS[turn % 2 == 1])
        flips[0] = due
        await asyncio.sleep(FLIP_TICK_S)


async def started(environment: dict[str, str], stack: AsyncExitStack) -> Instance:
    port = free_port(2)
    own = environment | {"PORT": str(port), "INTERNAL_PORT": str(port + 1)}
    pid = await stack.enter_async_context(serving(own, dies_with_parent(), asyncio.subprocess.DEVNULL))
    deadline = time.monotonic() + READY_S
    async with httpx.AsyncClient() as http:
        while True:
            try:
                if (await http.get(f"http://{HOST}:{port}/ready")).status_code == httpx.codes.OK:
                    return Instance(pid, port, port + 1)
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise RuntimeError("an instance did not become ready")
            await asyncio.sleep(0.1)


async def beat(generator: Load, per_s: float) -> None:
    """For ever."""
    while True:
        await generator(f"live {per_s} 0 60")


async def open_fleet(
    instances: Sequence[Instance], tokens: list[str], folder: Path, config: Config, stack: AsyncExitStack
) -> list[Socket]:
    """All mitras connect: most at load generators, which have them beat by the clock; answers those that flip."""
    share, flipping = len(tokens) // len(instances), FLIPPING // len(instances)
    found: list[Socket] = []
    for n, instance in enumerate(instances):
        mine = tokens[n * share : (n + 1) * share]
        file = folder / f"tokens-{n}"
        file.write_text("".join(f"{token}\n" for token in mine[flipping:]))
        generator = await stack.enter_async_context(Load(instance.port, file))
        opened = await generator(f"open {share - flipping} {OPENS_PER_S}")
        if opened["failed"]:
            raise RuntimeError(f"sockets did not open: {opened}")
        beating = beat(generator, (share - flipping) / config.heartbeat_interval_s)
        stack.callback(asyncio.create_task(beating).cancel)
        found += [await open_socket(HOST, instance.port, token, Socket) for token in mine[:flipping]]
    return found


async def tokens_of_viewers(url: str, config: Config, count: int) -> list[str]:
    connection = await asyncpg.connect(url)
    found = []
    for n in range(count):
        subject = f"{n:08x}-0000-4000-8000-000000000000"
        found.append(mint(config, "viewer", subject, await create_account(connection, "viewer", subject), 86_400))
    await connection.close()
    return found


async def measured(instances: Sequence[Instance], viewers: Sequence[str], seconds: float) -> tuple[float, list[Page]]:
    """Cores that both instances take while these look on, and what each was told meanwhile."""
    async with AsyncExitStack() as stack:
        pages = [Page() for _ in viewers]
        for n, (token, page) in enumerate(zip(viewers, pages, strict=True)):
            url = f"ws://{HOST}:{instances[n % len(instances)].inner_port}/ws/dashboard"
            headers = {"Authorization": f"Bearer {token}"}
            socket = await stack.enter_async_context(
                websockets.connect(url, additional_headers=headers, compression=None, ping_interval=None)
            )
            await socket.recv()
            stack.callback(asyncio.create_task(page.read(socket)).cancel)
        await asyncio.sleep(SETTLE_S)
        for page in pages:
            page.frames.clear()
            page.changes = 0
        began, spent = time.monotonic(), sum(each.cpu_s for each in instances)
        await asyncio.sleep(seconds)
        cores = (sum(each.cpu_s for each in instances) - spent) / (time.monotonic() - began)
        return cores, [Page(list(page.frames), page.changes) for page in pages]


async def main(asked: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        postgres, valkey = await stack.enter_async_context(stores())
        environment = {
            "DATABASE_URL": postgres.url,
            "VALKEY_URL": valkey.url,
            "AUTH_JWT_SECRET": secrets.token_hex(32),
            "HOST": HOST,
            "LOG_LEVEL": "warning",
            "CONNECT_RATE_PER_SECOND": "10000",
            "DRAIN_SECONDS": "0",
        }
        config = load(environment)
        instances = [await started(environment, stack) for _ in range(INSTANCES)]
        tokens = await accounts(postgres.url, config, asked.mitras)
        flippers = await open_fleet(instances, tokens, valkey.data_dir, config, stack)
        viewers = await tokens_of_viewers(postgres.url, config, asked.dashboards)
        flips = [0]
        flipping = asyncio.create_task(flip(flippers, asked.flips, flips))
        stack.callback(flipping.cancel)
        await asyncio.sleep(SETTLE_S)
        costs, told = [], list[Page]()
        began, flipped = time.monotonic(), flips[0]
        for n in range(asked.pairs):
            without, _ = await measured(instances, [], asked.seconds)
            with_them, pages = await measured(instances, viewers, asked.seconds)
            told += pages
            costs.append(100 * (with_them - without))
            print(f"{n + 1}: {100 * without:.1f} % of a core without, {100 * with_them:.1f} % with them", flush=True)
            if flipping.done():
                flipping.result()
        rate = (flips[0] - flipped) / (time.monotonic() - began)
    rates = [len(page.frames) / asked.seconds for page in told]
    print(
        f"{asked.dashboards} dashboards, {asked.mitras:,} mitras over {INSTANCES} instances, {rate:.0f} flips a second"
    )
    changes = statistics.mean(page.changes / asked.seconds for page in told)
    print(f"a second and page: {statistics.mean(rates):.2f} frames, at most {max(rates):.2f}; {changes:.0f} changes")
    for kind in ("counts", "presence"):
        sizes = sorted(size / 1024 for page in told for name, size in page.frames if name == kind)
        print(f"{len(sizes)} frames of {kind}, KB: p50 {statistics.median(sizes):.1f}, max {sizes[-1]:.1f}")
    every = ", ".join(f"{cost:.1f}" for cost in sorted(costs))
    print(f"CPU of all of them: {statistics.median(costs):.1f} % of a core, the median of {every}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(prog="hadir bench dashboards", description=__doc__)
    arguments.add_argument("--mitras", type=int, default=20_000)
    arguments.add_argument("--dashboards", type=int, default=50)
    arguments.add_argument("--flips", type=float, default=500.0, help="a second")
    arguments.add_argument("--seconds", type=float, default=15.0, help="of one measurement")
    arguments.add_argument("--pairs", type=int, default=7, help="of a measurement without and one with dashboards")
    raise_descriptor_limit()
    build()
    uvloop.run(main(arguments.parse_args()))

"""What dashboards cost: 50 of them on a fleet of 20,000 mitras over two instances, with 500 status flips a second.

Real sockets, real stores with pairings and sessions of the last minutes, instances as processes of their own. The same
load runs with and without dashboards in turn; the difference in the CPU of both instances is theirs, and so is that of
the stores. Fails where a page is told more than it may be, or they cost more than they may.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
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
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey, dies_with_parent, free_port
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
ACCEPTED = 5_000
"""Pairings with their sessions, accepted within the last ten minutes."""
FRAMES_MAX, COST_MAX = 2, 5.0
"""Of one page in a second; of all of them, in percent of a core of the instances."""
JITTER_S = 0.1
"""A frame may come here so much later than the one before it did: so much less than a second is a second."""
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
    """What one dashboard was told since its opening, `hello` first: when, kind and bytes of each frame; changes."""

    frames: list[tuple[float, str, int]] = field(default_factory=list)
    changes: int = 0

    async def read(self, socket: websockets.ClientConnection) -> None:
        async for text in socket:
            at, message = time.monotonic(), orjson.loads(text)
            self.frames.append((at, message["type"], len(text)))
            if message["type"] == "presence":
                self.changes += len(message["changes"]) + message["more"]

    @property
    def rate(self) -> float:
        """Frames a second, the first not counted."""
        return (len(self.frames) - 1) / (self.frames[-1][0] - self.frames[0][0])

    @property
    def worst(self) -> int:
        """Frames in the fullest second."""
        times = [at for at, _, _ in self.frames]
        return max(sum(begin <= at < begin + 1 - JITTER_S for at in times) for begin in times)


@dataclass
class Stores:
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    def cpu_s(self) -> dict[int, float]:
        """Of each of their processes."""
        pids = [pid for server in (self.postgres, self.valkey) for pid in server._family()]
        found = {}
        for pid in pids:
            with suppress(OSError):  # it has ended meanwhile
                found[pid] = time.clock_gettime(cpu_clock(pid))
        return found

    async def committed(self) -> int:
        """How many changes of mitras there were: each leaves a line."""
        connection = await asyncpg.connect(self.postgres.url)
        found: int = await connection.fetchval("SELECT count(*) FROM presence_log")
        await connection.close()
        return found


@dataclass
class Measured:
    """Cores that instances and stores took, and what each page was told."""

    cores: float
    stores: float
    pages: list[Page]


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


async def seed_market(url: str, count: int) -> None:
    """So many pairings that were accepted, with their sessions, which are over."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS pairing, gen_random_uuid() AS customer, "
        f"gen_random_uuid() AS session, now() - n * interval '600 s' / {count} AS at, "
        f"(SELECT id FROM mitras LIMIT 1) AS mitra FROM generate_series(1, {count}) AS n"
    )
    await connection.execute("INSERT INTO customers (id) SELECT customer FROM made")
    await connection.execute(
        "INSERT INTO chat_sessions (id, customer_id, mitra_id, status, ended_at) "
        "SELECT session, customer, mitra, 'ended', at FROM made"
    )
    await connection.execute(
        "INSERT INTO pairings (id, customer_id, session_id, mitra_id, status, next_wave_at, created_at, decided_at, "
        "expires_at) SELECT pairing, customer, session, mitra, 'accepted', NULL, at - random() * interval '20 s', at, "
        "at FROM made"
    )
    await connection.execute("ANALYZE pairings, chat_sessions")
    await connection.close()


async def measured(instances: Sequence[Instance], both: Stores, viewers: Sequence[str], seconds: float) -> Measured:
    """With these looking on."""
    async with AsyncExitStack() as stack:
        pages = [Page() for _ in viewers]
        for n, (token, page) in enumerate(zip(viewers, pages, strict=True)):
            url = f"ws://{HOST}:{instances[n % len(instances)].inner_port}/ws/dashboard"
            headers = {"Authorization": f"Bearer {token}"}
            socket = await stack.enter_async_context(
                websockets.connect(url, additional_headers=headers, compression=None, ping_interval=None)
            )
            stack.callback(asyncio.create_task(page.read(socket)).cancel)
        await asyncio.sleep(SETTLE_S)
        began, spent, theirs = time.monotonic(), sum(each.cpu_s for each in instances), both.cpu_s()
        for page in pages:
            page.changes = 0
        await asyncio.sleep(seconds)
        lasted = time.monotonic() - began
        cores = (sum(each.cpu_s for each in instances) - spent) / lasted
        stores_s = sum(now - theirs.get(pid, 0.0) for pid, now in both.cpu_s().items())
        return Measured(cores, stores_s / lasted, [Page(list(page.frames), page.changes) for page in pages])


async def main(asked: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        both = Stores(*await stack.enter_async_context(stores()))
        environment = {
            "DATABASE_URL": both.postgres.url,
            "VALKEY_URL": both.valkey.url,
            "AUTH_JWT_SECRET": secrets.token_hex(32),
            "HOST": HOST,
            "LOG_LEVEL": "warning",
            "CONNECT_RATE_PER_SECOND": "10000",
            "DRAIN_SECONDS": "0",
        }
        config = load(environment)
        instances = [await started(environment, stack) for _ in range(INSTANCES)]
        tokens = await accounts(both.postgres.url, config, asked.mitras)
        flippers = await open_fleet(instances, tokens, both.valkey.data_dir, config, stack)
        viewers = await tokens_of_viewers(both.postgres.url, config, asked.dashboards)
        await seed_market(both.postgres.url, ACCEPTED)
        flipping = asyncio.create_task(flip(flippers, asked.flips, [0]))
        stack.callback(flipping.cancel)
        await asyncio.sleep(SETTLE_S)
        runs = list[tuple[Measured, Measured]]()
        began, changed = time.monotonic(), await both.committed()
        for n in range(asked.pairs):
            without = await measured(instances, both, [], asked.seconds)
            with_them = await measured(instances, both, viewers, asked.seconds)
            runs.append((without, with_them))
            says = [f"{100 * each.cores:.1f} % of a core (stores {100 * each.stores:.1f} %)" for each in runs[-1]]
            print(f"{n + 1}: {says[0]} without, {says[1]} with them", flush=True)
            if flipping.done():
                flipping.result()
        rate = (await both.committed() - changed) / (time.monotonic() - began)
    print(f"{asked.dashboards} dashboards, {asked.mitras:,} mitras over {INSTANCES} instances, {ACCEPTED:,} pairings")
    print(f"{rate:.0f} changes of mitras committed a second")
    judge(runs, asked.seconds)


def judge(runs: Sequence[tuple[Measured, Measured]], seconds: float) -> None:
    """Says what was measured; exits with 1 where it is more than it may be."""
    told = [page for _, with_them in runs for page in with_them.pages]
    worst = max(page.worst for page in told)
    changes = statistics.mean(page.changes / seconds for page in told)
    rates = [page.rate for page in told]
    print(
        f"a second and page: {statistics.mean(rates):.2f} frames, {max(rates):.2f} of the fastest, {worst} in the "
        f"fullest second since its opening, hello included; {changes:.0f} changes"
    )
    for kind in ("hello", "counts", "presence"):
        sizes = sorted(size / 1024 for page in told for _, name, size in page.frames if name == kind)
        print(f"{len(sizes)} frames of {kind}, KB: p50 {statistics.median(sizes):.1f}, max {sizes[-1]:.1f}")
    costs = sorted(100 * (with_them.cores - without.cores) for without, with_them in runs)
    theirs = sorted(100 * (with_them.stores - without.stores) for without, with_them in runs)
    cost = statistics.median(costs)
    every = ", ".join(f"{each:.1f}" for each in costs)
    print(f"CPU of all of them: {cost:.1f} % of a core of the instances, the median of {every}")
    every = ", ".join(f"{each:.1f}" for each in theirs)
    print(f"and {statistics.median(theirs):.1f} % of a core of the stores, the median of {every}")
    if worst > FRAMES_MAX or cost > COST_MAX:
        sys.exit(f"Too much: {FRAMES_MAX} frames a second and page and {COST_MAX:.0f} % of a core are the limits.")


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

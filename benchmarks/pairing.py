"""How soon a pairing is offered and answered: 1,000 mitras on two instances, waves of 1,000.

    python -m benchmarks.pairing --mitras 1000 --tries 100

Each try: a customer's POST on one instance, until the last mitra's `offer` on either; then one mitra accepts, until the
customer's waiting `GET …?wait=` on the other instance has its answer, and until the winner has its own. Real stores,
instances as processes of their own; the clients are bare asyncio protocols in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import statistics
import time
import uuid
from contextlib import AsyncExitStack
from typing import Any

import httpx
import uvloop

from benchmarks.scene import PING, Socket, accounts, instance, masked, open_socket, stores
from hadir.config import load
from hadir.db.pool import Postgres
from hadir.dev.accounts import create_account
from hadir.http.auth import mint

CONNECTS_AT_ONCE = 50
BEAT_S = 20.0
OFFERS_S = 10.0
MEASURED = (
    "POST to the last offer",
    "accept to the customer's answer, on the other instance",
    "accept to the winner's answer",
)


class Offers:
    """Counts a wave's offers, and says when the last one came."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.left = wanted
        self.last = 0.0
        self.all = asyncio.Event()

    def begin(self) -> None:
        self.left = self.wanted
        self.all.clear()

    def came(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.last = time.monotonic()
            self.all.set()


class Mitra(Socket):
    """Notes its offers and the answer to its accept."""

    def listen(self, offers: Offers) -> None:
        self.offers = offers
        self.answered: asyncio.Future[float] | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if b'"type":"offer"' in data:
            self.offers.came()
        if b'"type":"offer.result"' in data and self.answered is not None and not self.answered.done():
            assert b'"won"' in data, data
            self.answered.set_result(time.monotonic())

    def accept(self, pairing_id: str) -> asyncio.Future[float]:
        frame = json.dumps({"type": "offer.accept", "pairing_id": pairing_id}).encode()
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(masked(1, frame))
        return self.answered


async def measure(count: int, tries: int, frozen: bool) -> int:
    async with AsyncExitStack() as stack:
        postgres, valkey = await stack.enter_async_context(stores())
        environment = {
            "DATABASE_URL": postgres.url,
            "VALKEY_URL": valkey.url,
            "AUTH_JWT_SECRET": secrets.token_hex(32),
            "HOST": "127.0.0.1",
            "PAIRING_WAVE_SIZE": str(count),
            "DRAIN_SECONDS": "0",
        }
        config = load(environment)
        first, second = await instance(environment, stack), await instance(environment, stack)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        urls = [f"http://127.0.0.1:{each['PORT']}" for each in (first, second)]
        for url in urls:
            await ready(http, url)
        offers = Offers(count)
        mitras = await connect_all(
            await accounts(postgres.url, config, count), [int(each["PORT"]) for each in (first, second)], offers
        )
        beating = asyncio.create_task(beat(mitras))
        customers = await tokens_of(config, tries)
        await settled(http, urls[0], count)
        print(f"{count} mitras on two instances, {tries} tries, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        if frozen:
            valkey.freeze()
        tried = [await one_try(http, urls, token, mitras, offers) for token in customers]
        valkey.thaw()
        beating.cancel()
        for n, name in enumerate(MEASURED):
            print(f"{name}: {summary([times[n] for times in tried])}")
        for mitra in mitras:
            mitra.transport.abort()
    return 0


async def one_try(
    http: httpx.AsyncClient, urls: list[str], token: str, mitras: list[Mitra], offers: Offers
) -> tuple[float, float, float]:
    bearer = {"Authorization": f"Bearer {token}"}
    offers.begin()
    began = time.monotonic()
    answer = await http.post(
        f"{urls[0]}/api/pairings", headers=bearer | {"Idempotency-Key": uuid.uuid4().hex}, json={"note": "…"}
    )
    pairing = answer.json()
    async with asyncio.timeout(OFFERS_S):
        await offers.all.wait()
    offered = offers.last - began
    waiting = asyncio.create_task(http.get(f"{urls[1]}/api/pairings/{pairing['id']}?wait=25", headers=bearer))
    await asyncio.sleep(0.3)  # it waits by then
    winner = random.choice(mitras)
    began = time.monotonic()
    won = await winner.accept(pairing["id"]) - began
    told = (await waiting).json()
    answered = time.monotonic() - began
    assert told["status"] == "accepted", told
    await http.post(f"{urls[0]}/api/sessions/{told['session_id']}/end", headers=bearer)
    await asyncio.sleep(0.3)  # everybody is in the queue again
    return offered, answered, won


async def connect_all(tokens: list[str], ports: list[int], offers: Offers) -> list[Mitra]:
    mitras: list[Mitra] = []
    for start in range(0, len(tokens), CONNECTS_AT_ONCE):
        mitras += await asyncio.gather(
            *(
                open_socket("127.0.0.1", ports[n % len(ports)], token, Mitra)
                for n, token in enumerate(tokens[start : start + CONNECTS_AT_ONCE])
            )
        )
    for mitra in mitras:
        mitra.listen(offers)
    return mitras


async def beat(mitras: list[Mitra]) -> None:
    while True:
        for mitra in mitras:
            mitra.transport.write(masked(1, PING))
            await asyncio.sleep(BEAT_S / len(mitras))


async def tokens_of(config: Any, count: int) -> list[str]:
    tokens = []
    async with Postgres(config.database_url) as postgres:
        while not postgres.available:
            await asyncio.sleep(0.01)
        async with postgres.acquire() as connection:
            for _ in range(count):
                sub = str(uuid.uuid4())
                tokens.append(mint(config, "customer", sub, await create_account(connection, "customer", sub), 3600))
    return tokens


async def ready(http: httpx.AsyncClient, url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"{url}/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def settled(http: httpx.AsyncClient, url: str, count: int) -> None:
    async with asyncio.timeout(60):
        while (await http.get(f"{url}/api/beacon")).json()["available"] != count:
            await asyncio.sleep(0.5)


def summary(series: list[float]) -> str:
    ordered = sorted(series)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return f"median {statistics.median(series) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, max {ordered[-1] * 1000:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--mitras", type=int, default=1000)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--frozen", action="store_true", help="Valkey is frozen before the first try")
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise SystemExit(runner.run(measure(chosen.mitras, chosen.tries, chosen.frozen)))


if __name__ == "__main__":
    main()

"""How soon a dashboard hears: a mitra connects on one instance, a dashboard on another gets its `presence` frame.

Two instances as processes of their own, real stores, a quiet fleet; each try waits until the dashboard was quiet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

import uvloop
import websockets

from benchmarks.scene import instance, stores
from hadir.config import Config, load
from hadir.db.pool import Postgres
from hadir.dev.accounts import create_account
from hadir.http.auth import mint

QUIET_S = 0.7
"""Longer than the half second after which a change goes out at once."""
READY_S = 20.0


async def connected(url: str, token: str, *, within: float = READY_S) -> Any:
    """A socket that has said hello; tries until the instance is ready."""
    deadline = time.monotonic() + within
    while True:
        try:
            socket = await websockets.connect(
                url, additional_headers={"Authorization": f"Bearer {token}"}, compression=None, ping_interval=None
            )
        except (OSError, websockets.InvalidStatus):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            await socket.recv()
            return socket


async def tries(config: Config, first: dict[str, str], second: dict[str, str], count: int) -> list[float]:
    """Seconds from the start of each handshake to the dashboard's frame."""
    postgres = Postgres(config.database_url)
    delays = []
    async with postgres:
        while not postgres.available:
            await asyncio.sleep(0.05)

        async def token(role: str, subject: str) -> str:
            async with postgres.acquire() as connection:
                return mint(config, role, subject, await create_account(connection, role, subject), 3600)

        ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(count + 1)]
        view = await connected(f"ws://127.0.0.1:{second['INTERNAL_PORT']}/ws/dashboard", await token("viewer", ids[-1]))
        for mitra_id in ids[:-1]:
            bearer = await token("mitra", mitra_id)
            while True:  # until it is quiet
                try:
                    async with asyncio.timeout(QUIET_S):
                        await view.recv()
                except TimeoutError:
                    break
            await view.send('{"type":"ping"}')
            await view.recv()
            started = time.monotonic()
            phone = await connected(f"ws://127.0.0.1:{first['PORT']}/ws/mitra", bearer)
            while True:
                message = json.loads(await view.recv())
                changes = message.get("changes", ())
                if any(each["mitra_id"] == mitra_id and each["state"] == "online" for each in changes):
                    break
            delays.append(time.monotonic() - started)
            await phone.close(1000)
        await view.close()
    return delays


async def main(count: int) -> None:
    async with AsyncExitStack() as stack:
        postgres, valkey = await stack.enter_async_context(stores())
        environment = {"DATABASE_URL": postgres.url, "VALKEY_URL": valkey.url, "AUTH_JWT_SECRET": secrets.token_hex(32)}
        environment["DRAIN_SECONDS"] = "0"
        first, second = await instance(environment, stack), await instance(environment, stack)
        delays = sorted(await tries(load(first), first, second, count))
    ms = [delay * 1000 for delay in delays]
    print(
        f"{len(ms)} connects on one instance until the presence frame on a dashboard of another, ms: "
        f"median {statistics.median(ms):.1f}, p95 {ms[int(len(ms) * 0.95)]:.1f}, max {ms[-1]:.1f}"
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tries", type=int, default=200)
    uvloop.run(main(arguments.parse_args().tries))

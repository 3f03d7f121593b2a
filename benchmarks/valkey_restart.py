"""Many sockets through a restart of Valkey: who is disconnected, and how soon the mirror is whole again.

    python -m benchmarks.valkey_restart --sockets 10000

Two instances as processes of their own, real stores. Valkey is killed, stays away, and comes back empty; whole means:
every instance's beacon is `live` and right, and `hadir verify` finds nothing that differs.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import orjson
import uvloop

from benchmarks.document import RELIABILITY, made, write
from benchmarks.outage import Asker, connected, ready
from benchmarks.scene import accounts, beat_for, instance, stores
from hadir.config import load, raise_descriptor_limit
from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.verify import Verifier, opened

PROMISED_S = 5.0
WITHIN_S = 60.0
BEACON_S = 0.2
"""How long an answer of the beacon is valid: the figure is no finer than that."""


async def right(askers: Sequence[Asker], live: int) -> float:
    """Waits until every beacon says so, counted in the mirror; answers the seconds that took."""
    began = time.monotonic()
    async with asyncio.timeout(WITHIN_S):
        for asker in askers:
            while True:
                answer = orjson.loads((await asker.ask())[1])
                if (answer["state"], answer["available"], answer["online"]) == ("live", live, live):
                    break
                await asyncio.sleep(0.05)
    return time.monotonic() - began


async def rebuilding(askers: Sequence[Asker]) -> None:
    async with asyncio.timeout(WITHIN_S):
        for asker in askers:
            while orjson.loads((await asker.ask())[1])["state"] != "rebuilding":
                await asyncio.sleep(0.05)


async def restart(
    valkey: EmbeddedValkey, askers: Sequence[Asker], verifier: Verifier, live: int, away_s: float
) -> tuple[float, str]:
    """Kills Valkey and starts it again; seconds until the mirror is right, and all of it as a sentence."""
    valkey.kill()
    killed = time.monotonic()
    await rebuilding(askers)
    await asyncio.sleep(max(0.0, killed + away_s - time.monotonic()))
    away_s = time.monotonic() - killed
    await valkey.start()
    took_s = await right(askers, live)
    began = time.monotonic()
    report = await verifier.compare()
    checked_s = time.monotonic() - began
    wrong = len(report.differences) + len(report.silent)
    return took_s if not wrong else WITHIN_S, (
        f"away for {away_s:.1f} s; whole {took_s:.2f} s after its return; "
        f"verify, in the {checked_s:.1f} s after that: {report.rows} rows, {wrong} differences"
    )


async def main(count: int, interval_s: float, away_s: float, times: int, keep: bool) -> int:
    raise_descriptor_limit()
    async with AsyncExitStack() as stack:
        postgres, valkey = await stack.enter_async_context(stores())
        environment = {
            "DATABASE_URL": postgres.url,
            "VALKEY_URL": valkey.url,
            "AUTH_JWT_SECRET": secrets.token_hex(32),
            "MITRA_HEARTBEAT_INTERVAL_SECONDS": f"{interval_s:g}",
            "BEACON_CACHE_SECONDS": f"{BEACON_S:g}",
            "DRAIN_SECONDS": "0",
        }
        instances = [await instance(environment, stack) for _ in range(2)]
        config = load(instances[0])
        ports = [int(each["PORT"]) for each in instances]
        askers = [Asker(port) for port in ports]
        for asker in askers:
            stack.callback(asker.close)
            await ready(asker)
        began = time.monotonic()
        sockets = await connected(ports, await accounts(postgres.url, config, count))
        print(f"{count} sockets in {time.monotonic() - began:.0f} s", flush=True)
        verifier, _ = await stack.enter_async_context(opened(config))
        beating = asyncio.create_task(beat_for(sockets, interval_s, 1e9))
        worst_s, told = 0.0, []
        try:
            await right(askers, count)
            for _ in range(times):
                took_s, sentence = await restart(valkey, askers, verifier, count, away_s)
                worst_s = max(worst_s, took_s)
                told.append(f"- {sentence}")
                print(sentence, flush=True)
        finally:
            beating.cancel()
            await asyncio.wait([beating])
        lost = sum(socket.lost for socket in sockets)
        told.append(f"- disconnected: {lost} of {count}")
        print(told[-1])
        if keep:
            about = f"{count} sockets at two instances, a beat every {interval_s:g} s. {made()}"
            write(RELIABILITY, "restart of Valkey", about + "\n\n" + "\n".join(told))
        for socket in sockets:
            socket.transport.abort()
    return int(lost > 0 or worst_s > PROMISED_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=20.0, help="seconds between a socket's beats")
    parser.add_argument("--away", type=float, default=5.0, help="seconds that Valkey stays away")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the figures into docs/reliability.md")
    asked = parser.parse_args()
    sys.exit(uvloop.run(main(asked.sockets, asked.interval, asked.away, asked.times, asked.write)))

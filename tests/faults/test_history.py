"""Everything that people were told while stores and instances failed, held against the rows that there are in the end.

`HADIR_TEST_HISTORY=120` simulates for two minutes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from hadir.db.pool import connect
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from hadir.dev.history import History, Rows, inconsistencies
from hadir.dev.simulation import Simulation
from tests.faults.test_one_winner import broken_rules
from tests.support import eventually
from tests.support.system import FAST, Process, System

SECONDS = float(os.environ.get("HADIR_TEST_HISTORY", "20"))
MITRAS, CUSTOMERS = 40, 25
PACE, CHURN = 8.0, 6.0
SETTINGS = {
    **FAST,
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "2",
    "MITRA_HEARTBEAT_STALE_SECONDS": "8",
    "MITRA_OFFLINE_GRACE_SECONDS": "4",
    "PAIRING_TIMEOUT_SECONDS": "6",
    "PAIRING_WAVE_SIZE": "8",
    "PAIRING_WAVE_SECONDS": "1",
    "PAYMENT_TIMEOUT_SECONDS": "4",
    "SESSION_SECONDS": "6",
    "XENDIT_CALLBACK_TOKEN": "a-token-of-the-tests",
}
BETWEEN_FAULTS_S = 1.5
Fault = Callable[[], Awaitable[None]]


async def test_nobody_was_told_what_the_rows_contradict(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with System(own_postgres.url, valkey.url, SETTINGS) as system:
        instances = [await system.process(tmp_path / f"{n}.log") for n in range(3)]
        history = History()
        config = system.config()
        urls = [each.served.url for each in instances]
        async with Simulation(config, urls, MITRAS, CUSTOMERS, CHURN, history=history, pace=PACE):
            faults = await disturb(system, own_postgres, valkey, instances, SECONDS)
            await asyncio.gather(*(is_well(system, each) for each in instances))
        if system.sql.is_closed():
            system.sql = await connect(system.database_url, pooler="none")
        told = history.events()
        assert inconsistencies(told, await rows_of(system)) == []
        assert await broken_rules(system) == []
        won = await system.sql.fetchval("SELECT count(*) FROM pairings WHERE status = 'accepted'")
        print(f"{len(told)} things told, {won} pairings won, {faults} faults")
        assert (won > SECONDS / 4, len(told) > 20 * SECONDS) == (True, True), "it was too quiet to prove anything"
        no_crash(tmp_path)


async def disturb(
    system: System,
    postgres: EmbeddedPostgres,
    valkey: EmbeddedValkey,
    instances: list[Process],
    seconds: float,
) -> int:
    """One fault after the other, in turn, each mended before the next; answers how many."""

    async def kill(instance: Process) -> None:
        await instance.kill()
        await instance.start(system.http)

    async def freeze(instance: Process) -> None:
        instance.freeze()
        await asyncio.sleep(BETWEEN_FAULTS_S)
        instance.thaw()

    async def drain(instance: Process) -> None:
        instance.signal(signal.SIGTERM)
        await instance.stopped()
        await instance.start(system.http)

    async def hang_valkey() -> None:
        valkey.freeze()
        await asyncio.sleep(BETWEEN_FAULTS_S)
        valkey.thaw()

    async def wipe_valkey() -> None:
        await system.valkey.connection_pool.disconnect()  # its server may be another one by now
        await system.valkey.flushall()

    async def restart_valkey() -> None:
        await valkey.restart()

    async def restart_postgres() -> None:
        await postgres.restart()

    faults: list[Fault] = [
        lambda: kill(instances[0]),
        wipe_valkey,
        lambda: freeze(instances[1]),
        restart_postgres,
        hang_valkey,
        lambda: drain(instances[2]),
        restart_valkey,
        lambda: kill(instances[1]),
    ]
    until = asyncio.get_running_loop().time() + seconds
    turn = 0
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(BETWEEN_FAULTS_S)  # of ordinary life, which the faults are to meet
        await faults[turn % len(faults)]()
        turn += 1
    return turn


async def is_well(system: System, instance: Process) -> None:
    async def ready() -> bool:
        return bool((await system.http.get(f"{instance.served.url}/ready")).json() == {"state": "ready"})

    await eventually(ready, 20)


async def rows_of(system: System) -> Rows:
    tables = ("pairings", "pairing_offers", "chat_sessions", "chat_messages")
    return Rows(*[[dict(row) for row in await system.sql.fetch(f"SELECT * FROM {table}")] for table in tables])


def no_crash(logs: Path) -> None:
    crashed = [line for log in logs.glob("*.log") for line in log.read_text().splitlines() if "crashed" in line]
    assert crashed == []

"""Everything that people were told while stores and instances failed, held against the rows that there are in the end.

`HADIR_TEST_HISTORY=120` simulates for two minutes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from hadir.dev.history import History, Rows, inconsistencies
from hadir.dev.simulation import Simulation
from tests.faults.fleet import Fleet, Member
from tests.faults.proxy import Proxy
from tests.faults.test_one_winner import broken_rules
from tests.support.system import FAST, System

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
    async with (
        System(own_postgres.url, valkey.url, SETTINGS) as system,
        Fleet(system, own_postgres, valkey, 3, tmp_path) as fleet,
    ):
        history = History()
        config = system.config()
        urls = [served.url for served in fleet.served]
        async with Simulation(config, urls, MITRAS, CUSTOMERS, CHURN, history=history, pace=PACE):
            faults = await disturb(fleet, SECONDS)
            await asyncio.gather(*(member.well() for member in fleet.members))
        await fleet.connected_again()
        await system.no_drift()
        told = history.events()
        assert inconsistencies(told, await rows_of(system)) == []
        assert await broken_rules(system) == []
        won = await system.sql.fetchval("SELECT count(*) FROM pairings WHERE status = 'accepted'")
        print(f"{len(told)} things told, {won} pairings won, {faults} faults")
        assert (won > SECONDS / 4, len(told) > 20 * SECONDS) == (True, True), "it was too quiet to prove anything"
        no_crash(tmp_path)


async def disturb(fleet: Fleet, seconds: float) -> int:
    """One fault after the other, in turn, each mended before the next; answers how many."""
    first, second, third = fleet.members

    async def kill(member: Member) -> None:
        await member.kill()
        await member.start()

    async def freeze(member: Member) -> None:
        with member.frozen():
            await asyncio.sleep(BETWEEN_FAULTS_S)

    async def drain(member: Member) -> None:
        await member.drain()
        await member.start()

    async def cut_off(way: Proxy) -> None:
        way.blackhole()
        await asyncio.sleep(BETWEEN_FAULTS_S)
        way.heal()

    async def hang_valkey() -> None:
        with fleet.valkey_frozen():
            await asyncio.sleep(BETWEEN_FAULTS_S)

    faults: list[Fault] = [
        lambda: kill(first),
        fleet.wiped,
        lambda: freeze(second),
        fleet.postgres.restart,
        hang_valkey,
        lambda: cut_off(first.to_postgres),
        lambda: drain(third),
        fleet.valkey.restart,
        lambda: cut_off(second.to_valkey),
        lambda: kill(second),
    ]
    until = asyncio.get_running_loop().time() + seconds
    turn = 0
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(BETWEEN_FAULTS_S)  # of ordinary life, which the faults are to meet
        await faults[turn % len(faults)]()
        turn += 1
    return turn


async def rows_of(system: System) -> Rows:
    tables = ("pairings", "pairing_offers", "chat_sessions", "chat_messages")
    return Rows(*[[dict(row) for row in await system.sql.fetch(f"SELECT * FROM {table}")] for table in tables])


def no_crash(logs: Path) -> None:
    crashed = [line for log in logs.glob("*.log") for line in log.read_text().splitlines() if "crashed" in line]
    assert crashed == []

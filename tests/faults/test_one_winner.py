"""R7 under fire: many accept at once on three instances that are killed, and one wins, each time, told so.

`HADIR_TEST_RACES=200` races that often.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.racers import Racer, all_connected, outcomes_of
from tests.support.system import FAST, Account, Process, System

RACES = int(os.environ.get("HADIR_TEST_RACES", "12"))
MITRAS = 200
KILL_EVERY = 4
AT_ONCE = 18
"""Accepts of one mitra at once: what the budget of frames allows."""
CALM = {
    **FAST,
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "20",
    "MITRA_HEARTBEAT_STALE_SECONDS": "60",
    "MITRA_OFFLINE_GRACE_SECONDS": "30",
    "PAIRING_WAVE_SIZE": str(MITRAS),
    "PAIRING_WAVE_SECONDS": "1",
    "PAYMENT_TIMEOUT_SECONDS": "600",
}


async def test_one_of_200_wins_each_time_whoever_is_killed(
    database: str, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with System(database, valkey.url, CALM) as system:
        instances = [await system.process(tmp_path / f"{n}.log") for n in range(3)]
        racers = await crowd_of(system, instances, MITRAS, max_sessions=1_000)
        for race in range(RACES):
            customer = await system.account("customer")
            pairing_id = (await system.pair(instances[race % 3].served, customer))["id"]
            await asyncio.gather(*(asyncio.wait_for(racer.offer(pairing_id).wait(), 20) for racer in racers))
            accepting = [asyncio.create_task(racer.accept(pairing_id)) for racer in racers]
            victim = instances[(race + 1) % 3] if race % KILL_EVERY == KILL_EVERY - 1 else None
            if victim is not None:
                await victim.kill()
            results = await asyncio.gather(*accepting)
            assert sorted(set(results)) == ["taken", "won"]
            winner = racers[results.index("won")].account
            assert results.count("won") == 1
            assert await system.sql.fetchval("SELECT mitra_id FROM pairings WHERE id = $1", pairing_id) == winner.id
            told = (await system.ask(instances[race % 3].served, customer, "GET", f"/api/pairings/{pairing_id}")).json()
            assert (told["mitra_id"], told["session"]["mitra_id"]) == (winner.id, winner.id)
            if victim is not None:
                await victim.start(system.http)
                await all_connected(racers)
        assert {key: said for key, said in outcomes_of(racers).items() if len(said) > 1} == {}
        assert await broken_rules(system) == []
        await asyncio.gather(*(racer.close() for racer in racers))


@pytest.mark.parametrize("capacity", [1, 3])
async def test_nobody_exceeds_their_capacity_however_many_they_accept_at_once(
    database: str, valkey: EmbeddedValkey, capacity: int, tmp_path: Path
) -> None:
    settings = {**CALM, "MITRA_MAX_OPEN_OFFERS": "100"}
    async with System(database, valkey.url, settings) as system:
        instances = [await system.process(tmp_path / f"{n}.log") for n in range(3)]
        racers = await crowd_of(system, instances, 5, max_sessions=capacity)
        for race in range(max(3, RACES // 4)):
            customers = await system.accounts(AT_ONCE, "customer")
            asked = (system.pair(instances[n % 3].served, customer) for n, customer in enumerate(customers))
            pairings = [each["id"] for each in await asyncio.gather(*asked)]
            for racer in racers:
                await asyncio.gather(*(asyncio.wait_for(racer.offer(each).wait(), 20) for each in pairings))
            # The order differs from mitra to mitra, so that they meet in every way.
            results = await asyncio.gather(
                *(
                    asyncio.gather(*(racer.accept(each) for each in pairings[n * 3 :] + pairings[: n * 3]))
                    for n, racer in enumerate(racers)
                )
            )
            held = await system.sql.fetch(
                "SELECT mitra_id, count(*) FROM chat_sessions WHERE status = 'pending_payment' GROUP BY mitra_id"
            )
            assert dict(held) == {
                racer.account.id: each.count("won") for racer, each in zip(racers, results, strict=True)
            }
            assert [each.count("won") for each in results] == [capacity] * len(racers), f"race {race}"
            assert await broken_rules(system) == []
            for account in customers:
                found = (await system.ask(instances[0].served, account, "GET", "/api/sessions")).json()["sessions"]
                for path in [f"/api/sessions/{each['id']}/end" for each in found]:
                    assert (await system.ask(instances[1].served, account, "POST", path)).status_code == 200
            await system.sql.execute("UPDATE pairings SET status = 'cancelled' WHERE status = 'searching'")
            await eventually(lambda: free(system), 10)
            for racer in racers:
                await racer.rest()
        await asyncio.gather(*(racer.close() for racer in racers))


async def free(system: System) -> bool:
    """Whether everybody can be offered something again."""
    return not await system.sql.fetchval("SELECT count(*) FROM mitra_presence WHERE open_sessions > 0")


async def crowd_of(system: System, instances: list[Process], size: int, *, max_sessions: int) -> list[Racer]:
    accounts: list[Account] = await system.accounts(size)
    await system.sql.execute("UPDATE mitras SET max_sessions = $1", max_sessions)
    racers = [Racer(account, instances, n) for n, account in enumerate(accounts)]
    await all_connected(racers)
    await system.available(instances[0].served, size, 20)
    return racers


async def broken_rules(system: System) -> list[str]:
    """What the rows say against R7, by SQL that shares nothing with the program's."""
    rules = {
        "an accepted pairing without exactly one winning offer": """
            SELECT p.id FROM pairings p WHERE p.status = 'accepted' AND 1 <> (
                SELECT count(*) FROM pairing_offers o
                WHERE o.pairing_id = p.id AND o.status = 'accepted' AND o.mitra_id = p.mitra_id)
            UNION SELECT o.pairing_id FROM pairing_offers o JOIN pairings p ON p.id = o.pairing_id
            WHERE o.status = 'accepted' AND o.mitra_id IS DISTINCT FROM p.mitra_id""",
        "an accepted pairing without a session of its mitra and customer": """
            SELECT p.id FROM pairings p LEFT JOIN chat_sessions s ON s.id = p.session_id
            WHERE p.status = 'accepted' AND NOT p.reroute
              AND (s.id IS NULL OR s.customer_id <> p.customer_id)""",
        "a session that no pairing or several made": """
            SELECT s.id FROM chat_sessions s
            WHERE 1 <> (SELECT count(*) FROM pairings p WHERE p.session_id = s.id AND NOT p.reroute)""",
        "an open offer of a decided pairing": """
            SELECT p.id FROM pairings p JOIN pairing_offers o ON o.pairing_id = p.id
            WHERE p.status <> 'searching' AND o.status = 'open'""",
        "a mitra above its capacity at some moment": """
            WITH held AS (
                SELECT s.mitra_id, coalesce(s.ended_at, 'infinity') AS until, coalesce((
                    SELECT max(p.decided_at) FROM pairings p
                    WHERE p.session_id = s.id AND p.mitra_id = s.mitra_id AND p.status = 'accepted'
                ), s.created_at) AS since FROM chat_sessions s)
            SELECT m.id FROM mitras m JOIN held h ON h.mitra_id = m.id
            WHERE (SELECT count(*) FROM held other
                   WHERE other.mitra_id = m.id AND other.since <= h.since AND other.until > h.since
                  ) > coalesce(m.max_sessions, 1)""",
        "a count of open sessions that is wrong": """
            SELECT p.mitra_id FROM mitra_presence p WHERE p.open_sessions <> (
                SELECT count(*) FROM chat_sessions s
                WHERE s.mitra_id = p.mitra_id AND s.status IN ('pending_payment', 'active'))""",
    }
    return [rule for rule, statement in rules.items() if await system.sql.fetch(statement)]

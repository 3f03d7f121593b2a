"""The fleet's verbs reach whom they are about, and nobody else."""

from __future__ import annotations

from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.faults.fleet import Fleet, Member
from tests.support import eventually
from tests.support.system import System


async def test_one_instance_loses_a_store_and_the_other_does_not(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url) as system, Fleet(system, own_postgres, valkey, 2) as fleet:
        first, second = fleet.members
        first.to_valkey.cut()
        await degraded(system, first, "valkey")
        await second.well()
        first.to_valkey.heal()
        await first.well()
        second.to_postgres.blackhole()
        await degraded(system, second, "postgres")
        await first.well()
        second.to_postgres.heal()
        await second.well()
        await first.drain()
        await first.start()
        await system.no_drift()


async def degraded(system: System, member: Member, store: str) -> None:
    async def says_so() -> bool:
        return store in (await system.http.get(f"{member.served.url}/ready")).json().get("why", ())

    await eventually(says_so, 20)

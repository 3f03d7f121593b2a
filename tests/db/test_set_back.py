"""The clock was set back: what was written before seems to be an hour ahead, and keeps nobody waiting until then."""

from __future__ import annotations

from hadir.db.queries import sql as query
from tests.db.world import World


async def test_a_suspicion_that_is_to_come_is_over(world: World) -> None:
    ahead, fresh = [await world.mitra() for _ in range(2)]
    for mitra, since in ((ahead, "1 hour"), (fresh, "0")):
        await world.vouched(mitra, "connected", "is_online = true")
        await world.vouched(mitra, "lost", f"suspect_since = clock_timestamp() + interval '{since}'")
    due = await world.sql.fetch(query("expiry_due"), 15.0, 50.0, ["instance_died"], 10, False)
    assert [record["mitra_id"] for record in due] == [ahead]
    assert await world.sql.fetch(query("expiry_due"), 15.0, 50.0, ["instance_died"], 10, True) == []


async def test_a_beat_lowers_one_that_is_to_come(world: World) -> None:
    mitra = await world.mitra()
    await world.vouched(mitra, "connected", "is_online = true")
    for written in ("interval '1 hour'", "-interval '1 minute'"):
        await world.write(mitra, f"last_heartbeat_at = clock_timestamp() + {written}")
        await world.sql.execute(query("beats_store"), [mitra], [30.0])
        beaten = (await world.row(mitra))["last_heartbeat_at"]
        assert 25 < await world.sql.fetchval("SELECT extract(epoch FROM clock_timestamp() - $1)", beaten) < 60


async def test_a_dead_leaders_lease_can_be_taken(world: World) -> None:
    for holder, taken in (("one", True), ("two", False)):
        assert (await world.sql.fetchrow(query("lease_take"), "sweeps", holder, 4.0) is not None) is taken
    await world.sql.execute("UPDATE leases SET expires_at = clock_timestamp() + interval '1 hour'")
    assert await world.sql.fetchrow(query("lease_take"), "sweeps", "two", 4.0) is not None


async def test_an_instance_whose_beat_is_to_come_can_be_judged(world: World) -> None:
    mitra = await world.mitra()
    await world.vouched(mitra, "connected", "is_online = true, connection_id = 'c', instance_id = 'dead-1'")
    for name in ("dead-1", "well-1"):
        await world.sql.execute(query("instance_beat"), name, name, "0", "ready", 1, 0.0, 0.0)
    await world.sql.execute("UPDATE instances SET beat_at = beat_at + interval '1 hour' WHERE id = 'dead-1'")
    ages = {record["id"]: record["age_s"] for record in await world.sql.fetch(query("instances_all"))}
    assert ages["dead-1"] > 3000 > 60 > ages["well-1"] >= 0
    (held,) = await world.sql.fetch(query("instance_rows"), "dead-1", 12.0, 10)
    assert held["mitra_id"] == mitra
    for name in ages:
        await world.sql.execute(query("instance_forget"), name, 12.0)
    assert [record["id"] for record in await world.sql.fetch(query("instances_all"))] == ["well-1"]

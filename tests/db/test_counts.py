"""Who can take work where Postgres alone judges."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hadir.db.queries import sql
from tests.db.world import World

FRESH_S = 60.0
LIVES = "lives-1"


@pytest.mark.parametrize(
    ("instance", "beat_s", "there"),
    [
        (LIVES, 1, True),
        (LIVES, 3_600, True),  # nobody copied its beats, but its socket is held
        ("unknown-1", 1, True),
        ("unknown-1", 3_600, False),
        (None, 1, True),  # over HTTP
        (None, 3_600, False),
    ],
)
async def test_a_socket_that_a_living_instance_holds_is_there_whoever_copied_its_beats(
    world: World, instance: str | None, beat_s: int, there: bool
) -> None:
    mitra = await world.mitra()
    await world.sql.execute(
        "UPDATE mitra_presence SET is_online = true, instance_id = $2,"
        " last_heartbeat_at = clock_timestamp() - $3::interval WHERE mitra_id = $1",
        mitra,
        instance,
        timedelta(seconds=beat_s),
    )
    counted = await world.sql.fetchrow(sql("counts"), FRESH_S, [LIVES])
    pool = await world.sql.fetch(sql("available_pool"), FRESH_S, [LIVES], 10)
    assert (counted["online"], counted["available"], len(pool)) == (1, int(there), int(there))


async def test_a_suspect_is_in_no_pool_whoever_held_its_socket(world: World) -> None:
    mitra = await world.mitra()
    await world.sql.execute(
        "UPDATE mitra_presence SET is_online = true, suspect_since = now(), instance_id = $2 WHERE mitra_id = $1",
        mitra,
        LIVES,
    )
    counted = await world.sql.fetchrow(sql("counts"), FRESH_S, [LIVES])
    assert (counted["suspect"], counted["available"]) == (1, 0)
    assert await world.sql.fetch(sql("available_pool"), FRESH_S, [LIVES], 10) == []

"""The series of the last hours: what a fresh page begins with, its gaps, and who writes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from hadir.db.queries import sql as query
from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime import series
from hadir.realtime.series import COLUMNS
from hadir.realtime.vitals import Vitals
from tests.faults.test_interleavings import cut_off_from_postgres
from tests.support import eventually
from tests.support.couples import accepted
from tests.support.system import FAST, Served, System

CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}
LEASE_S = 4
"""A leader that is gone is missed for so long."""


async def shown(system: System, served: Served, minutes: int) -> dict[str, Any]:
    viewer = await system.account("viewer")
    url = f"{served.inner_url}/api/internal/series?minutes={minutes}"
    answer = await system.http.get(url, headers=viewer.bearer)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def step_of_a_second() -> Iterator[None]:
    before, series.STEP_S = series.STEP_S, 1
    try:
        yield
    finally:
        series.STEP_S = before


async def slots(system: System) -> list[int]:
    """The times of all rows."""
    found = await system.sql.fetch("SELECT extract(epoch FROM at)::bigint AS slot FROM centre_series ORDER BY at")
    return [record["slot"] for record in found]


async def test_a_fresh_page_has_an_hour_and_gaps_stay_gaps(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        await system.sql.execute("DELETE FROM centre_series")
        await system.sql.execute(
            "INSERT INTO centre_series (at, online, beats_per_s) "
            "SELECT to_timestamp(n * 10), n % 1000, n % 1000 / 2.0 "
            "FROM floor(extract(epoch FROM now()) / 10) AS last, generate_series(last - 360, last) AS n "
            "WHERE n % 10 <> 3 ON CONFLICT DO NOTHING"
        )
        found = await shown(system, served, 60)
        at, online = found["at"], found["series"]["online"]
        assert found["step_s"] == 10
        assert len(at) == 360
        assert [later - earlier for earlier, later in pairwise(at)] == [10] * 359
        assert time.time() - 15 < at[-1] <= time.time()
        assert {name: len(values) for name, values in found["series"].items()} == dict.fromkeys(COLUMNS, 360)
        for slot, value, beats in zip(at[:-1], online[:-1], found["series"]["beats_per_s"][:-1], strict=True):
            n = slot // 10
            assert (value, beats) == ((None, None) if n % 10 == 3 else (n % 1000, n % 1000 / 2)), "gaps are null"
        assert set(found["series"]["busy"][:-1]) == {None}
        assert len((await shown(system, served, 1_440))["at"]) == 8_640


async def test_a_row_says_how_the_fleet_stands(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        mitra, idle, gone = [await system.account() for _ in range(3)]
        customer, waiting = await system.account("customer"), await system.account("customer")
        await system.phone(served, mitra)
        await accepted(system, served, customer, mitra)
        await system.pair(served, waiting)
        await system.phone(served, idle)
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", gone.id)
        node = served.node
        assert node is not None

        async def counted() -> bool:
            found = await node.availability.counts()
            return (found.online, found.busy, found.deactivated) == (2, 1, 1)

        await eventually(counted)
        await eventually(lambda: node.liveness.aged() and node.liveness.aged()[0].beats_per_s is not None, 10)
        await system.sql.execute("DELETE FROM centre_series")
        await node.series.write()
        row = await system.sql.fetchrow("SELECT * FROM centre_series")
        assert row is not None
        expected = {
            "online": 2,
            "suspect": 0,
            "available": 1,
            "busy": 1,
            "deactivated": 1,
            "sockets": 2,
            "pending_payment": 1,
            "active": 0,
            "waiting": 1,
        }
        assert {name: row[name] for name in expected} == expected
        assert 0 <= row["accept_p50_s"] < 30
        assert row["beats_per_s"] >= 0


async def test_two_who_believe_to_lead_write_one_row(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        nodes = [(await system.instance()).node for _ in range(2)]
        for _ in range(5):
            await asyncio.gather(*(node.series.write() for node in nodes if node is not None))
        found = await slots(system)
        assert 1 <= len(found) == len(set(found))
        assert all(slot % 10 == 0 for slot in found)
        seconds = await system.sql.fetchval("SELECT count(*) FROM centre_series WHERE at <> date_trunc('second', at)")
        assert seconds == 0


async def test_a_slot_has_what_was_counted_last(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        for online in (1, 2):  # as by a clock that was set back; a slot so long that it is the same
            counts = [online] * (len(COLUMNS) - 2)
            await system.sql.execute(query("series_store"), 1e9, *counts, 0.5 * online, 1.5 * online)
        (row,) = await system.sql.fetch("SELECT * FROM centre_series")
        assert [row[name] for name in COLUMNS] == [2] * (len(COLUMNS) - 2) + [1.0, 3.0]


async def test_the_time_to_accept_is_of_the_last_thousand(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        await system.sql.execute(
            "WITH customer AS (INSERT INTO customers (id) VALUES (gen_random_uuid()) RETURNING id) "
            "INSERT INTO pairings (id, customer_id, status, created_at, decided_at, expires_at, next_wave_at) "
            "SELECT gen_random_uuid(), id, 'accepted', at - CASE WHEN n <= 1000 THEN interval '1 s' ELSE '30 s' END, "
            "at, at, NULL FROM customer, generate_series(1, 2000) AS n, "
            "LATERAL (SELECT now() - n * interval '0.4 s' AS at) AS times"
        )
        found = await system.sql.fetchrow(query("pairings_standing"))
        assert found is not None
        assert (found["accept_p50_s"], found["accept_p95_s"]) == (1.0, 1.0)
        await system.sql.execute(
            "UPDATE pairings SET created_at = created_at - interval '10 minutes', "
            "decided_at = decided_at - interval '10 minutes'"
        )
        found = await system.sql.fetchrow(query("pairings_standing"))
        assert found is not None
        assert found["accept_p95_s"] == 1.0


async def test_it_goes_on_when_its_writer_is_gone(database: str, valkey: EmbeddedValkey) -> None:
    with step_of_a_second():
        async with System(database, valkey.url, CALM) as system:
            nodes = [(await system.instance()).node for _ in range(2)]
            (leader,) = await eventually(
                lambda: [each for each in nodes if each is not None and each.liveness.is_leader], 15
            )
            began = len(await eventually(lambda: slots(system), 10))

            async def more(count: int) -> bool:
                return len(await slots(system)) >= began + count

            await eventually(lambda: more(2), 15)
            async with cut_off_from_postgres(leader):
                began = len(await slots(system))
                await eventually(lambda: more(3), 20)
                assert not leader.liveness.is_leader
            found = await slots(system)
            gaps = [later - earlier for earlier, later in pairwise(found)]
            assert max(gaps) <= LEASE_S + 5, "of ten-second slots at most one is missing"
            assert min(gaps) >= 1, "none twice"


async def test_old_rows_are_thinned_then_dropped(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        node = (await system.instance()).node
        assert node is not None
        await system.sql.execute("DELETE FROM centre_series; DELETE FROM instance_log")
        await system.sql.execute(
            "INSERT INTO centre_series (at) SELECT to_timestamp(n * 10) + age FROM "
            "generate_series(floor(extract(epoch FROM now()) / 60)::bigint * 6 - 60, "
            "floor(extract(epoch FROM now()) / 60)::bigint * 6 - 1) AS n, "
            "unnest(ARRAY[interval '-1 hour', '-6 days', '-8 days', '-101 days']) AS age"
        )
        await system.sql.execute(
            "INSERT INTO instance_log (at, instance_id, name, what) "
            "SELECT now() - days * interval '1 day', 'x', 'x', 'died' FROM unnest(ARRAY[8, 101]) AS days"
        )
        node.series._thinned_at = float("-inf")
        await node.series._thin()
        ages = await system.sql.fetch(
            "SELECT round(extract(epoch FROM now() - at) / 86400)::int AS days, count(*) AS rows FROM centre_series "
            "WHERE at < now() - interval '30 minutes' GROUP BY 1 ORDER BY 1"
        )
        assert [tuple(each) for each in ages] == [(0, 60), (6, 60), (8, 10)]
        assert await system.sql.fetchval("SELECT count(*) FROM instance_log") == 1


async def test_instances_say_how_they_fare(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other = await system.instance(), await system.instance()
        phone = await system.phone(served, await system.account())
        viewer = await system.account("viewer")

        loop, beaten = asyncio.get_running_loop(), 0.0

        async def measured() -> bool:
            nonlocal beaten
            if loop.time() - beaten > 0.3:  # it may send five frames a second
                beaten = loop.time()
                await phone.ask(type="ping")
            url = f"{other.inner_url}/api/internal/instances"
            found = (await system.http.get(url, headers=viewer.bearer)).json()["instances"]
            return len(found) == 2 and all(
                each["beats_per_s"] is not None and each["beats_per_s"] > 0 and each["loop_lag_s"] is not None
                for each in found
            )

        await eventually(measured, 15)


def test_vitals_are_measured_over_a_second_at_least() -> None:
    vitals = Vitals(100.0)
    vitals.lagged(0.25)
    assert vitals.take(100.5) == (None, None), "too early to say"
    vitals.lagged(0.125)
    assert vitals.take(102.0) == (0.0, 0.25), "the longest"
    assert vitals.take(102.5) == (0.0, 0.25), "said again"
    assert vitals.take(105.0) == (0.0, 0.0), "anew"

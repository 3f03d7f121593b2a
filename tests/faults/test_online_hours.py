"""The report of online time against what simulated mitras know themselves, whatever happened to them meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from hadir.dev.attendance import Attendance
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from hadir.dev.population import SimulatedMitra
from hadir.dev.simulation import Simulation
from tests.faults.fleet import Fleet, Member
from tests.support import eventually
from tests.support.system import FAST, System

MITRAS = 18
SETTINGS = {
    **FAST,
    "MITRA_OFFLINE_GRACE_SECONDS": "3",
    "HEARTBEAT_MIRROR_INTERVAL_SECONDS": "60",  # as in production: Postgres hears of beats late
}
PATIENCE_S = 6.0
"""Between absences that are none (a lost connection, a restart, a killed instance) and those that are."""
CLEAR_S = (5.0, 7.5)
"""No absence may be so near to it: the test could not say what it was."""
AWAY_S = 9.0
EXACT_S = 1.0
JAKARTA, UTC_ZONE = ZoneInfo("Asia/Jakarta"), ZoneInfo("UTC")
Day = tuple[str, date]
Hours = Mapping[Day, tuple[float, int]]
"""By mitra and day: (seconds, intervals)."""


async def test_the_report_is_what_mitras_know_themselves(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with (
        System(own_postgres.url, valkey.url, SETTINGS) as system,
        Fleet(system, own_postgres, valkey, 2, tmp_path) as fleet,
    ):
        attendance = Attendance(PATIENCE_S)
        config, urls = system.config(), [served.url for served in fleet.served]
        people = Simulation(config, urls, MITRAS, 0, churn=0.0, random=Random(22), attendance=attendance)
        async with people:
            await eventually(lambda: all(mitra.app.connected for mitra in people.mitras), 20)
            await live_through_everything(system, fleet, people, attendance)
            now = time.time()
            there = await reported(system, fleet, now, "UTC")
            assert differences(there, known(attendance, people, UTC_ZONE, now)) == []
        assert not [each for each in attendance.absences_s if CLEAR_S[0] < each < CLEAR_S[1]]
        await eventually(lambda: nobody_is_there(system), 30)
        whole = known(attendance, people, UTC_ZONE, time.time())
        assert sum(number for _, number in whole.values()) >= MITRAS + 6, "many were away in between"
        assert differences(await reported(system, fleet, time.time(), "UTC"), whole) == []
        # The same lives, moved so that it was midnight in Jakarta in the middle of them.
        moved_s = await move_to_midnight(system, attendance, people)
        then = known(attendance, people, JAKARTA, time.time(), moved_s)
        assert len({day for _, day in then}) == 2
        assert differences(await reported(system, fleet, time.time() + moved_s, "Asia/Jakarta"), then) == []


async def test_who_never_comes_back_behind_a_burial_is_paid_until_its_last_beat(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """Its instance was frozen for so long that it was buried, and takes its mitras back when it thaws."""
    slow = SETTINGS | {"MITRA_HEARTBEAT_STALE_SECONDS": "40"}
    async with (
        System(own_postgres.url, valkey.url, slow) as system,
        Fleet(system, own_postgres, valkey, 2, tmp_path) as fleet,
    ):
        attendance = Attendance(PATIENCE_S)
        config, urls = system.config(), [served.url for served in fleet.served]
        people = Simulation(config, urls, 8, 0, churn=0.0, random=Random(22), attendance=attendance)
        async with people:
            await eventually(lambda: all(mitra.app.connected for mitra in people.mitras), 20)
            held = await held_by(system, "i2", people.mitras)
            (off,) = [mitra for mitra in people.mitras if mitra not in held][:1]
            assert len(held) > 1, "the seed of this test gives it some"
            beats = {mitra: mitra.app.counters.pongs for mitra in held}
            await eventually(lambda: all(mitra.app.counters.pongs > beats[mitra] + 2 for mitra in held), 10)
            held = await freeze_at(system, "i2", held)
            assert held
            with fleet.members[1].frozen():
                for mitra in held:
                    await eventually(lambda mitra=mitra: buried(system, mitra), 40)  # type: ignore[misc]
            await eventually(lambda: all_back(system, held), 20)
            for mitra in held:
                mitra.app.drop()
            await switch_off_while_lost(system, fleet, off, attendance)
            await eventually(lambda: nobody_of(system, [*held, off]), 40)
            now = time.time()
            assert (
                differences(await reported(system, fleet, now, "UTC"), known(attendance, people, UTC_ZONE, now)) == []
            )
            for mitra in held:
                order = "SELECT array_agg(state ORDER BY at, recorded_at) FROM presence_log WHERE mitra_id = $1"
                states = await system.sql.fetchval(order, mitra.person_id)
                assert states == ["online", "suspect", "online", "suspect", "offline"], "as they were written"


async def switch_off_while_lost(system: System, fleet: Fleet, mitra: SimulatedMitra, attendance: Attendance) -> None:
    """Its connection is gone, and it says over HTTP that it goes before anybody holds it for gone."""
    await freeze(mitra)
    mitra.app.drop()
    await eventually(lambda: is_suspect(system, mitra))
    headers = {"Authorization": f"Bearer {await mitra._token()}"}
    answer = await system.http.post(f"{fleet.served[0].url}/api/mitra/status/offline", headers=headers)
    assert answer.status_code == 200, answer.text
    attendance.switched(mitra.person_id, False, time.time())


async def is_suspect(system: System, mitra: SimulatedMitra) -> bool:
    asked = "SELECT suspect_since IS NOT NULL FROM mitra_presence WHERE mitra_id = $1"
    return bool(await system.sql.fetchval(asked, mitra.person_id))


async def all_back(system: System, mitras: Iterable[SimulatedMitra]) -> bool:
    """Whether all of these were taken back."""
    asked = (
        "SELECT bool_and(is_online AND suspect_since IS NULL AND reason = 'back') "
        "FROM mitra_presence WHERE mitra_id = ANY ($1::uuid[])"
    )
    return bool(await system.sql.fetchval(asked, [mitra.person_id for mitra in mitras]))


async def live_through_everything(system: System, fleet: Fleet, people: Simulation, attendance: Attendance) -> None:
    """Goodbyes, losses, silence, a toggle; then an instance is killed, and both are replaced."""
    ways = iter(people.mitras[:10])

    def two() -> list[SimulatedMitra]:
        return [next(ways), next(ways)]

    for mitra in two():
        await mitra.app.goodbye()  # it comes again after a few seconds
    for mitra in two():
        mitra.app.drop()  # it comes back at once
    gone, silent = two(), two()
    for mitra in gone:
        await freeze(mitra)
        mitra.app.drop()  # and stays away
    for mitra in silent:
        await freeze(mitra)
    for mitra in two():
        await switch(mitra, attendance, False)
    await asyncio.sleep(AWAY_S)
    for mitra in silent:
        mitra.app.thaw()
    for mitra in people.mitras[8:10]:
        await switch(mitra, attendance, True)
    await eventually(lambda: all(mitra.app.connected for mitra in set(people.mitras) - set(gone)), 20)
    gone += await kill_one(system, fleet.members[1], people)
    await fleet.members[1].start()
    for member in fleet.members:
        await member.drain()
        await member.start()
        await member.well()
    await eventually(lambda: all(mitra.app.connected for mitra in set(people.mitras) - set(gone)), 20)
    await eventually(lambda: nobody_of(system, gone), 40)
    await eventually(lambda: nobody_is_suspect(system), 40)


async def freeze(mitra: SimulatedMitra) -> None:
    """Between two beats: of one that is under way only the server would know."""

    def beats_are_answered() -> bool:
        return mitra.app.connected and not mitra.app._newest._replies  # type: ignore[union-attr]

    await eventually(beats_are_answered, 20)
    mitra.app.freeze()


async def freeze_at(system: System, name: str, mitras: Iterable[SimulatedMitra]) -> list[SimulatedMitra]:
    """Freezes those who are at this instance, before anything else happens to it: none of them moves any more."""
    for mitra in mitras:
        await freeze(mitra)
    held = await held_by(system, name, mitras)
    for mitra in set(mitras) - set(held):
        mitra.app.thaw()
    return held


async def switch(mitra: SimulatedMitra, attendance: Attendance, online: bool) -> None:
    await mitra.app.set_status(online)
    attendance.switched(mitra.person_id, online, time.time())


async def kill_one(system: System, victim: Member, people: Simulation) -> list[SimulatedMitra]:
    """SIGKILL. Answers two of its mitras who go with it; the others find the other instance."""
    held = await held_by(system, "i2", people.mitras[10:])
    assert len(held) > 2, "the seed of this test gives it some"
    beats = {mitra: mitra.app.counters.pongs for mitra in held}
    await eventually(lambda: all(mitra.app.counters.pongs > beats[mitra] + 2 for mitra in held), 10)
    lost = await freeze_at(system, "i2", held[:2])
    assert lost
    left = [mitra for mitra in held if mitra not in lost]
    await victim.kill()
    for mitra in lost:
        mitra.app.drop()
    await eventually(lambda: all(mitra.app.connected for mitra in left), 20)
    for mitra in lost:
        await eventually(lambda mitra=mitra: buried(system, mitra), 30)  # type: ignore[misc]
    return lost


async def buried(system: System, mitra: SimulatedMitra) -> bool:
    """Whether its instance was found dead."""
    reason = "SELECT reason FROM mitra_presence WHERE mitra_id = $1"
    return bool(await system.sql.fetchval(reason, mitra.person_id) == "instance_died")


async def nobody_of(system: System, mitras: Iterable[SimulatedMitra]) -> bool:
    """Whether all of these are offline."""
    online = "SELECT count(*) FROM mitra_presence WHERE is_online AND mitra_id = ANY ($1::uuid[])"
    return not await system.sql.fetchval(online, [mitra.person_id for mitra in mitras])


async def held_by(system: System, name: str, mitras: Iterable[SimulatedMitra]) -> list[SimulatedMitra]:
    """Those of the mitras whose app is at this instance, and not on its way to another because a pong was late."""
    statement = "SELECT mitra_id, connection_id FROM mitra_presence WHERE instance_id LIKE $1 || '-%' AND is_online"
    held = {record["mitra_id"]: record["connection_id"] for record in await system.sql.fetch(statement, name)}
    return [each for each in mitras if each.app.connected and held.get(each.person_id) == each.app.connection_id]


async def nobody_is_suspect(system: System) -> bool:
    return bool(
        await system.sql.fetchval("SELECT NOT EXISTS (SELECT FROM mitra_presence WHERE suspect_since IS NOT NULL)")
    )


async def nobody_is_there(system: System) -> bool:
    return bool(await system.sql.fetchval("SELECT NOT EXISTS (SELECT FROM mitra_presence WHERE is_online)"))


async def move_to_midnight(system: System, attendance: Attendance, people: Simulation) -> float:
    """Moves the log into the past; answers by how many seconds (negative)."""
    intervals = [each for mitra in people.mitras for each in attendance.intervals(mitra.person_id, time.time())]
    middle = (min(began for began, _ in intervals) + max(ended for _, ended in intervals)) / 2
    yesterday = datetime.now(JAKARTA).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    moved_s = yesterday.timestamp() - middle
    await system.sql.execute("UPDATE presence_log SET at = at + make_interval(secs => $1)", moved_s)
    return moved_s


def known(
    attendance: Attendance, people: Simulation, zone: ZoneInfo, now: float, moved_s: float = 0.0
) -> dict[Day, tuple[float, int]]:
    return {
        (mitra.person_id, day): hours
        for mitra in people.mitras
        for day, hours in attendance.days(mitra.person_id, zone, now, moved_s).items()
    }


async def reported(system: System, fleet: Fleet, until: float, tz: str) -> dict[Day, tuple[float, int]]:
    viewer = await system.account("viewer")
    last = datetime.fromtimestamp(until, ZoneInfo(tz)).date()
    query: dict[str, Any] = {"from": last - timedelta(days=1), "to": last, "tz": tz, "limit": 200}
    url = f"{fleet.served[0].inner_url}/api/internal/reports/online-time"
    answer = await system.http.get(url, params=query, headers=viewer.bearer)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["next"] is None
    return {
        (row["mitra_id"], date.fromisoformat(row["day"])): (row["online_s"], row["intervals"]) for row in found["rows"]
    }


def differences(reported: Hours, known: Hours) -> list[str]:
    """Where they differ by more than a second an interval, or in how many intervals there were."""
    found = []
    for day in sorted(reported.keys() | known.keys()):
        (said_s, said), (s, number) = reported.get(day, (0.0, 0)), known.get(day, (0.0, 0))
        if said != number or abs(said_s - s) > EXACT_S * max(number, 1):
            found.append(f"{day}: the report says {said_s:.2f} s in {said}, its app {s:.2f} s in {number}")
    return found

"""Reports: online time out of the log's lines, across midnights and summer time; demand and offers; JSON and CSV."""

from __future__ import annotations

import asyncio
import csv
import io
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.http import csv_stream, report_rows, reports
from hadir.http.csv_stream import lines
from hadir.http.periods import days_of
from tests.db.world import another, blocked
from tests.support import eventually
from tests.support.market import CALM
from tests.support.system import Account, Served, System

JAKARTA, BERLIN = ZoneInfo("Asia/Jakarta"), ZoneInfo("Europe/Berlin")
HOUR = 3600.0
Line = tuple[str, str, str]
"""(when, state, reason)"""


class Desk:
    """A system with nobody in it, and an accountant's view of it."""

    def __init__(self, system: System, served: Served, viewer: Account) -> None:
        self.system, self.served, self.viewer = system, served, viewer

    async def get(self, report: str, **query: Any) -> httpx.Response:
        url = f"{self.served.inner_url}/api/internal/reports/{report}"
        return await self.system.http.get(url, params=query, headers=self.viewer.bearer)

    async def rows(self, report: str, first: str, last: str, tz: str = "UTC", **query: Any) -> list[dict[str, Any]]:
        answer = await self.get(report, **{"from": first, "to": last, "tz": tz, **query})
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert (said["from"], said["to"], said["tz"]) == (first, last, tz)
        found: list[dict[str, Any]] = said["rows"]
        return found

    async def online(self, first: str, last: str, tz: str = "UTC", **query: Any) -> list[tuple[str, float, int]]:
        """(day, hours, intervals) of the one mitra that there is."""
        rows = await self.rows("online-time", first, last, tz, **query)
        return [(each["day"], round(each["online_s"] / HOUR, 6), each["intervals"]) for each in rows]

    async def log(self, lines: Sequence[Line], zone: Any = UTC, mitra: Account | None = None) -> Account:
        """A mitra with this history."""
        mitra = mitra or await self.system.account()
        whens = [datetime.fromisoformat(when).replace(tzinfo=zone) for when, _, _ in lines]
        await self.system.sql.executemany(
            "INSERT INTO presence_log (at, mitra_id, state, reason) VALUES ($1, $2, $3, $4)",
            [(when, mitra.id, state, reason) for when, (_, state, reason) in zip(whens, lines, strict=True)],
        )
        return mitra


async def desk(system: System) -> Desk:
    return Desk(system, await system.instance(), await system.account("viewer"))


async def test_an_interval_is_cut_at_the_midnights_of_the_zone(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        await view.log(
            [("2026-03-02T20:00", "online", "connected"), ("2026-03-04T03:00", "offline", "goodbye")], JAKARTA
        )
        expected = [("2026-03-02", 4.0, 1), ("2026-03-03", 24.0, 1), ("2026-03-04", 3.0, 1)]
        assert await view.online("2026-03-01", "2026-03-05", "Asia/Jakarta") == expected
        assert await view.online("2026-03-03", "2026-03-03", "Asia/Jakarta") == [("2026-03-03", 24.0, 1)]
        assert await view.online("2026-03-01", "2026-03-05") == [("2026-03-02", 11.0, 1), ("2026-03-03", 20.0, 1)]
        assert await view.online("2026-03-05", "2026-03-09") == []


@pytest.mark.parametrize(
    ("began", "ended", "hours"),
    [
        pytest.param("2026-03-28T12:00", "2026-03-30T12:00", [12.0, 23.0, 12.0], id="summer time begins"),
        pytest.param("2025-10-25T12:00", "2025-10-27T12:00", [12.0, 25.0, 12.0], id="and ends"),
    ],
)
async def test_days_of_23_and_of_25_hours(
    database: str, valkey: EmbeddedValkey, began: str, ended: str, hours: list[float]
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        await view.log([(began, "online", "connected"), (ended, "offline", "goodbye")], BERLIN)
        assert [each[1] for each in await view.online(began[:10], ended[:10], "Europe/Berlin")] == hours
        assert len(await view.rows("hours", began[:10], ended[:10], "Europe/Berlin")) == sum(hours) + 24


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        pytest.param("Europe/Berlin", "2026-03-28", [24, 23, 24], id="Berlin, forward"),
        pytest.param("Europe/Berlin", "2025-10-25", [24, 25, 24], id="Berlin, back"),
        pytest.param("America/Havana", "2026-03-07", [24, 23, 24], id="Havana has no midnight"),
        pytest.param("America/Havana", "2025-11-01", [24, 25, 24], id="Havana has two"),
        pytest.param("Africa/Casablanca", "2018-10-28", [24, 24, 24], id="Casablanca stays"),
        pytest.param("Pacific/Apia", "2011-12-29", [24, 0, 24], id="Samoa has no such day"),
        pytest.param("America/Toronto", "1919-03-29", [24, 23.5, 23.5], id="Toronto's gap had midnight in its midst"),
    ],
)
def test_days_follow_each_other_without_gap(zone: str, first: str, hours: list[float]) -> None:
    began = date.fromisoformat(first)
    days = days_of(began, began + timedelta(days=2), ZoneInfo(zone))
    assert [each.day for each in days] == [began + timedelta(days=number) for number in range(3)]
    assert [(each.ends - each.starts) / timedelta(hours=1) for each in days] == hours
    assert [each.ends for each in days[:-1]] == [each.starts for each in days[1:]]
    for each in days:
        if each.starts < each.ends:
            assert each.starts.astimezone(ZoneInfo(zone)).date() == each.day
        assert (each.starts - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date() < each.day


async def test_a_name_of_a_zone_that_is_an_abbreviation_too_has_summer_time(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        await view.log([("2026-07-01T21:00", "online", "connected"), ("2026-07-01T23:00", "offline", "goodbye")])
        assert await view.online("2026-07-01", "2026-07-02", "CET") == [("2026-07-01", 1.0, 1), ("2026-07-02", 1.0, 1)]


@pytest.mark.parametrize(
    ("lines", "hours", "intervals"),
    [
        pytest.param(
            [("10:00", "online", "connected"), ("11:00", "suspect", "lost"), ("11:30", "online", "back"),
             ("12:00", "offline", "goodbye")], 2.0, 1, id="a suspicion that came back counts"),
        pytest.param(
            [("10:00", "online", "connected"), ("11:00", "suspect", "lost"), ("11:00", "offline", "lost")],
            1.0, 1, id="one that ended offline ends at the last sign of life"),
        pytest.param(
            [("10:00", "online", "connected"), ("11:00", "suspect", "instance_died"),
             ("11:15", "offline", "instance_died")], 1.25, 1, id="which may have been heard of late"),
        pytest.param(
            [("10:00", "online", "connected"), ("11:00", "suspect", "lost"), ("13:00", "offline", "operator")],
            1.0, 1, id="what an operator decides later is no sign of life"),
        pytest.param(
            [("10:00", "online", "connected"), ("11:00", "suspect", "lost"), ("11:15", "offline", "http")],
            1.25, 1, id="who switches itself off was there until then"),
        pytest.param(
            [("10:00", "online", "connected"), ("11:00", "offline", "goodbye"), ("12:00", "suspect", "external"),
             ("12:30", "online", "back"), ("13:00", "offline", "goodbye")], 2.0, 2,
            id="an interval may begin in doubt"),
        pytest.param(
            [("10:00", "online", "connected"), ("11:00", "offline", "operator"), ("11:30", "offline", "deactivated"),
             ("12:00", "offline", "operator"), ("13:00", "online", "connected"), ("13:30", "offline", "status")],
            1.5, 2, id="two intervals, and lines that change nothing"),
        pytest.param(
            [("10:00", "online", "connected"), ("10:00", "offline", "lost")], None, 0, id="nothing is no interval"),
        pytest.param(
            [("10:00", "offline", "deactivated"), ("11:00", "offline", "operator")], None, 0, id="never there"),
    ],
)  # fmt: skip
async def test_what_counts(
    database: str, valkey: EmbeddedValkey, lines: list[Line], hours: float | None, intervals: int
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        await view.log([(f"2026-04-01T{when}", state, reason) for when, state, reason in lines])
        expected = [] if hours is None else [("2026-04-01", hours, intervals)]
        assert await view.online("2026-04-01", "2026-04-01") == expected


async def test_a_suspicion_over_midnight_is_judged_by_how_it_ended_after(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        begun: list[Line] = [("2026-04-01T23:00", "online", "connected"), ("2026-04-01T23:30", "suspect", "lost")]
        back: list[Line] = [("2026-04-02T00:30", "online", "back"), ("2026-04-02T01:00", "offline", "goodbye")]
        came = await view.log([*begun, *back])
        gone = await view.log([*begun, ("2026-04-02T00:30", "offline", "operator")])
        two_days = "2026-04-01", "2026-04-02"
        assert await view.online(*two_days, mitra_id=came.id) == [("2026-04-01", 1.0, 1), ("2026-04-02", 1.0, 1)]
        assert await view.online(*two_days, mitra_id=gone.id) == [("2026-04-01", 0.5, 1)]
        for day, mitra, hours in (("2026-04-01", came, 1.0), ("2026-04-02", came, 1.0), ("2026-04-01", gone, 0.5)):
            assert await view.online(day, day, mitra_id=mitra.id) == [(day, hours, 1)], "also asked for alone"
        assert await view.online("2026-04-02", "2026-04-02", mitra_id=gone.id) == []


async def test_what_goes_on_counts_until_now_and_a_suspicion_until_its_time(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        now = datetime.now(UTC)
        ago = {hours: (now - timedelta(hours=hours)).replace(tzinfo=None).isoformat() for hours in (30, 29)}
        here = await view.log([(ago[30], "online", "connected")])
        lost = await view.log([(ago[30], "online", "connected"), (ago[29], "suspect", "instance_died")])
        gone = await view.log([(ago[30], "online", "connected")])  # nothing says how it ended, but it is not there
        await system.sql.execute("ALTER TABLE mitra_presence DISABLE TRIGGER USER")
        await system.sql.execute("UPDATE mitra_presence SET is_online = true WHERE mitra_id = $1", here.id)
        heard = "UPDATE mitra_presence SET last_heartbeat_at = $2 WHERE mitra_id = $1"
        await system.sql.execute(heard, gone.id, now - timedelta(hours=28))
        await system.sql.execute("ALTER TABLE mitra_presence ENABLE TRIGGER USER")
        days = (now - timedelta(days=2)).date().isoformat(), (now + timedelta(days=1)).date().isoformat()

        async def total(mitra: Account) -> float:
            rows = await view.rows("online-time", *days, mitra_id=mitra.id)
            return float(sum(each["online_s"] for each in rows))

        assert await total(here) == pytest.approx(30 * HOUR, abs=30)
        assert await total(lost) == pytest.approx(HOUR, abs=0.01)
        assert await total(gone) == pytest.approx(2 * HOUR, abs=0.01)


async def test_who_was_deleted_is_found_by_its_id(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        mitra = await view.log(
            [("2026-05-01T10:00", "online", "connected"), ("2026-05-01T11:00", "offline", "goodbye")]
        )
        await system.sql.execute("DELETE FROM mitras WHERE id = $1", mitra.id)
        day = "2026-05-01", "2026-05-01"
        (row,) = await view.rows("online-time", *day, mitra_id=mitra.id)
        assert (row["mitra_id"], row["display_name"], row["online_s"]) == (mitra.id, None, HOUR)
        file = await view.get("online-time", **{"from": day[0], "to": day[1], "format": "csv", "mitra_id": mitra.id})
        assert list(csv.reader(io.StringIO(file.text)))[1] == ["2026-05-01", mitra.id, "", "3600.0", "1"]
        assert await view.rows("online-time", *day) == []


async def test_pages_and_the_whole_file_say_the_same(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_rows, "MITRAS_LEAST", 3)
    monkeypatch.setattr(report_rows, "MITRA_DAYS", 9)
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        await system.accounts(20)  # nobody of whom there is anything to say
        for number in range(10):
            mitra = await view.log(
                [("2026-05-01T22:00", "online", "connected"), ("2026-05-03T02:00", "offline", "goodbye")]
            )
            name = '=cmd|"/c calc"' if number == 0 else f"Budi, {number}"
            await system.sql.execute("UPDATE mitras SET display_name = $2 WHERE id = $1", mitra.id, name)
        period = {"from": "2026-05-01", "to": "2026-05-03"}
        paged: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = (await view.get("online-time", **period, limit=4, **cursor)).json()
            assert len(answer["rows"]) <= 4
            paged += answer["rows"]
            if answer["next"] is None:
                break
            cursor = {"cursor": answer["next"]}
        assert len(paged) == 30
        keys = [(each["mitra_id"], each["day"]) for each in paged]
        assert keys == sorted(set(keys))
        file = await view.get("online-time", **period, format="csv")
        assert file.headers["content-type"].startswith("text/csv")
        assert file.headers["content-disposition"] == 'attachment; filename="online-time_2026-05-01_2026-05-03.csv"'
        head, *listed = csv.reader(io.StringIO(file.text))
        assert head == ["day", "mitra_id", "display_name", "online_s", "intervals"]
        assert [(each[1], each[0], float(each[3]), int(each[4])) for each in listed] == [
            (each["mitra_id"], each["day"], each["online_s"], each["intervals"]) for each in paged
        ]
        assert {each[2] for each in listed} >= {"Budi, 3", '\'=cmd|"/c calc"'}, "no formula for a spreadsheet"


async def test_a_page_that_finds_nobody_ends_and_the_next_goes_on(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_rows, "MITRAS_LEAST", 1)
    monkeypatch.setattr(report_rows, "MITRA_DAYS", 1)
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        await system.accounts(50)
        last = Account("ffffffff-ffff-4fff-bfff-ffffffffffff", str(uuid.uuid4()), "mitra", system.config())
        await system.sql.execute("INSERT INTO mitras (id) VALUES ($1)", last.id)
        await view.log(
            [("2026-05-01T10:00", "online", "connected"), ("2026-05-01T11:00", "offline", "lost")], mitra=last
        )
        pages, found = 0, []
        cursor: dict[str, str] = {}
        while True:
            answer = (await view.get("online-time", **{"from": "2026-05-01", "to": "2026-05-01"}, **cursor)).json()
            pages += 1
            found += answer["rows"]
            if answer["next"] is None:
                break
            cursor = {"cursor": answer["next"]}
        assert pages == 3, "51 mitras, twenty a page"
        assert [each["mitra_id"] for each in found] == [last.id]


async def test_hours_hold_what_there_was_against_what_was_asked_for(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hadir.realtime.series.KEPT_DAYS", 36_500)  # a leader thins at every full ten seconds
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        await system.sql.execute(
            "INSERT INTO centre_series (at, online, available, busy) "
            "SELECT '2026-05-01 10:00Z'::timestamptz + n * interval '15 min', 10 + n, 4 * n, 1 "
            "FROM generate_series(0, 5) AS n"
        )
        await demand(system, "2026-05-01T10:20Z", [("accepted", 4.0), ("accepted", 8.0), ("expired", 60.0)])
        await demand(system, "2026-05-01T12:59Z", [("cancelled", 3.0)])
        rerouted = await demand(system, "2026-05-01T12:59Z", [("accepted", 3.0)])
        await system.sql.execute("UPDATE pairings SET reroute = true WHERE id = ANY ($1::uuid[])", rerouted)
        rows = await view.rows("hours", "2026-05-01", "2026-05-01", "Asia/Jakarta")
        assert len(rows) == 24
        assert rows[0]["hour"] == "2026-04-30T17:00:00Z", "midnight in Jakarta"
        by_hour = {each.pop("hour")[11:13]: each for each in rows}
        assert by_hour["10"] == {
            "online_avg": 11.5, "available_avg": 6.0, "available_min": 0, "busy_avg": 1.0,
            "asked": 3, "accepted": 2, "expired": 1, "cancelled": 0, "accept_p50_s": 6.0,
        }  # fmt: skip
        assert (by_hour["11"]["online_avg"], by_hour["11"]["available_min"]) == (14.5, 16)
        assert (by_hour["12"]["online_avg"], by_hour["12"]["asked"], by_hour["12"]["cancelled"]) == (None, 1, 1)
        file = await view.get("hours", **{"from": "2026-05-01", "to": "2026-05-01", "tz": "UTC", "format": "csv"})
        listed = list(csv.DictReader(io.StringIO(file.text)))
        assert listed[10]["hour"] == "2026-05-01T10:00:00Z"
        assert (listed[10]["asked"], listed[12]["online_avg"]) == ("3", "")


async def test_hours_that_have_not_begun_are_not_in_it(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        now = datetime.now(UTC)
        tomorrow = (now + timedelta(days=1)).date().isoformat()
        rows = await view.rows("hours", now.date().isoformat(), tomorrow)
        assert len(rows) in (now.hour + 1, datetime.now(UTC).hour + 1)


async def test_the_funnel_goes_from_asking_to_winning(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        pairings = await demand(
            system, "2026-05-01T23:30Z", [("accepted", 4.0), ("accepted", 8.0), ("expired", 60.0), ("cancelled", 2.0)]
        )
        mitras = [each.id for each in await system.accounts(6)]
        rerouted = await demand(system, "2026-05-01T23:30Z", [("expired", 3.0)])
        await system.sql.execute("UPDATE pairings SET reroute = true, wave = 9 WHERE id = ANY ($1::uuid[])", rerouted)
        for pairing, status, mitra in (
            (rerouted[0], "expired", 0),
            (pairings[3], "cancelled", 3),
            (pairings[3], "withdrawn", 4),
            (pairings[3], "open", 5),
        ):
            await system.sql.execute(
                "INSERT INTO pairing_offers (pairing_id, mitra_id, wave, status) VALUES ($1, $2, 1, $3)",
                pairing,
                mitras[mitra],
                status,
            )
        for status, mitra in (("accepted", 0), ("taken", 1), ("declined", 2)):
            await system.sql.execute(
                "INSERT INTO pairing_offers (pairing_id, mitra_id, wave, status, delivered_at, seen_at) "
                "VALUES ($1, $2, 1, $3, now(), CASE WHEN $3 <> 'taken' THEN now() END)",
                pairings[0],
                mitras[mitra],
                status,
            )
        await system.sql.execute(
            "INSERT INTO pairing_offers (pairing_id, mitra_id, wave, status) VALUES ($1, $2, 2, 'expired')",
            pairings[2],
            mitras[0],
        )
        await system.sql.execute("UPDATE pairings SET wave = 2 WHERE id = $1", pairings[2])
        before, day = await view.rows("funnel", "2026-04-30", "2026-05-01")
        assert (before["day"], before["pairings"], before["offers"], before["waves_avg"]) == ("2026-04-30", 0, 0, None)
        assert day == {
            "day": "2026-05-01", "pairings": 4, "accepted": 2, "expired": 1, "cancelled": 1, "offers": 7,
            "delivered": 3, "seen": 2, "declined": 1, "offers_accepted": 1, "offers_taken": 1, "offers_expired": 1,
            "offers_cancelled": 1, "offers_withdrawn": 1, "offers_open": 1,
            "accept_p50_s": 6.0, "accept_p95_s": 7.8, "waves_avg": 0.5,
        }  # fmt: skip
        later = await view.rows("funnel", "2026-05-02", "2026-05-02", "Asia/Jakarta")
        assert later[0]["pairings"] == 4, "it was the next day there"


async def demand(system: System, at: str, outcomes: Sequence[tuple[str, float]]) -> list[str]:
    """Pairings that were asked for at a time, and decided so many seconds later."""
    when, ids = datetime.fromisoformat(at), []
    for status, seconds in outcomes:
        customer = await system.account("customer")
        ids.append(str(uuid.uuid4()))
        await system.sql.execute(
            "INSERT INTO pairings (id, customer_id, status, created_at, expires_at, decided_at, next_wave_at) "
            "VALUES ($1, $2, $3, $4, $4, $4::timestamptz + make_interval(secs => $5), NULL)",
            ids[-1],
            customer.id,
            status,
            when,
            seconds,
        )
    return ids


WRONG: Sequence[tuple[dict[str, str], str]] = (
    ({"tz": "Mars/Olympus"}, "tz"),
    ({"tz": ""}, "tz"),
    ({"tz": "+7"}, "tz"),
    ({"tz": "WIB"}, "tz"),
    ({"tz": "America"}, "tz"),
    ({"tz": "../zoneinfo/UTC"}, "tz"),
    ({"tz": "/etc/passwd"}, "tz"),
    ({"tz": "U\0TC"}, "tz"),
    ({"from": "yesterday"}, "from"),
    ({"to": "2026-02-30"}, "to"),
    ({"to": "20260201"}, "to"),
    ({"from": "1999-12-31", "to": "2000-01-01"}, "from"),
    ({"from": "2026-02-02", "to": "2026-02-01"}, "from"),
    ({"from": "2026-01-01", "to": "2026-04-03"}, "from"),
    ({"format": "xml"}, "format"),
)


@pytest.mark.parametrize("report", ["online-time", "hours", "funnel"])
async def test_bad_input_is_named(database: str, valkey: EmbeddedValkey, report: str) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        for query, field in WRONG:
            answer = await view.get(report, **query)
            assert (answer.status_code, answer.json()["field"]) == (422, field), query
        longest = await view.get(report, **{"from": "2026-01-01", "to": "2026-04-02"})
        assert longest.status_code == 200, "92 days are the most"


async def test_who_asks_for_too_many_at_once_is_told_so_and_places_are_given_back(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)

        async def refused() -> bool:
            answer = await view.get("funnel")
            return answer.status_code == 503 and answer.json()["code"] == "overloaded"

        async def free() -> bool:
            return not await refused()

        async with system.sql.transaction():
            await system.sql.execute("LOCK TABLE presence_log IN ACCESS EXCLUSIVE MODE")  # nobody can read it
            asked = [asyncio.create_task(view.get("online-time", format=kind)) for kind in ("json", "csv") * 2]
            await blocked(database, len(asked))
            assert await refused()
            for leaves in asked[:2]:
                leaves.cancel()
            await asyncio.wait(asked[:2])
            await eventually(free)  # whoever has gone keeps no place: of a file, nothing more is made
        assert [each.status_code for each in await asyncio.gather(*asked[2:])] == [200, 200]
        assert [(await view.get("online-time", format=kind)).status_code for kind in ("json", "csv") * 4] == [200] * 8


async def test_who_no_longer_waits_for_json_keeps_no_place(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        async with system.sql.transaction():
            await system.sql.execute("LOCK TABLE presence_log IN ACCESS EXCLUSIVE MODE")
            asked = [asyncio.create_task(view.get("online-time")) for _ in range(4)]
            await blocked(database, len(asked))
            assert (await view.get("funnel")).status_code == 503
            for leaves in asked:
                leaves.cancel()
            await asyncio.wait(asked)

            async def all_free() -> bool:
                found = await asyncio.gather(*(view.get("funnel") for _ in range(4)))
                return [each.status_code for each in found] == [200] * 4

            await eventually(all_free)


async def test_a_report_that_takes_too_long_says_so(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MAKE_S", 0.5)
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        async with system.sql.transaction():
            await system.sql.execute("LOCK TABLE pairings, presence_log IN ACCESS EXCLUSIVE MODE")
            for report in ("online-time", "hours", "funnel"):
                answer = await view.get(report)
                assert (answer.status_code, answer.json()["code"]) == (503, "overloaded"), report
        monkeypatch.setattr(reports, "MAKE_S", 60.0)
        assert (await view.get("funnel")).status_code == 200


async def test_a_file_ends_with_the_login_of_its_reader(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_stream, "CHECK_EVERY", 1)
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        async with system.sql.transaction():
            await system.sql.execute("LOCK TABLE presence_log IN ACCESS EXCLUSIVE MODE")  # which no timer reads
            asked = asyncio.create_task(view.get("online-time", format="csv"))
            await blocked(database)
            async with another(database) as sql:
                await sql.execute("UPDATE auth_sessions SET revoked_at = now() WHERE id = $1", view.viewer.sid)
        with pytest.raises(httpx.RemoteProtocolError):
            await asked


async def test_a_file_is_not_sent_for_ever(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_stream, "WHOLE_S", 0.5)
    async with System(database, valkey.url, CALM) as system:
        view = await desk(system)
        async with system.sql.transaction():
            await system.sql.execute("LOCK TABLE pairings IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(httpx.RemoteProtocolError):
                await view.get("funnel", format="csv")


def test_a_line_of_csv_is_of_its_standard_and_no_formula() -> None:
    assert lines([["a,b", 'c"d', None, 1.5], ["=1", "-x", "+y", "@z"]]) == (
        '"a,b","c""d",,1.5\r\n' + "'=1,'-x,'+y,'@z\r\n"
    )

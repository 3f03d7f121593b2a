"""The feed of what happens: every entry once, on every instance, and the history for who comes later."""

from __future__ import annotations

import time
import uuid
from typing import Any

import asyncpg

from hadir.db.pool import Postgres
from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime import dashboards
from hadir.realtime.activity import Activity
from tests.faults.test_interleavings import cut_off_from_postgres
from tests.http.test_dashboard import CALM, dashboard
from tests.support import eventually
from tests.support.couples import accepted
from tests.support.system import Phone, Served, System


def news_of(view: Phone) -> list[dict[str, Any]]:
    """What the dashboard was told after its `hello`."""
    return [entry for message in view.received if message["type"] == "counts" for entry in message["activity"]]


def seen(entries: list[dict[str, Any]], subject: str) -> list[tuple[str, str]]:
    return [(entry["kind"], entry["what"]) for entry in entries if entry["subject"] == subject]


async def until_told(view: Phone, subject: str, *expected: tuple[str, str]) -> None:
    def told() -> bool:
        assert seen(news_of(view), subject) == list(expected)
        return True

    await eventually(told, 10)


async def entry(view: Phone, what: str) -> dict[str, Any]:
    """The first entry that says this."""
    found: dict[str, Any] = await eventually(
        lambda: next((each for each in news_of(view) if each["what"] == what), None), 10
    )
    return found


async def counted(view: Phone, times: int = 3) -> None:
    """Until it was told the counts so often again: what is read twice would be told by then."""
    was = len(view.received)
    await eventually(lambda: sum(each["type"] == "counts" for each in view.received[was:]) >= times, 30)


async def read(system: System, served: Served, limit: int = 100) -> list[dict[str, Any]]:
    viewer = await system.account("viewer")
    url = f"{served.inner_url}/api/internal/activity?limit={limit}"
    found: list[dict[str, Any]] = (await system.http.get(url, headers=viewer.bearer)).json()["entries"]
    return found


async def paid(system: System, *subjects: str) -> None:
    """Something is on record, of each subject."""
    insert = "INSERT INTO audit_log (actor, action, subject) SELECT 'someone', 'paid', unnest($1::text[])"
    await system.sql.execute(insert, list(subjects))


async def test_each_is_told_once_on_every_instance(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other = await system.instance(), await system.instance()
        views = [await dashboard(system, each, await system.account("viewer")) for each in (served, other)]
        operator, mitra, customer = [await system.account(role) for role in ("operator", "mitra", "customer")]
        await system.phone(served, mitra)
        url = f"{other.inner_url}/api/internal/config/app_notice"
        assert (await system.http.put(url, json={"value": "x"}, headers=operator.bearer)).status_code == 200
        await accepted(system, served, customer, mitra)
        third = await system.instance()
        assert third.node is not None
        for view in views:
            await until_told(view, third.node.id, ("instance", "started"))
            won = await entry(view, "accepted")
            assert (won["kind"], won["mitra_id"], won["actor"]) == ("pairing", mitra.id, None)
            assert won["took_s"] >= 0
            assert (await entry(view, "config"))["actor"] == operator.id
            await counted(view)
            assert seen(news_of(view), won["subject"]) == [("pairing", "created"), ("pairing", "accepted")]
            assert seen(news_of(view), "app_notice") == [("operator", "config")]
            assert seen(news_of(view), third.node.id) == [("instance", "started")]
        assert {each["subject"] for each in news_of(views[0])} == {each["subject"] for each in news_of(views[1])}


async def test_what_is_committed_late_is_told_all_the_same(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        view = await dashboard(system, served, await system.account("viewer"))
        insert = "INSERT INTO audit_log (actor, action, subject) VALUES ('someone', 'config', $1)"
        slow = await asyncpg.connect(database)
        try:
            async with slow.transaction():
                await slow.execute(insert, "late")
                await system.sql.execute(insert, "early")
                await eventually(lambda: seen(news_of(view), "early"))
                await counted(view, times=1)
                assert not seen(news_of(view), "late")
        finally:
            await slow.close()
        await eventually(lambda: seen(news_of(view), "late"))
        assert [each["subject"] for each in await read(system, served, 2)] == ["early", "late"], (
            "by when they were made"
        )


async def test_more_than_a_frame_lists_is_counted(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        view = await dashboard(system, served, await system.account("viewer"))
        await system.sql.execute(
            "INSERT INTO audit_log (actor, action, subject) "
            "SELECT 'someone', 'paid', n::text FROM generate_series(1, 120) AS n"
        )
        await eventually(lambda: any(message.get("more_activity") for message in view.received))
        (told,) = [message for message in view.received if message.get("more_activity")]
        assert (len(told["activity"]), told["more_activity"]) == (50, 70)
        assert told["activity"][-1]["subject"] == "120", "oldest first, the newest of them"


async def test_who_comes_later_begins_with_the_history(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        await system.sql.execute(
            "INSERT INTO audit_log (actor, action, subject, at) "
            "SELECT 'someone', 'deactivate', n::text, now() - interval '1 hour' + n * interval '1 s' "
            "FROM generate_series(1, 60) AS n"
        )
        views = [await dashboard(system, served, await system.account("viewer")) for _ in range(2)]
        await counted(views[0], times=2)
        views.append(await dashboard(system, served, await system.account("viewer")))
        for view in views:
            history = [each for each in view.hello["activity"] if each["kind"] == "operator"]
            assert len(view.hello["activity"]) == 50
            assert [each["subject"] for each in history] == [str(n) for n in range(61 - len(history), 61)]
            assert history[0]["mitra_id"] == history[0]["subject"], "of a mitra"
            assert news_of(view) == [], "none of it is news"
        listed = await read(system, served, 7)
        assert [each["at"] for each in listed] == sorted((each["at"] for each in listed), reverse=True)
        assert len(listed) == 7


async def test_what_was_read_is_not_news_again_wherever_a_reading_begins(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system, Postgres(database) as postgres:
        await eventually(lambda: postgres.available)
        activity = Activity(postgres)
        await activity.read()
        await paid(system, "first")
        await activity.read()
        assert activity.total == 1
        activity._read_at = (
            time.monotonic() + 3_600
        )  # as by a clock that went ahead: it finds nothing, not even "first"
        await activity.read()
        await paid(system, "second")
        await activity.read()
        assert activity.total == 2
        assert [each["subject"] for each in activity.until(2)][-2:] == ["first", "second"]


async def test_an_instance_that_could_not_read_at_first_tells_no_history_as_news(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        await paid(system, *(f"old-{n}" for n in range(60)))
        assert served.node is not None
        board = served.node.board
        async with cut_off_from_postgres(served.node):
            view = await dashboard(system, served, viewer)
            assert view.hello["activity"] == []
        await eventually(lambda: any(each.get("sessions") for each in view.received), 10)
        await eventually(lambda: board.activity._read_at is not None)  # what was there is history by now
        await paid(system, "new")
        await eventually(lambda: news_of(view), 10)
        assert [each["subject"] for each in news_of(view)] == ["new"]
        assert {each["more_activity"] for each in view.received if each["type"] == "counts"} == {0}
        history = (await view.ask(type="sync"))["activity"]
        assert [each["subject"] for each in history] == [*(f"old-{n}" for n in range(11, 60)), "new"]


async def test_what_happened_while_nobody_looked_on_is_no_news(database: str, valkey: EmbeddedValkey) -> None:
    before, dashboards.RECOUNT_S = dashboards.RECOUNT_S, 0.05
    try:
        async with System(database, valkey.url, CALM) as system:
            served, viewer = await system.instance(), await system.account("viewer")
            node = served.node
            assert node is not None
            await (await dashboard(system, served, viewer)).goodbye()
            await eventually(lambda: len(node.dashboards) == 0)
            await eventually(lambda: node.board.market_age_s > 0.5)
            await paid(system, "meanwhile")
            view = await dashboard(system, served, viewer)
            assert view.hello["activity"][-1]["subject"] == "meanwhile"
            await counted(view, times=2)
            assert news_of(view) == []
    finally:
        dashboards.RECOUNT_S = before


async def test_many_pairings_leave_room_for_what_operators_did(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await dashboard(system, await system.instance(), await system.account("viewer"))
        await system.sql.execute(
            "WITH operators AS (INSERT INTO audit_log (actor, action, subject, at) "
            "SELECT 'someone', 'paid', n::text, now() - interval '1 s' FROM generate_series(1, 3) AS n), "
            "customers AS (INSERT INTO customers (id) "
            "SELECT gen_random_uuid() FROM generate_series(1, 1500) RETURNING id) "
            "INSERT INTO pairings (id, customer_id, expires_at, next_wave_at) "
            "SELECT gen_random_uuid(), id, now() + interval '1 hour', NULL FROM customers"
        )
        await eventually(lambda: news_of(view), 10)
        (told,) = [message for message in view.received if message.get("activity") and message["type"] == "counts"]
        kinds = [each["kind"] for each in told["activity"]]
        assert kinds == ["operator"] * 3 + ["pairing"] * 47
        assert told["more_activity"] == 953, "of a thousand pairings, which are looked at"


async def test_the_end_of_an_instance_says_how(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        view = await dashboard(system, served, await system.account("viewer"))
        async with system.running() as leaves:
            assert leaves.node is not None
            await leaves.node.drain()
        died = f"died-{uuid.uuid4()}"
        await system.sql.execute(
            "INSERT INTO instances (id, name, version, state) VALUES ($1, 'd', '0', 'ready')", died
        )
        await system.sql.execute("UPDATE instances SET beat_at = now() - interval '13 s' WHERE id = $1", died)
        await system.sql.execute("DELETE FROM instances WHERE id = $1", died)
        ends = {leaves.node.id: "stopped", died: "died"}
        for name, how in ends.items():
            await until_told(view, name, ("instance", "started"), ("instance", how))

"""`/ws/dashboard`: what it is told, how soon, and that a slow one costs nobody anything."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from typing import Any

import pytest
import websockets

from hadir.db import pool
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from hadir.realtime import dashboards
from hadir.realtime.availability import Availability, Counts
from hadir.realtime.board import Board
from hadir.realtime.dashboards import Dashboards
from hadir.realtime.peer import Login
from tests.faults.test_interleavings import cut_off_from_postgres
from tests.support import eventually
from tests.support.system import FAST, Account, Phone, Served, System

CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}


FRAMES = ("hello", "sync", "counts", "presence")


async def dashboard(system: System, served: Served, account: Account, **options: Any) -> Phone:
    url = served.inner_url.replace("http", "ws") + "/ws/dashboard"
    return await system.watch(url, account, **options)


async def watched(system: System, role: str = "viewer") -> tuple[Served, Phone]:
    served = await system.instance()
    return served, await dashboard(system, served, await system.account(role))


def counts_of(view: Phone) -> dict[str, Any]:
    """The counts that the dashboard knows by now."""
    told = [message for message in view.received if "counts" in message]
    newest: dict[str, Any] = told[-1]["counts"]
    return newest


def changes_of(view: Phone, mitra: Account) -> list[tuple[str, str]]:
    listed = [change for message in view.received if message["type"] == "presence" for change in message["changes"]]
    told = [(change["state"], change["reason"]) for change in listed if change["mitra_id"] == mitra.id]
    return [each for each in told if each[1] != "created"]  # that is one, too, where it is read before the mitra comes


def told_of(view: Phone) -> set[str]:
    """The mitras that changes were listed of."""
    frames = [message for message in view.received if message["type"] == "presence"]
    return {change["mitra_id"] for frame in frames for change in frame["changes"]}


async def test_hello_has_all_that_a_dashboard_starts_from(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        await system.phone(served, await system.account())
        await system.available(served, 1)
        hello = (await dashboard(system, served, await system.account("operator"))).hello
        assert hello["role"] == "operator"
        assert hello["counts"] == {
            "online": 1,
            "suspect": 0,
            "available": 1,
            "busy": 0,
            "deactivated": 0,
            "connected": 1,
            "state": "live",
        }
        assert hello["sessions"] == dict.fromkeys(("pending_payment", "active", "ended", "expired", "cancelled"), 0)
        assert hello["pairings"] == {"waiting": 0, "oldest_s": None, "accept_p50_s": None, "accept_p95_s": None}
        (instance,) = hello["instances"]
        assert (instance["id"], instance["sockets"], instance["state"]) == (hello["instance"], 1, "ready")
        assert 0 <= instance["age_s"] < 12
        assert [(each["kind"], each["what"]) for each in hello["activity"]] == [("instance", "started")]


async def test_changes_on_any_instance_are_told_on_every_other(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, view = await watched(system)
        other, mitra = await system.instance(), await system.account()
        phone = await system.phone(other, mitra)
        await eventually(lambda: changes_of(view, mitra) == [("online", "connected")])
        await eventually(lambda: counts_of(view)["available"] == 1)
        phone.cut()
        await eventually(lambda: changes_of(view, mitra)[-1] == ("offline", "lost"))
        await eventually(lambda: (counts_of(view)["online"], counts_of(view)["connected"]) == (0, 0))
        changed, another = (await system.row(mitra))["changed_at"], await system.account()
        await eventually(lambda: served.node.feed.since > changed)  # type: ignore[union-attr]
        await system.phone(other, another)
        await eventually(lambda: changes_of(view, another))
        told = changes_of(view, mitra)
        assert told == [("online", "connected"), ("suspect", "lost"), ("offline", "lost")], "each once, in order"


async def test_another_programs_write_is_told_too(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        _, view = await watched(system)
        mitra = await system.account()
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", mitra.id)
        await eventually(lambda: ("offline", "external") in changes_of(view, mitra))
        await eventually(lambda: counts_of(view)["deactivated"] == 1)


async def test_sessions_are_read_from_their_table(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        _, view = await watched(system)
        mitra, customer = await system.account(), "7d1f7b2e-0000-4000-8000-000000000001"
        await system.sql.execute("INSERT INTO customers (id) VALUES ($1)", customer)
        await system.sql.execute(
            "INSERT INTO chat_sessions (id, customer_id, mitra_id, status, ended_at) VALUES "
            "(gen_random_uuid(), $1, $2, 'active', NULL), (gen_random_uuid(), $1, $2, 'ended', now()), "
            "(gen_random_uuid(), $1, $2, 'ended', now() - interval '2 days')",
            customer,
            mitra.id,
        )

        def told() -> bool:
            sessions = [message["sessions"] for message in view.received if message.get("sessions")][-1]
            return (sessions["active"], sessions["ended"]) == (1, 1)

        await eventually(told)


async def test_many_changes_at_once_are_listed_up_to_a_bound_and_counted_beyond(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, view = await watched(system)

        def told() -> int:
            frames = [message for message in view.received if message["type"] == "presence"]
            return sum(len(frame["changes"]) + frame["more"] for frame in frames)

        async with system.sql.transaction():  # nobody sees them before they are out of service
            *_, later = await system.accounts(501)
            await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id <> $1", later.id)
        await eventually(lambda: (counts_of(view)["deactivated"], told()) == (500, 501))
        await system.phone(served, later)
        await eventually(lambda: changes_of(view, later))
        assert max(len(frame["changes"]) for frame in view.received if frame["type"] == "presence") == 100
        assert told() == 502, "each is listed or counted, and once"


async def test_frames_are_at_most_two_a_second_of_bounded_size_whatever_happens(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        node, loop = served.node, asyncio.get_running_loop()
        assert node is not None
        mitras = await system.accounts(300)
        await system.sql.execute("UPDATE mitras SET display_name = repeat('x', 5000)")
        began, frames = loop.time(), 0
        asks_at = began
        view = await dashboard(system, served, await system.account("viewer"))
        while frames < 10:
            if loop.time() >= asks_at:
                await view.send(type="sync")
                asks_at = loop.time() + 0.3  # it may send five frames a second
            await system.sql.execute("UPDATE mitra_presence SET is_active = NOT is_active")
            node.dashboards.changed(mitra.id for mitra in mitras)
            await system.sql.execute("INSERT INTO audit_log (actor, action, subject) VALUES ('someone', 'paid', 'x')")
            told = [message for message in view.received if message["type"] in FRAMES]
            frames = len(told)
            assert loop.time() - began < 60
        lasted = loop.time() - began
        assert frames <= 2 * lasted + 1, f"{frames} frames in {lasted:.1f} s, hello and sync among them"
        assert max(len(json.dumps(message)) for message in told) < 64 * 1024


class _Noted:
    """A link whose peer reads: when it was given what."""

    busy = False

    def __init__(self) -> None:
        self.frames: list[tuple[float, dict[str, Any]]] = []

    def send(self, text: str) -> None:
        self.frames.append((time.monotonic(), json.loads(text)))

    def close(self, code: int) -> None:
        raise AssertionError(f"closed with {code}")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for _, message in self.frames if message["type"] == kind]


async def test_no_frame_comes_sooner_than_half_a_second_after_another(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        node = served.node
        assert node is not None
        mitras = await system.accounts(20)
        links = [_Noted() for _ in range(6)]
        asks: list[Any] = []
        for n, link in enumerate(links):
            login = Login(viewer.id, viewer.role, viewer.sid, 600.0)
            watcher = await node.dashboards.admit(login, checked=True)
            watcher.start(link)
            asks += [watcher] if n % 2 else []
            # So each begins at another time within a round, and goes on while all is news.
            while min(len(each.frames) for each in links[: n + 1]) < (10 if link is links[-1] else 2):
                await system.sql.execute("UPDATE mitra_presence SET is_active = NOT is_active")
                node.dashboards.changed(mitra.id for mitra in mitras)
                for each in asks:
                    each.send_state("x")
        for n, link in enumerate(links):
            gaps = [later - earlier for (earlier, _), (later, _) in pairwise(link.frames)]
            assert min(gaps) > dashboards.FRAME_S - 0.02, [message["type"] for _, message in link.frames]
            if n % 2:
                assert {message["re"] for message in link.of("sync")} == {"x"}
            else:
                assert link.of("counts"), "they take turns"
                assert all(message["changes"] for message in link.of("presence")), "who changed is listed"


async def test_postgres_that_hangs_does_not_hold_back_the_counts(
    valkey: EmbeddedValkey, own_postgres: EmbeddedPostgres
) -> None:
    before, (pool.COMMAND_S, pool.CONNECT_S) = (pool.COMMAND_S, pool.CONNECT_S), (60.0, 60.0)
    try:
        async with System(own_postgres.url, valkey.url, CALM | {"MITRA_OFFLINE_GRACE_SECONDS": "60"}) as system:
            served, view = await watched(system)
            mitra = await system.account()
            phone = await system.phone(served, mitra)
            await eventually(lambda: counts_of(view)["connected"] == 1)
            node = served.node
            assert node is not None
            own_postgres.freeze()
            try:
                await eventually(lambda: node.dashboards._asking.under_way)
                node.dashboards.changed([mitra.id])
                phone.cut()
                await eventually(lambda: counts_of(view)["connected"] == 0, 10)

                def unknown() -> bool:
                    told = [message for message in view.received if message["type"] == "counts"]
                    return told[-1]["sessions"] is None and told[-1]["pairings"] is None

                await eventually(unknown, 20)
                assert counts_of(view)["state"] == "live"
                assert node.postgres.available, "nobody has noticed yet"
            finally:
                own_postgres.thaw()
            await eventually(lambda: ("suspect", "lost") in changes_of(view, mitra), 10)
            await eventually(lambda: any(each.get("sessions") for each in view.received[-1:]), 10)
    finally:
        pool.COMMAND_S, pool.CONNECT_S = before


class _Slow(Availability):
    """Counts for as long as nobody lets it end."""

    def __init__(self) -> None:
        self.times = 0
        self.may_end = asyncio.Event()

    async def counts(self) -> Counts:
        self.times += 1
        await self.may_end.wait()
        return Counts(1, 0, 1, 0, 0, "live")


async def test_pages_that_come_at_once_share_a_count_however_long_it_takes(
    database: str, valkey: EmbeddedValkey
) -> None:
    before, dashboards.RECOUNT_S = dashboards.RECOUNT_S, 0.5
    try:
        async with System(database, valkey.url, CALM) as system:
            node = (await system.instance()).node
            assert node is not None
            slow = _Slow()
            board = Board(node.postgres, slow, connected=lambda: 0, instances=list)
            here = Dashboards(node.config, node.id, node.postgres, board, verify=node.sockets.verify)
            viewer = await system.account("viewer")
            login = Login(viewer.id, viewer.role, viewer.sid, 600.0)
            coming = [asyncio.create_task(here.admit(login, checked=True)) for _ in range(5)]
            began = time.monotonic()
            await eventually(lambda: time.monotonic() - began > 2.5 * dashboards.RECOUNT_S)
            slow.may_end.set()
            await asyncio.gather(*coming)
            assert slow.times == 1
    finally:
        dashboards.RECOUNT_S = before


async def test_one_account_cannot_take_all_places(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        views = [await dashboard(system, served, viewer) for _ in range(10)]
        with pytest.raises(websockets.InvalidStatus) as refused:
            await dashboard(system, served, viewer)
        assert refused.value.response.status_code == 429
        assert json.loads(refused.value.response.body or b"{}")["code"] == "too_many"
        await dashboard(system, served, await system.account("viewer"))
        await views[0].goodbye()
        assert served.node is not None
        await eventually(lambda: len(served.node.dashboards) == 10)  # type: ignore[union-attr]
        await dashboard(system, served, viewer)


async def test_a_dashboard_that_does_not_read_is_conflated_and_catches_up(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, view = await watched(system)
        node = served.node
        assert node is not None
        mitras = await system.accounts(3)
        await eventually(lambda: told_of(view) == {mitra.id for mitra in mitras})
        slow = await dashboard(system, served, await system.account("viewer"))
        deaf = max(node.dashboards, key=lambda each: each.session.last_beat)
        link = deaf._link
        deaf._link = _Stuck()
        for mitra in mitras:
            await system.phone(served, mitra)
        await eventually(lambda: counts_of(view)["available"] == 3)
        await eventually(lambda: all(changes_of(view, mitra) for mitra in mitras))
        heard = len(slow.received)
        deaf._link = link
        deaf.sent()
        await eventually(lambda: counts_of(slow)["available"] == 3)
        await slow.message("presence")
        caught_up = slow.received[heard:][:2]
        assert [message["type"] for message in caught_up] == ["counts", "presence"]
        assert [change["mitra_id"] for change in caught_up[1]["changes"]] == [mitra.id for mitra in mitras]
        assert caught_up[1]["more"] == 0


def paid_in(view: Phone) -> list[str]:
    """What was paid by what it was told after its `hello`."""
    told = [entry for message in view.received if message["type"] == "counts" for entry in message["activity"]]
    return [entry["subject"] for entry in told if entry["what"] == "paid"]


class _Stuck:
    """A link whose peer does not read."""

    busy = True

    def send(self, text: str) -> None:
        raise AssertionError("nothing is buffered for who does not read")

    def close(self, code: int) -> None:
        pass


async def test_one_that_reads_only_now_and_then_is_told_what_it_missed(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, view = await watched(system)
        node = served.node
        assert node is not None
        slow = await dashboard(system, served, await system.account("viewer"))
        behind = max(node.dashboards, key=lambda each: each.session.last_beat)
        link = behind._link
        insert = "INSERT INTO audit_log (actor, action, subject) VALUES ('someone', 'paid', $1)"
        told: list[str] = []

        async def paid() -> None:
            told.append(str(len(told)))
            await system.sql.execute(insert, told[-1])

        for _ in range(3):
            behind._link = _Stuck()
            await paid()
            await eventually(lambda: paid_in(view) == told, 10)
            assert paid_in(slow) == told[:-1]
            await paid()
            behind._link = link  # it reads again just when there is news for all
            await eventually(lambda: paid_in(slow) == told, 10)
            assert paid_in(view) == told


async def test_it_answers_and_refuses_as_any_socket_does(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, view = await watched(system)
        assert (await view.ask(type="ping"))["type"] == "pong"
        assert (await view.ask(type="sync"))["counts"]["online"] == 0
        refused = await view.ask(type="status", online=True)
        assert (refused["code"], refused["field"]) == ("unknown_type", "type")
        mitra = await system.account()
        with pytest.raises(websockets.InvalidStatus) as wrong:
            await dashboard(system, served, mitra)
        assert wrong.value.response.status_code == 403
        with pytest.raises(websockets.InvalidStatus) as crossed:
            await system.watch(served.ws_url(), await system.account("viewer"))
        assert crossed.value.response.status_code == 403
        assert json.loads(crossed.value.response.body or b"{}")["code"] == "wrong_role"


async def test_a_page_of_the_listener_itself_may_open_it_and_no_other(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, _ = await watched(system)
        viewer = await system.account("viewer")
        await dashboard(system, served, viewer, origin=served.inner_url)
        with pytest.raises(AssertionError):
            await dashboard(system, served, viewer, origin="https://evil.example")


async def test_a_login_that_is_revoked_ends_its_dashboards_everywhere(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other = await system.instance(), await system.instance()
        operator, viewer = await system.account("operator"), await system.account("viewer")
        view = await dashboard(system, other, viewer)
        url = f"{served.inner_url}/api/internal/auth-sessions/{viewer.sid}/revoke"
        assert (await system.http.post(url, headers=operator.bearer)).status_code == 200
        assert await view.ended() == 4501


async def test_with_both_stores_away_it_says_so_and_recovers(
    valkey: EmbeddedValkey, own_postgres: EmbeddedPostgres
) -> None:
    async with System(own_postgres.url, valkey.url, CALM) as system:
        served, view = await watched(system)
        await system.phone(served, await system.account())
        await eventually(lambda: counts_of(view)["available"] == 1)
        own_postgres.kill()
        await valkey.stop()
        await eventually(lambda: counts_of(view)["state"] == "stale", 15)
        assert counts_of(view)["available"] == 1, "what was last known"
        await own_postgres.start()
        await valkey.start()
        await eventually(lambda: counts_of(view)["state"] == "live", 20)


async def test_a_drain_sends_dashboards_elsewhere(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, view = await watched(system)
        assert served.node is not None
        draining = asyncio.create_task(served.node.drain())
        assert (await view.message("reconnect"))["reason"] == "restarting"
        assert await view.ended() == 1012
        await draining


async def test_nobody_pays_for_dashboards_that_nobody_has(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        assert served.node is not None
        await system.phone(served, await system.account())
        assert len(served.node.dashboards) == 0
        assert not served.node.dashboards._movers.due


async def test_a_login_that_could_not_be_checked_is_checked_as_soon_as_it_can_be(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        good, revoked = await system.account("viewer"), await system.account("viewer")
        await system.sql.execute(
            "UPDATE auth_sessions SET revoked_at = now() - interval '1 hour' WHERE id = $1", revoked.sid
        )
        assert served.node is not None
        async with cut_off_from_postgres(served.node):
            views = [await dashboard(system, served, account) for account in (good, revoked)]
        assert await views[1].ended(10) == 4501
        assert (await views[0].ask(type="ping"))["type"] == "pong"


async def test_what_changed_while_postgres_could_not_be_asked_is_told_after(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, view = await watched(system)
        other, mitra = await system.instance(), await system.account()
        assert served.node is not None
        async with cut_off_from_postgres(served.node):
            await system.phone(other, mitra)
            served.node.dashboards.changed([mitra.id])
        await eventually(lambda: changes_of(view, mitra) == [("online", "connected")], 10)

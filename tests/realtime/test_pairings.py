"""A pairing's life on real instances: offered in waves, accepted by one, told to everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import websockets

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.told import Told
from tests.support import eventually
from tests.support.market import CALM, Market, of_pairing, of_session
from tests.support.system import Account, Phone, Served, System


@pytest.fixture
async def market(database: str, valkey: EmbeddedValkey) -> AsyncIterator[Market]:
    async with System(database, valkey.url, CALM) as system:
        yield Market(system)


async def two(market: Market, **settings: str) -> tuple[Served, Served]:
    first, second = await asyncio.gather(*(market.system.instance(**settings) for _ in range(2)))
    return first, second


async def waiting(market: Market, served: Served, customer: Account, pairing_id: str) -> asyncio.Task[httpx.Response]:
    """A request that waits for a pairing to be decided."""
    asked = market.system.ask(served, customer, "GET", f"/api/pairings/{pairing_id}", params={"wait": "20"}, timeout=25)
    task = asyncio.create_task(asked)
    await eventually(lambda: served.node.waiters.of([customer.id]))  # type: ignore[union-attr]
    return task


async def test_a_pairing_is_offered_accepted_paid_and_chatted_in(market: Market) -> None:
    first, second = await two(market)
    system = market.system
    _, phone = await market.mitra(first)
    _, loser = await market.mitra(second)
    customer = await system.account("customer")
    app = await system.customer(second, customer)
    pairing = await system.pair(second, customer, "Kucing saya sakit")
    assert (await phone.message("offer"))["note"] == "Kucing saya sakit"
    await loser.message("offer")
    won = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
    assert (won["type"], won["result"], won["session"]["status"]) == ("offer.result", "won", "pending_payment")
    assert (await loser.message("offer.closed"))["reason"] == "taken"
    assert (await loser.ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "taken"
    assert (await phone.ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "won"
    assert (await app.message("pairing.updated"))["pairing"]["status"] == "searching"
    told = await eventually(
        lambda: next((m for m in app.received if m["type"] == "pairing.updated" and m["pairing"]["mitra_id"]), None)
    )
    assert (told["pairing"]["status"], told["pairing"]["session_id"]) == ("accepted", won["session"]["id"])
    paid = (await market.paid(first, won["session"]["id"])).json()
    assert (await market.told(app, paid))["status"] == (await market.told(phone, paid))["status"] == "active"
    await phone.ask(type="chat.send", session_id=paid["id"], client_id="1", body="Halo")
    assert (await app.message("chat.message"))["message"]["body"] == "Halo"


# waves


async def test_waves_follow_one_another_down_the_queue_and_take_in_newcomers(market: Market) -> None:
    served = await market.system.instance(PAIRING_WAVE_SIZE="1", PAIRING_WAVE_SECONDS="0.5")
    ids = []
    for days_ago in (3, 2):
        account, _ = await market.mitra(served)
        await market.system.sql.execute(
            "UPDATE mitra_presence SET last_session_at = now() - make_interval(days => $2) WHERE mitra_id = $1",
            account.id,
            days_ago,
        )
        ids.append(account.id)
    await eventually(lambda: queue_is(market, ids))
    pairing = await market.system.pair(served, await market.system.account("customer"))

    async def offered(count: int) -> list[Any]:
        asked = "SELECT mitra_id, wave, offered_at FROM pairing_offers WHERE pairing_id = $1 ORDER BY wave"
        records = await market.system.sql.fetch(asked, pairing["id"])
        return list(records) if len(records) >= count else []

    first, second = await eventually(lambda: offered(2))
    assert ([first["mitra_id"], second["mitra_id"]], first["wave"], second["wave"]) == (ids, 1, 2)
    assert 0.45 <= (second["offered_at"] - first["offered_at"]).total_seconds() < 3
    await eventually(lambda: wave_of(market, pairing["id"], 3))
    newcomer, phone = await market.mitra(served)
    assert (await phone.message("offer"))["pairing_id"] == pairing["id"]
    third = (await offered(3))[2]
    assert third["mitra_id"] == newcomer.id
    assert third["wave"] > 2
    assert (await phone.ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "won"


async def test_the_queue_has_one_order_in_both_stores(market: Market, valkey: EmbeddedValkey) -> None:
    served = await market.system.instance()
    assert served.node is not None
    ids: list[str] = []
    for open_sessions, days_ago in ((0, None), (0, 9), (0, 1), (1, None), (1, 5), (2, 9)):
        account, _ = await market.mitra(served, max_sessions=3)
        await market.system.sql.execute(
            "UPDATE mitra_presence SET open_sessions = $2, last_session_at = now() - make_interval(days => $3) "
            "WHERE mitra_id = $1",
            account.id,
            open_sessions,
            days_ago,
        )
        ids.append(account.id)
    await eventually(lambda: queue_is(market, ids))
    assert await served.node.availability.queue(10) == (ids, "live")
    valkey.freeze()
    try:
        assert await served.node.availability.queue(10) == (ids, "rebuilding")
    finally:
        valkey.thaw()


# a mitra and its offers


async def test_a_mitra_that_reconnects_finds_its_open_offers_and_marks_are_kept(market: Market) -> None:
    first, second = await two(market)
    mitra, phone = await market.mitra(first)
    customer = await market.system.account("customer")
    pairing = await market.offered(second, customer, phone)
    again = await market.system.phone(second, mitra)
    (offer,) = again.hello["state"]["offers"]
    assert (offer["pairing_id"], offer["expires_at"]) == (pairing["id"], pairing["expires_at"])

    async def marks() -> dict[str, Any]:
        answer = await market.operator(first, "GET", f"/api/internal/pairings/{pairing['id']}")
        found: dict[str, Any]
        (found,) = answer.json()["offers"]
        return found

    delivered = await eventually(lambda: _if(marks, "delivered_at"))
    assert (delivered["seen_at"], delivered["answered_at"], delivered["status"]) == (None, None, "open")
    assert (await again.ask(type="offer.seen", pairing_id=pairing["id"]))["type"] == "ack"
    seen = await marks()
    assert seen["delivered_at"] == delivered["delivered_at"]
    assert delivered["offered_at"] <= seen["delivered_at"] <= seen["seen_at"]
    assert (await again.ask(type="offer.decline", pairing_id=pairing["id"]))["type"] == "ack"
    assert (await again.ask(type="offer.decline", pairing_id=pairing["id"]))["type"] == "ack", "it was already"
    answered = await marks()
    assert (answered["status"], answered["answered_at"] >= seen["seen_at"]) == ("declined", True)
    assert (await again.ask(type="sync"))["state"]["offers"] == []
    assert (await again.ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "withdrawn"


async def test_who_does_not_want_any_gets_no_offers_until_it_does(market: Market) -> None:
    served = await market.system.instance()
    (_, phone), (mitra, off) = await market.mitra(served), await market.mitra(served)
    pairing = await market.offered(served, await market.system.account("customer"), phone, off)
    await off.ask(type="status", online=False)
    assert (await off.ask(type="sync"))["state"]["offers"] == []
    later = await market.offered(served, await market.system.account("customer"), phone)
    await eventually(lambda: wave_of(market, later["id"], 3))
    assert of_pairing(off, "offer", later["id"]) is None
    heard = len(off.received)
    await off.ask(type="status", online=True)
    for offered in (pairing, later):
        await eventually(partial(_told_since, off, heard, offered["id"]))
    state = await market.system.ask(served, mitra, "GET", "/api/mitra/state")
    assert {offer["pairing_id"] for offer in state.json()["offers"]} == {pairing["id"], later["id"]}


async def test_an_offer_that_is_not_shown_is_not_marked_as_delivered(market: Market) -> None:
    served = await market.system.instance()
    off, on = await market.system.accounts(2)
    for mitra in (off, on):
        await market.system.ask(served, mitra, "POST", "/api/mitra/status/online")
    await market.queued(off, on)
    pairing = await market.system.pair(served, await market.system.account("customer"))

    async def marks() -> dict[str, Any]:
        asked = "SELECT mitra_id::text, delivered_at FROM pairing_offers WHERE pairing_id = $1"
        return {each["mitra_id"]: each["delivered_at"] for each in await market.system.sql.fetch(asked, pairing["id"])}

    async def state(mitra: Account) -> list[Any]:
        answer = await market.system.ask(served, mitra, "GET", "/api/mitra/state")
        return list(answer.json()["offers"])

    async def is_marked(mitra: Account) -> bool:
        return (await marks())[mitra.id] is not None

    await eventually(lambda: _both(marks))
    await market.system.ask(served, off, "POST", "/api/mitra/status/offline")
    assert await state(off) == []
    assert len(await state(on)) == 1
    await eventually(lambda: is_marked(on))  # marks are stored in their order
    assert not await is_marked(off)
    await market.system.ask(served, off, "POST", "/api/mitra/status/online")
    assert len(await state(off)) == 1
    await eventually(lambda: is_marked(off))


async def test_who_accepts_over_http_hears_of_it_on_its_socket(market: Market) -> None:
    first, second = await two(market)
    mitra, phone = await market.mitra(first)
    other, loser = await market.mitra(first)
    pairing = await market.offered(first, await market.system.account("customer"), phone, loser)
    answer = await market.system.ask(second, mitra, "POST", f"/api/mitra/offers/{pairing['id']}/accept")
    assert (answer.status_code, answer.json()["result"]) == (200, "won")
    told = await phone.message("offer.result")
    assert (told["result"], told["session"]["id"], told.get("re")) == ("won", answer.json()["session"]["id"], None)
    assert (await loser.message("offer.closed"))["reason"] == "taken"
    assert of_pairing(phone, "offer.closed", pairing["id"]) is None
    late = await market.system.ask(second, other, "POST", f"/api/mitra/offers/{pairing['id']}/accept")
    assert late.json() == {"result": "taken", "session": None}
    declined = await market.system.ask(second, mitra, "POST", f"/api/mitra/offers/{pairing['id']}/decline")
    assert declined.json() == {"result": "won"}


async def test_a_busy_mitra_wins_once_its_session_has_ended(market: Market) -> None:
    served = await market.system.instance()
    _, phone = await market.mitra(served)
    customer, next_one = await market.system.accounts(2, "customer")
    waiting_pairing = await market.offered(served, next_one, phone)
    session = await market.won(served, customer, phone)
    busy = await phone.ask(type="offer.accept", pairing_id=waiting_pairing["id"])
    assert (busy["result"], busy.get("session")) == ("busy", None)
    assert len((await phone.ask(type="sync"))["state"]["offers"]) == 1, "the offer stays"
    assert (await phone.ask(type="session.end", session_id=session["id"]))["type"] == "ack"
    assert (await phone.ask(type="offer.accept", pairing_id=waiting_pairing["id"]))["result"] == "won"


async def test_a_suspect_mitras_accept_counts_and_begins_its_grace_anew(market: Market) -> None:
    served = await market.system.instance()
    mitra, phone = await market.mitra(served)
    pairing = await market.offered(served, await market.system.account("customer"), phone)
    phone.cut()
    suspected = (await market.system.becomes(mitra, "suspect"))["suspect_since"]
    answer = await market.system.ask(served, mitra, "POST", f"/api/mitra/offers/{pairing['id']}/accept")
    assert answer.json()["result"] == "won"
    row = await market.system.row(mitra)
    assert (row["state"], row["open_sessions"]) == ("suspect", 1)
    assert row["suspect_since"] > suspected
    back = await market.system.phone(served, mitra)
    assert [each["id"] for each in back.hello["state"]["sessions"]] == [answer.json()["session"]["id"]]


async def test_a_waiting_request_of_a_mitra_hears_of_offers_and_by_its_etag_of_what_it_missed(market: Market) -> None:
    first, second = await two(market)
    mitra = await market.system.account()
    assert (await market.system.ask(first, mitra, "POST", "/api/mitra/status/online")).status_code == 200
    await market.queued(mitra)
    state = await market.system.ask(first, mitra, "GET", "/api/mitra/state")
    assert (state.json()["offers"], state.json()["sessions"]) == ([], [])
    asked = market.system.ask(second, mitra, "GET", "/api/mitra/state", params={"wait": "20"}, timeout=25)
    waiter = asyncio.create_task(asked)
    await eventually(lambda: market.system.waits(second, mitra))
    pairing = await market.system.pair(first, await market.system.account("customer"))
    (offer,) = (await asyncio.wait_for(waiter, 5)).json()["offers"]
    assert offer["pairing_id"] == pairing["id"]
    since = {"If-None-Match": state.headers["etag"]}
    missed = await market.system.ask(
        first, mitra, "GET", "/api/mitra/state", params={"wait": "20"}, headers=since, timeout=5
    )
    assert len(missed.json()["offers"]) == 1, "and did not wait"


# the customer's side


async def test_whoever_waits_anywhere_is_answered_at_once_when_it_is_decided(market: Market) -> None:
    first, second = await two(market)
    mitra, phone = await market.mitra(first)
    customer = await market.system.account("customer")

    async def decided_by(action: Any, *, within: float) -> dict[str, Any]:
        waiter = await waiting(market, second, customer, pairing["id"])
        answered, began = await action, time.monotonic()
        found: dict[str, Any] = (await asyncio.wait_for(waiter, within + 3)).json()
        took = time.monotonic() - began
        assert took < within, f"{took:.2f} s after it was {found['status']} ({answered})"
        return found

    pairing = await market.offered(first, customer, phone)
    path = f"/api/pairings/{pairing['id']}"
    found = await decided_by(market.system.ask(first, customer, "DELETE", path), within=1)
    assert (found["status"], found["session"]) == ("cancelled", None)
    assert (await phone.message("offer.closed"))["reason"] == "cancelled"
    again = await market.system.ask(second, customer, "DELETE", path)
    assert (again.status_code, again.json()) == (200, found)

    pairing = await market.offered(first, customer, phone)
    found = await decided_by(phone.ask(type="offer.accept", pairing_id=pairing["id"]), within=1)
    assert (found["status"], found["mitra_id"]) == ("accepted", mitra.id)
    assert (found["session"]["id"], found["session"]["status"]) == (found["session_id"], "pending_payment")
    late = await market.system.ask(first, customer, "DELETE", f"/api/pairings/{pairing['id']}")
    assert (late.status_code, late.json()["code"], late.json()["state"]) == (409, "wrong_state", "accepted")


async def test_a_search_ends_five_seconds_after_the_shown_deadline_and_everybody_hears_it(market: Market) -> None:
    first, second = await two(market, PAIRING_TIMEOUT_SECONDS="0.5")
    _, phone = await market.mitra(first)
    customer = await market.system.account("customer")
    app = await market.system.customer(second, customer)
    pairing = await market.offered(first, customer, phone)
    waiter = await waiting(market, second, customer, pairing["id"])
    found = (await asyncio.wait_for(waiter, 10)).json()
    assert found["status"] == "expired"
    late = await market.system.sql.fetchval(
        "SELECT extract(epoch FROM decided_at - expires_at)::float8 FROM pairings WHERE id = $1", pairing["id"]
    )
    assert 5.0 <= late < 6.0
    assert (await phone.message("offer.closed"))["reason"] == "expired"
    await eventually(lambda: any(m["pairing"]["status"] == "expired" for m in app.received if "pairing" in m))
    assert (await phone.ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "expired"
    gone = await market.system.ask(first, customer, "DELETE", f"/api/pairings/{pairing['id']}")
    assert (gone.status_code, gone.json()["state"]) == (409, "expired")


async def test_what_is_asked_wrongly_is_said(market: Market) -> None:
    served = await market.system.instance()
    customer, other = await market.system.accounts(2, "customer")

    async def create(key: str | None, note: Any = "", who: Account = customer) -> tuple[int, str, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await market.system.ask(
            served, who, "POST", "/api/pairings", headers=headers, json={} if note == "" else {"note": note}
        )
        body = answer.json()
        return answer.status_code, body.get("code", body.get("id")), body.get("pairing_id", body.get("field"))

    assert await create(None) == (422, "bad_field", "Idempotency-Key")
    assert await create("k" * 101) == (422, "bad_field", "Idempotency-Key")
    for note in ("x" * 501, 7, "a\0b"):
        assert await create("k", note) == (422, "bad_field", "note")
    status, pairing_id, _ = await create("k", "x" * 500)
    assert status == 201
    assert await create("k", "x" * 500) == (201, pairing_id, None)
    assert (await create("k", "y"))[:2] == (422, "key_reused")
    assert await create("another") == (409, "pairing_open", pairing_id)
    for method in ("GET", "DELETE"):
        for path in (f"/api/pairings/{pairing_id}", f"/api/pairings/{customer.id}"):
            answer = await market.system.ask(served, other, method, path)
            assert (answer.status_code, method, path) == (404, method, path)
    mitra = await market.system.account()
    assert (await create("k", who=mitra))[0] in (401, 403)
    answer = await market.system.ask(served, customer, "GET", f"/api/pairings/{pairing_id}", params={"wait": "26"})
    assert (answer.status_code, answer.json()["field"]) == (422, "wait")


# handing a session over


async def test_a_session_is_handed_over_with_everybody_told(market: Market) -> None:
    first, second = await two(market)
    has, old = await market.mitra(first)
    customer = await market.system.account("customer")
    app = await market.system.customer(second, customer)
    session = await market.won(first, customer, old, status="active")
    gets, new = await market.mitra(second)
    path = f"/api/sessions/{session['id']}/reroute"
    answer = await market.system.ask(second, customer, "POST", path)
    rerouting = answer.json()
    assert (answer.status_code, rerouting["status"], rerouting["reroute"]) == (201, "searching", True)
    assert rerouting["session"] == rerouting["session"] | {"id": session["id"], "mitra_id": has.id}
    assert (await new.message("offer"))["reroute"] is True
    won = await new.ask(type="offer.accept", pairing_id=rerouting["id"])
    assert (won["result"], won["session"]["id"], won["session"]["mitra_id"]) == ("won", session["id"], gets.id)
    assert won["session"]["expires_at"] == session["expires_at"]
    for told in (old, app):
        assert (await market.told(told, won["session"]))["mitra_id"] == gets.id
    await eventually(lambda: any(m["pairing"]["status"] == "accepted" and m["pairing"]["id"] == rerouting["id"]
                                 for m in app.received if m["type"] == "pairing.updated"))  # fmt: skip
    assert of_pairing(old, "offer", rerouting["id"]) is None
    assert (await old.ask(type="sync"))["state"]["sessions"] == []
    mine = await market.system.ask(first, has, "GET", f"/api/sessions/{session['id']}")
    assert mine.status_code == 404
    refused = await old.ask(type="chat.send", session_id=session["id"], client_id="1", body="Halo")
    assert refused["code"] == "unknown_session"
    assert (await market.system.row(has))["open_sessions"] == 0
    full = (await market.operator(first, "GET", f"/api/internal/sessions/{session['id']}")).json()
    assert [each["mitra_id"] for each in full["pairings"]] == [has.id, gets.id]
    assert [(each["state"], each["external_id"]) for each in full["payments"]] == [("paid", session["id"])]
    back = (await market.operator(first, "POST", f"/api/internal/sessions/{session['id']}/reroute")).json()
    await eventually(lambda: wave_of(market, back["id"], 3))
    offers = await market.operator(first, "GET", f"/api/internal/pairings/{back['id']}")
    assert offers.json()["offers"] == [], "both had it"


async def test_whoever_asks_too_often_is_refused_whichever_way_it_asks(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hadir.http.pace.time", SimpleNamespace(monotonic=lambda: 1_000.0))  # nobody earns anything
    served = await market.system.instance()
    one, other, patient = await market.system.accounts(3, "customer")
    _, phone = await market.mitra(served, max_sessions=2)

    async def ask(who: Account, path: str) -> httpx.Response:
        return await market.system.ask(served, who, "POST", path, headers={"Idempotency-Key": "the same"})

    for customer in (one, other):
        session = await market.won(served, customer, phone, status="active")
        ways = ["/api/pairings", f"/api/sessions/{session['id']}/reroute"]
        first, second = ways if customer is one else reversed(ways)
        statuses = [(await ask(customer, first)).status_code for _ in range(15)]
        assert (statuses[0], statuses[-1]) == (201, 429)
        for path in (first, second):
            refused = await ask(customer, path)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    assert (await ask(patient, "/api/pairings")).status_code == 201


async def test_a_search_for_a_session_that_ends_is_over(market: Market) -> None:
    first, second = await two(market)
    _, old = await market.mitra(first)
    customer = await market.system.account("customer")
    app = await market.system.customer(first, customer)
    session = await market.won(first, customer, old, status="active")
    _, new = await market.mitra(second)
    rerouting = await market.system.ask(first, customer, "POST", f"/api/sessions/{session['id']}/reroute")
    pairing_id = (await new.message("offer"))["pairing_id"]
    assert pairing_id == rerouting.json()["id"]
    await old.ask(type="session.end", session_id=session["id"])
    assert (await new.message("offer.closed", within=1.5))["reason"] == "cancelled"
    await eventually(lambda: any(m["pairing"]["status"] == "cancelled" for m in app.received if "pairing" in m))
    assert (await new.ask(type="offer.accept", pairing_id=pairing_id))["result"] == "withdrawn"
    again = await market.system.ask(first, customer, "POST", f"/api/sessions/{session['id']}/reroute")
    assert (again.status_code, again.json()["state"]) == (409, "ended")


async def test_what_began_and_ended_before_anybody_could_read_it_is_told_to_who_was_there(market: Market) -> None:
    """As after a moment in which an instance or its connection stood still."""
    served = await market.system.instance()
    mitra, phone = await market.mitra(served)
    customer = await market.system.account("customer")
    app, sql = await market.system.customer(served, customer), market.system.sql
    async with sql.transaction():
        session_id = await sql.fetchval(
            "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) "
            "VALUES (gen_random_uuid(), $1, $2, 'active') RETURNING id",
            *(customer.id, mitra.id),
        )
        pairing_id = await sql.fetchval(
            "INSERT INTO pairings (id, customer_id, mitra_id, session_id, status, expires_at) "
            "VALUES (gen_random_uuid(), $1, $2, $3, 'accepted', now() + interval '1 min') RETURNING id",
            *(customer.id, mitra.id, session_id),
        )
        await sql.execute("UPDATE chat_sessions SET status = 'ended' WHERE id = $1", session_id)
    assert served.node is not None
    served.node.market.bell.ring(customers=[customer.id], mitras=[mitra.id])
    assert (await app.message("pairing.updated"))["pairing"]["id"] == str(pairing_id)
    for there in (app, phone):
        told = (await there.message("session.updated"))["session"]
        assert (told["id"], told["status"]) == (str(session_id), "ended")

    late = await market.system.customer(served, customer)
    assert (late.hello["state"]["pairings"], late.hello["state"]["sessions"]) == ([], [])
    served.node.market.bell.ring(customers=[customer.id])
    await late.ask(type="sync")
    assert [each["type"] for each in late.received if each["type"].endswith(".updated")] == [], "it was not there"
    assert [each["type"] for each in app.received].count("session.updated") == 1


async def test_what_ended_long_after_it_began_is_told_only_to_the_device_that_knew_of_it(market: Market) -> None:
    """Also where one reading is for both."""
    served = await market.system.instance()
    assert served.node is not None
    (mitra, _), customer = await market.mitra(served), await market.system.account("customer")
    sql, work, told = market.system.sql, served.node.work, Told(customer.id)
    session_id = await sql.fetchval(
        "INSERT INTO chat_sessions (id, customer_id, mitra_id, status, created_at) "
        "VALUES (gen_random_uuid(), $1, $2, 'active', now() - interval '1 h') RETURNING id",
        *(customer.id, mitra.id),
    )
    told.hear(await work.submit("customer", told))
    assert [*told.sessions] == [str(session_id)]
    await sql.execute("UPDATE chat_sessions SET status = 'ended' WHERE id = $1", session_id)
    other = Told(customer.id)
    readings = await asyncio.gather(*(work.submit("customer", each) for each in (told, other)))
    heard = [each.hear(reading).frames for each, reading in zip((told, other), readings, strict=True)]
    assert [len(frames) for frames in heard] == [1, 0]


async def test_a_customer_sees_whether_its_mitra_is_reachable(market: Market) -> None:
    first, second = await two(market)
    mitra, phone = await market.mitra(first)
    customer = await market.system.account("customer")
    app = await market.system.customer(second, customer)
    session = await market.won(first, customer, phone)
    assert (await market.told(app, session))["mitra_reachable"] is True
    await phone.goodbye()
    await eventually(lambda: of_session(app, session["id"])[-1]["mitra_reachable"] is False)
    await market.system.phone(second, mitra)
    await eventually(lambda: of_session(app, session["id"])[-1]["mitra_reachable"] is True)
    assert {each["status"] for each in of_session(app, session["id"])} == {"pending_payment"}, "it is untouched"


# customers' sockets


async def test_a_customer_may_have_several_devices_but_not_any_number(market: Market) -> None:
    first, second = await two(market)
    customer = await market.system.account("customer")
    apps = [await market.system.customer(first, customer) for _ in range(8)]
    apps.append(await market.system.customer(second, customer))
    with pytest.raises(websockets.InvalidStatus) as refused:
        await market.system.customer(first, customer)
    assert refused.value.response.status_code == 429
    pairing = await market.system.pair(second, customer)
    for app in apps:
        assert (await app.message("pairing.updated"))["pairing"]["id"] == pairing["id"]
    await apps[0].goodbye()
    await eventually(lambda: len(first.node.customers) == 7)  # type: ignore[union-attr]
    again = await market.system.customer(first, customer)
    assert [each["id"] for each in again.hello["state"]["pairings"]] == [pairing["id"]]


async def test_a_customers_revoked_login_is_closed_and_the_other_is_not(market: Market) -> None:
    first, second = await two(market)
    customer = await market.system.account("customer")
    other_login = await market.system.account("customer", sub=customer.id)
    app, other = await market.system.customer(first, customer), await market.system.customer(first, other_login)
    answer = await market.operator(second, "POST", f"/api/internal/auth-sessions/{customer.sid}/revoke")
    assert answer.status_code == 200
    assert await app.ended(within=2) == 4501
    assert (await other.ask(type="ping"))["type"] == "pong"
    with pytest.raises(websockets.InvalidStatus) as refused:
        await market.system.customer(second, customer)
    assert refused.value.response.status_code == 401


async def test_a_drain_asks_customers_to_come_elsewhere_and_closes_those_that_stay(market: Market) -> None:
    customer = await market.system.account("customer")
    async with market.system.running() as served:
        app: Phone = await market.system.customer(served, customer)
        drain = asyncio.create_task(served.node.drain())  # type: ignore[union-attr]
        assert (await app.message("reconnect"))["reason"] == "restarting"
        assert await app.ended() == 1012
        await drain


async def queue_is(market: Market, ids: list[str]) -> bool:
    return bool(await market.system.valkey.zrange("mitras:queue", 0, -1) == ids)


async def wave_of(market: Market, pairing_id: str, number: int) -> bool:
    wave = await market.system.sql.fetchval("SELECT wave FROM pairings WHERE id = $1", pairing_id)
    return bool(wave >= number)


async def _both(marks: Any) -> bool:
    return len(await marks()) == 2


async def _if(read: Any, name: str) -> dict[str, Any] | None:
    found: dict[str, Any] = await read()
    return found if found[name] else None


def _told_since(phone: Phone, heard: int, pairing_id: str) -> bool:
    return any(m["type"] == "offer" and m["pairing_id"] == pairing_id for m in phone.received[heard:])

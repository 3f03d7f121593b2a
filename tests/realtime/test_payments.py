"""Payments: what the provider says is kept first and understood afterwards; nothing that was paid is ever lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.market import CALM, TOKEN, Market, invoice
from tests.support.system import Account, Phone, Served, System


@pytest.fixture
async def market(database: str, valkey: EmbeddedValkey) -> AsyncIterator[Market]:
    async with System(database, valkey.url, CALM) as system:
        yield Market(system)


async def trade(market: Market, served: Served) -> tuple[dict[str, Any], Phone, Phone, Account]:
    """A session that waits for its payment, and the sockets of both its sides."""
    _, phone = await market.mitra(served)
    customer = await market.system.account("customer")
    app = await market.system.customer(served, customer)
    return await market.won(served, customer, phone), phone, app, customer


async def pages(market: Market, served: Served, kind: str, **asked: Any) -> list[dict[str, Any]]:
    """Everything that a list of the control centre has, by pages of two."""
    found: list[dict[str, Any]] = []
    asked["limit"] = 2
    while True:
        answer = await market.operator(served, "GET", f"/api/internal/{kind}", params=asked)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page[kind]) <= 2
        found += page[kind]
        if page["next"] is None:
            return found
        asked["cursor"] = page["next"]


async def test_a_payment_activates_a_session_and_both_sides_hear_it(market: Market) -> None:
    served, other = await market.system.instance(), await market.system.instance()
    session, phone, app, _ = await trade(market, served)
    answer = await market.webhook(other, invoice(session["id"], id="inv-1"))
    assert (answer.status_code, answer.json()) == (200, {"stored": True})
    row = await market.becomes(session["id"], "active")
    for told in (phone, app):
        assert (await market.told(told, row))["status"] == "active"
    assert (row["expires_at"] - row["started_at"]).total_seconds() == pytest.approx(1800, abs=1)
    (payment,) = await pages(market, served, "payments")
    expected = {"external_id": session["id"], "invoice_id": "inv-1", "session_id": session["id"], "state": "paid"}
    assert payment.items() >= (expected | {"amount": 50_000}).items()
    assert type(payment["amount"]) is int


async def test_only_the_provider_may_say_so(market: Market) -> None:
    served = await market.system.instance()
    for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "x"):
        answer = await market.webhook(served, invoice("x"), token)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json"), token
    assert (await market.system.http.get(f"{served.url}/webhooks/xendit")).status_code == 405
    assert not await market.system.sql.fetchval("SELECT count(*) FROM webhook_events")


async def test_without_a_token_of_its_own_there_is_no_webhook(database: str, valkey: EmbeddedValkey) -> None:
    settings = {name: value for name, value in CALM.items() if name != "XENDIT_CALLBACK_TOKEN"}
    async with System(database, valkey.url, settings) as system:
        served = await system.instance()
        for token in (None, "", "None"):
            assert (await Market(system).webhook(served, {"id": "x"}, token)).status_code == 404


async def test_junk_is_refused_or_kept_and_stops_nothing(market: Market) -> None:
    served = await market.system.instance()
    session, *_ = await trade(market, served)
    url, headers = f"{served.url}/webhooks/xendit", {"x-callback-token": TOKEN}

    async def send(content: bytes, kind: str = "application/json") -> int:
        answer = await market.system.http.post(url, content=content, headers=headers | {"content-type": kind})
        return answer.status_code

    for content in (b"", b"{}", b"[]", b"7", b"null", b"{", b'"PAID"', b"\xff", b'{"a": NaN}', b'{"a": "\\ud800"}'):
        assert await send(content) == 422, content
    assert await send(b'{"id": "\\u0000"}') == 422, "what Postgres cannot keep"
    assert await send(b'{"id": "x"}', "text/plain") == 415
    assert await send(b'{"id": "' + b"x" * 70_000 + b'"}') == 413
    paid = invoice(session["id"])
    odd: list[dict[str, Any]] = [
        {"a": "b"},
        paid | {"status": ["PAID"]},
        paid | {"status": None},
        paid | {"id": {"x": 1}},
        paid | {"external_id": "order-7"},
        {"event": "payment.succeeded", "data": {"nested": [1, 2.5, None]}},
    ]
    for body in odd:
        assert (await market.webhook(served, body)).status_code == 200, body
    outcomes = await market.dealt_with()
    assert [each.startswith("ignored: ") for each in outcomes] == [True] * len(odd)
    strange = paid | {"amount": 1e300, "paid_at": "0001-01-01T00:00:00+14:00", "extra": {"deep": [[[]]]}}
    assert (await market.webhook(served, strange)).status_code == 200
    await market.becomes(session["id"], "active")
    assert (await pages(market, served, "payments"))[0]["amount"] is None


async def test_duplicates_and_disorder_are_harmless(market: Market) -> None:
    served, other = await market.system.instance(), await market.system.instance()
    session, *_ = await trade(market, served)
    paid, expired = invoice(session["id"], id="inv-1"), invoice(session["id"], "EXPIRED", id="inv-1")
    for n, body in enumerate([expired, paid, paid | {"status": "SETTLED"}, expired, paid]):
        assert (await market.webhook((served, other)[n % 2], body)).status_code == 200
    row = await market.becomes(session["id"], "active")
    assert await market.dealt_with() == ["expired", "paid", "paid", "paid", "paid"]
    assert await market.row(session["id"]) == row, "once"
    (payment,) = await pages(market, served, "payments")
    assert (payment["invoice_id"], payment["state"]) == ("inv-1", "paid")


async def test_an_extension_that_is_paid_moves_the_end(market: Market) -> None:
    served = await market.system.instance()
    session, phone, app, customer = await trade(market, served)
    path = f"/api/sessions/{session['id']}/extend"
    early = await market.system.ask(served, customer, "POST", path)
    assert (early.status_code, early.json()["state"]) == (409, "pending_payment")
    active = (await market.paid(served, session["id"])).json()
    for n in (1, 2):
        asked = [(await market.system.ask(served, customer, "POST", path)).json() for _ in range(2)]
        assert [each["external_id"] for each in asked] == [f"{session['id']}:{n}"] * 2, "the same until it is paid"
        await market.webhook(served, {"id": f"inv-{n}", "external_id": asked[0]["external_id"], "status": "PAID"})
        assert await market.payment(f"inv-{n}") == "paid"
    row = await market.row(session["id"])
    assert row["extensions"] == 2
    for told in (phone, app):
        extended = await market.told(told, row)
        assert extended["extensions"] == 2
        assert extended["expires_at"] > active["expires_at"]
    assert (row["expires_at"] - row["started_at"]).total_seconds() == pytest.approx(3 * 1800, abs=1)


async def test_a_payment_that_comes_too_late_is_listed_to_be_refunded(market: Market) -> None:
    served = await market.system.instance()
    session, *_ = await trade(market, served)
    await market.system.sql.execute("UPDATE chat_sessions SET payment_due_at = now()")
    await market.becomes(session["id"], "expired")
    for late in (invoice(session["id"], id="late"), invoice("0" * 8 + session["id"][8:], id="nobody's")):
        await market.webhook(served, late)
    await market.webhook(served, invoice(session["id"], "EXPIRED", id="late"))
    await market.dealt_with()
    for state, invoice_id in (("refund_due", "late"), ("unmatched", "nobody's")):
        (found,) = await pages(market, served, "payments", state=state)
        assert (found["invoice_id"], found["amount"]) == (invoice_id, 50_000)
    assert (await market.row(session["id"]))["status"] == "expired"


async def test_what_was_acknowledged_is_dealt_with_though_its_instance_is_killed(market: Market) -> None:
    """Each instance that acknowledges is killed at once; whatever had not been dealt with is, by the next."""
    async with market.system.running() as served:
        session, *_ = await trade(market, served)
    late, bodies = session["id"], [invoice(session["id"], id=f"inv-{n}") for n in range(20)]
    await market.system.sql.execute("UPDATE chat_sessions SET status = 'cancelled'")
    process = await market.system.process()
    acknowledged = [await market.webhook(process.served, body) for body in bodies]
    await process.kill()
    assert {answer.status_code for answer in acknowledged} == {200}
    # As if it had been killed before it dealt with any, and while it dealt with the last.
    await market.system.sql.execute(
        "INSERT INTO webhook_events (source, body) SELECT 'xendit', b FROM unnest($1::jsonb[]) AS b",
        [invoice(late, id=f"kept-{n}") for n in range(5)] + bodies[-1:],
    )
    served = await market.system.instance()
    outcomes = await market.dealt_with()
    assert outcomes == ["refund_due"] * 26
    listed = await pages(market, served, "payments", state="refund_due")
    expected = {body["id"] for body in bodies} | {f"kept-{n}" for n in range(5)}
    assert sorted(each["invoice_id"] for each in listed) == sorted(expected)


async def test_an_operator_records_what_was_paid_elsewhere(market: Market) -> None:
    served = await market.system.instance()
    session, phone, app, _ = await trade(market, served)
    answer = await market.paid(served, session["id"], amount=75_000)
    assert (answer.status_code, answer.json()["status"]) == (200, "active")
    for told in (phone, app):
        await market.told(told, answer.json())
    again = await market.paid(served, session["id"])
    assert (again.status_code, again.json()["code"], again.json()["state"]) == (409, "wrong_state", "active")
    extended = await market.paid(served, session["id"], extension=1)
    assert extended.json()["extensions"] == 1
    assert (await market.paid(served, session["id"], extension=3)).status_code == 409
    assert (await market.paid(served, "0" * 8 + session["id"][8:])).status_code == 404
    for body in ({"amount": -1}, {"amount": 1.5}, {"amount": "1"}, {"extension": 10_000}, {"extension": True}):
        path = f"/api/internal/sessions/{session['id']}/paid"
        refused = await market.operator(served, "POST", path, json=body)
        assert (refused.status_code, refused.json()["field"]) == (422, next(iter(body)))
    payments = await pages(market, served, "payments")
    assert [(each["state"], each["amount"]) for each in payments] == [("paid", None), ("paid", 75_000)]
    assert all(each["actor"] for each in payments)


async def test_an_operator_ends_and_reroutes_and_others_may_only_look(market: Market) -> None:
    served = await market.system.instance()
    session, phone, app, customer = await trade(market, served)
    path = f"/api/internal/sessions/{session['id']}"
    viewer = await market.system.account("viewer")
    for who, status in ((viewer, 403), (customer, 403)):
        for action in ("end", "reroute", "paid"):
            answer = await market.system.http.post(f"{served.inner_url}{path}/{action}", headers=who.bearer)
            assert answer.status_code in (401, status), (who.role, action)
    looked = await market.system.http.get(f"{served.inner_url}{path}", headers=viewer.bearer)
    assert looked.json()["id"] == session["id"]
    rerouting = await market.operator(served, "POST", f"{path}/reroute")
    assert (rerouting.status_code, rerouting.json()["reroute"]) == (201, True)
    ended = await market.operator(served, "POST", f"{path}/end")
    assert (ended.status_code, ended.json()["status"], ended.json()["end_reason"]) == (200, "cancelled", "operator")
    for told in (phone, app):
        assert (await market.told(told, ended.json()))["end_reason"] == "operator"
    for action in ("end", "reroute", "paid"):
        again = await market.operator(served, "POST", f"{path}/{action}")
        assert (again.status_code, again.json()["state"]) == (409, "cancelled")


async def test_lists_have_everything_once_newest_first_page_by_page(market: Market) -> None:
    served = await market.system.instance()
    mitra, customers = await market.system.account(), await market.system.accounts(3, "customer")
    sql = market.system.sql
    statuses = ["pending_payment", "active", "ended", "expired", "cancelled"]
    sessions = [
        await sql.fetchval(
            "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) "
            "VALUES (gen_random_uuid(), $1, $2, $3) RETURNING id",
            *(customers[n % 2].id, mitra.id, statuses[n % 5]),
        )
        for n in range(7)
    ]
    pairings = [
        await sql.fetchval(
            "INSERT INTO pairings (id, customer_id, status, expires_at) "
            "VALUES (gen_random_uuid(), $1, $2, now() + interval '1 h') RETURNING id",
            *(customers[2].id, ("expired", "cancelled")[n % 2]),
        )
        for n in range(5)
    ]
    await sql.execute(
        "INSERT INTO payments (external_id, invoice_id, state) "
        "SELECT 'x', 'inv-' || n, (ARRAY['paid', 'refund_due'])[1 + n % 2] FROM generate_series(0, 4) AS n"
    )
    await sql.execute("UPDATE payments SET changed_at = now()")  # at the same moment: told apart by their invoice
    assert [each["id"] for each in await pages(market, served, "sessions")] == sessions[::-1]
    ended = await pages(market, served, "sessions", status="pending_payment")
    assert [each["id"] for each in ended] == [sessions[5], sessions[0]]
    assert [each["id"] for each in await pages(market, served, "pairings")] == pairings[::-1]
    cancelled = await pages(market, served, "pairings", status="cancelled")
    assert [each["id"] for each in cancelled] == [pairings[3], pairings[1]]
    payments = [each["invoice_id"] for each in await pages(market, served, "payments")]
    assert payments == [f"inv-{n}" for n in (4, 3, 2, 1, 0)]
    due = await pages(market, served, "payments", state="refund_due")
    assert [each["invoice_id"] for each in due] == ["inv-3", "inv-1"]
    own = await market.system.ask(served, customers[0], "GET", "/api/sessions", params={"limit": 3})
    rest = await market.system.ask(
        served, customers[0], "GET", "/api/sessions", params={"limit": 3, "cursor": own.json()["next"]}
    )
    both = own.json()["sessions"] + rest.json()["sessions"]
    assert [each["id"] for each in both] == sessions[::-2], "and nobody sees others'"
    assert rest.json()["next"] is None
    theirs = await market.system.ask(served, mitra, "GET", "/api/sessions", params={"limit": 50})
    assert len(theirs.json()["sessions"]) == 7
    for kind, name in (("sessions", "status"), ("pairings", "status"), ("payments", "state")):
        for asked in ({name: "nonsense"}, {"limit": "0"}, {"cursor": "nonsense"}):
            answer = await market.operator(served, "GET", f"/api/internal/{kind}", params=asked)
            assert (answer.status_code, answer.json()["field"]) == (422, next(iter(asked))), json.dumps(asked)


async def test_an_event_is_acknowledged_before_it_is_dealt_with(market: Market) -> None:
    """Somebody holds the session: the provider is answered all the same, and the payment counts afterwards."""
    served = await market.system.instance()
    session, *_ = await trade(market, served)
    transaction = market.system.sql.transaction()
    await transaction.start()
    await market.system.sql.execute("SELECT FROM chat_sessions WHERE id = $1 FOR UPDATE", session["id"])
    answer = await market.webhook(served, invoice(session["id"]))
    assert (answer.status_code, (await market.row(session["id"]))["status"]) == (200, "pending_payment")
    assert answer.elapsed.total_seconds() < 1
    await transaction.rollback()
    await eventually(lambda: market.becomes(session["id"], "active"))

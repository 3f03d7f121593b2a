"""Timelines: why a mitra was offline, what became of a pairing and of a session."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.http import sentences
from hadir.realtime.messages import REASONS
from hadir.realtime.pairing import OfferStatus
from hadir.realtime.presence import LONG_GRACE_REASONS
from hadir.realtime.session import SessionStatus
from tests.support import eventually
from tests.support.market import CALM, Market
from tests.support.system import Account, Served, System


async def read(system: System, served: Served, path: str, **query: Any) -> dict[str, Any]:
    viewer = await system.account("viewer")
    url = f"{served.inner_url}/api/internal/{path}"
    answer = await system.http.get(url, params=query, headers=viewer.bearer)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def of_mitra(system: System, served: Served, mitra: Account, limit: int = 200) -> list[dict[str, Any]]:
    """The whole timeline, page by page."""
    entries: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await read(system, served, f"mitras/{mitra.id}/timeline", limit=limit, **cursor)
        entries += page["entries"]
        if page["next"] is None:
            return entries
        cursor = {"cursor": page["next"]}


async def test_a_loss_is_explained_from_the_last_sign_of_life_on(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served, mitra = await system.instance(), await system.account()
        phone = await system.phone(served, mitra)
        await phone.ask(type="ping")
        phone.cut()
        await system.becomes(mitra, "offline")
        offline, suspect, online = await of_mitra(system, served, mitra)
        assert [each["kind"] for each in (offline, suspect, online)] == ["presence"] * 3
        assert (offline["state"], suspect["state"], online["state"]) == ("offline", "suspect", "online")
        assert {each["connection_id"] for each in (offline, suspect, online)} == {phone.hello["connection_id"]}
        assert (online["until"], suspect["until"], offline["until"]) == (suspect["at"], offline["at"], None)
        assert online["why"] == "Its app connected."
        assert "its connection was lost without a goodbye" in suspect["why"]
        assert offline["why"].startswith("It did not come back in time: its connection was lost without a goodbye.")
        assert re.search(r"noticed [1-9]\d* s after the last sign of life", offline["why"])


async def test_what_operators_did_offers_and_sessions_are_in_it_too(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        mitra, phone = await market.mitra(served)
        session = await market.won(served, await system.account("customer"), phone, status="active")
        await market.operator(served, "POST", f"/api/internal/sessions/{session['id']}/end")
        for action in ("offline", "deactivate", "activate"):
            await market.operator(served, "POST", f"/api/internal/mitras/{mitra.id}/{action}")
        other = Account(mitra.id, str(uuid.uuid4()), "mitra", system.config())
        await system.sql.execute(
            "INSERT INTO auth_sessions (id, subject_id, role) VALUES ($1, $2, 'mitra')", other.sid, other.id
        )
        await market.operator(served, "POST", f"/api/internal/auth-sessions/{other.sid}/revoke")
        entries = (await of_mitra(system, served, mitra))[::-1]
        said = [(each["kind"], each["state"], each["reason"]) for each in entries]
        assert sorted(said, key=str) == sorted(
            [
                ("presence", "online", "connected"),
                ("offer", "accepted", None),
                ("session", "ended", "operator"),
                ("presence", "offline", "operator"),
                ("operator", None, "offline"),
                ("presence", "offline", "deactivated"),
                ("operator", None, "deactivate"),
                ("presence", "offline", "operator"),
                ("operator", None, "activate"),
                ("operator", None, "revoke"),
            ],
            key=str,
        )
        by_kind = {(each["kind"], each["reason"], each["state"]): each for each in entries}
        had = by_kind["session", "operator", "ended"]
        assert (had["subject"], had["why"]) == (session["id"], "It had a session: an operator ended it.")
        offer = by_kind["offer", None, "accepted"]
        assert offer["until"] is not None
        assert by_kind["operator", "revoke", None]["subject"] == other.sid
        taken_off, back = [each for each in entries if (each["kind"], each["reason"]) == ("presence", "operator")]
        assert (taken_off["why"], back["why"]) == (
            "An operator took it offline.",
            "An operator took it back into service.",
        )
        assert taken_off["actor"] is not None


async def test_pages_of_a_timeline_follow_each_other_without_gap_or_repetition(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        mitra, phone = await market.mitra(served, max_sessions=9)
        for _ in range(3):
            await market.won(served, await system.account("customer"), phone)
        await system.sql.execute(  # many at the same time
            "INSERT INTO presence_log (at, recorded_at, mitra_id, state, reason) "
            "SELECT '2026-01-01', now() + n * interval '1 ms', $1, 'offline', 'lost' FROM generate_series(1, 20) AS n",
            mitra.id,
        )
        whole = await of_mitra(system, served, mitra)
        assert len(whole) == 1 + 3 + 3 + 20
        assert [each["at"] for each in whole] == sorted((each["at"] for each in whole), reverse=True)
        for limit in (1, 2, 7):
            assert await of_mitra(system, served, mitra, limit) == whole


async def test_an_unknown_mitra_pairing_or_session_has_no_timeline(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        for kind in ("mitras", "pairings", "sessions"):
            for name, status in ((str(uuid.uuid4()), 404), ("x", 422)):
                url = f"{served.inner_url}/api/internal/{kind}/{name}/timeline"
                assert (await system.http.get(url, headers=viewer.bearer)).status_code == status
        mitra = await system.account()
        assert await read(system, served, f"mitras/{mitra.id}/timeline") == {"entries": [], "next": None}


async def test_what_became_of_a_pairing(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served, customer = Market(system), await system.instance(), await system.account("customer")
        wins, loses, declines = [await market.mitra(served) for _ in range(3)]
        await system.sql.execute("UPDATE mitras SET display_name = 'Budi' WHERE id = $1", wins[0].id)
        phones = [phone for _, phone in (wins, loses, declines)]
        pairing = await market.offered(served, customer, *phones)
        path = f"pairings/{pairing['id']}/timeline"

        async def delivered() -> bool:
            entries = (await read(system, served, path))["entries"]
            return [each["what"] for each in entries].count("delivered") == 3

        await eventually(delivered)
        await declines[1].ask(type="offer.decline", pairing_id=pairing["id"])
        await wins[1].ask(type="offer.seen", pairing_id=pairing["id"])
        assert (await wins[1].ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "won"
        found = await read(system, served, path)
        assert (found["pairing"]["status"], found["pairing"]["waves"]) == ("accepted", 1)
        entries = found["entries"]
        assert (entries[0]["what"], entries[0]["after_s"]) == ("created", 0)
        assert (entries[1]["what"], entries[1]["wave"], entries[1]["count"]) == ("wave", 1, 3)
        assert (entries[-1]["what"], entries[-1]["mitra_id"]) == ("decided", wins[0].id)
        assert entries[-1]["display_name"] == "Budi"
        of_each = {
            account.id: {each["what"] for each in entries if each["mitra_id"] == account.id}
            for account, _ in (wins, loses, declines)
        }
        assert of_each == {
            wins[0].id: {"offered", "delivered", "seen", "accepted", "decided"},
            loses[0].id: {"offered", "delivered"},
            declines[0].id: {"offered", "delivered", "declined"},
        }
        (taken,) = [each for each in entries if each["what"] == "taken"]
        assert (taken["count"], taken["mitra_id"]) == (1, None)
        after = [each["after_s"] for each in entries]
        assert after == sorted(after)
        assert all(each["why"].endswith(".") for each in entries)


async def test_of_a_large_wave_the_first_offers_are_listed_and_all_are_counted(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, customer = await system.instance(), await system.account("customer")
        pairing, mitras = str(uuid.uuid4()), await system.accounts(150)
        await system.sql.execute(
            "INSERT INTO pairings (id, customer_id, expires_at, status) VALUES ($1, $2, now(), 'expired')",
            pairing,
            customer.id,
        )
        await system.sql.execute(
            "INSERT INTO pairing_offers (pairing_id, mitra_id, wave, status) "
            "SELECT $1, unnest($2::uuid[]), 1, 'expired'",
            pairing,
            [each.id for each in mitras],
        )
        await system.sql.execute("UPDATE pairings SET decided_at = now() WHERE id = $1", pairing)
        entries = (await read(system, served, f"pairings/{pairing}/timeline"))["entries"]
        counts = {each["what"]: each["count"] for each in entries if each["count"] is not None}
        assert counts == {"wave": 150, "expired": 150}
        assert [each["what"] for each in entries].count("offered") == 100


async def test_what_became_of_a_session(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served, customer = Market(system), await system.instance(), await system.account("customer")
        has, has_phone = await market.mitra(served)
        session = await market.won(served, customer, has_phone)
        path = f"/api/internal/sessions/{session['id']}"
        assert (await market.paid(served, session["id"], amount=5)).is_success
        assert (await market.paid(served, session["id"], extension=1)).is_success
        gets, gets_phone = await market.mitra(served)
        searching = (await market.operator(served, "POST", f"{path}/reroute")).json()
        await gets_phone.message("offer")
        assert (await gets_phone.ask(type="offer.accept", pairing_id=searching["id"]))["result"] == "won"
        assert (await market.operator(served, "POST", f"{path}/end")).is_success
        found = await read(system, served, f"sessions/{session['id']}/timeline")
        assert (found["session"]["status"], found["session"]["mitra_id"]) == ("ended", gets.id)
        entries = found["entries"]
        what = [each["what"] for each in entries]
        assert what[0] == "created"
        assert entries[0]["mitra_id"] == has.id, "who won it, not who has it now"
        assert sorted(what) == sorted(
            ["created", "paid", "paid", "started", "paid", "extended", "reroute", "rerouting", "rerouted",
             "end_session", "ended"]
        )  # fmt: skip
        (rerouted,) = [each for each in entries if each["what"] == "rerouted"]
        assert rerouted["mitra_id"] == gets.id
        (ended,) = [each for each in entries if each["what"] == "ended"]
        assert ended["why"] == "It is ended: an operator ended it."
        assert [each["after_s"] for each in entries] == sorted(each["after_s"] for each in entries)


def test_everything_that_can_be_said_has_its_own_sentence() -> None:
    suspicions = {*REASONS.values(), "lost", "stale", *LONG_GRACE_REASONS} - {
        "revoked",
        "deactivated",
        "protocol_error",
    }
    assert suspicions == set(sentences.LOSSES)
    assert set(sentences.OFFERS) == set(OfferStatus)
    assert set(sentences.SESSIONS) == set(SessionStatus)
    assert {"revoked", "deactivated", "protocol_error", "goodbye", "operator"} <= set(sentences.OFFLINE)


@pytest.mark.parametrize("state", ["online", "suspect", "offline"])
def test_a_reason_that_nobody_knows_is_said_as_it_is(state: str) -> None:
    said = sentences.of_state(state, "moonshine", None, 0.0)
    assert "moonshine" in said
    assert said.endswith(".")

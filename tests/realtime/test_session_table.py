"""Every cell of the table of sessions, driven for real: what is there happens, what is not changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.session import TRANSITIONS, Event, SessionStatus
from tests.support import eventually
from tests.support.market import CALM, Market, invoice
from tests.support.system import Account, Phone, Served, System

EXTENSIONS = {Event.PAID: 0, Event.EXTENDED: 1}


@dataclass
class Scene:
    """A customer's session with a mitra, another mitra who may take it over, and one instance."""

    market: Market
    served: Served
    customer: Account
    mitra: Account
    other: Account
    other_phone: Phone
    session_id: str

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.market.system.ask(self.served, self.customer, method, path, **options)

    async def happens(self, event: Event) -> tuple[int, str | None] | None:
        """Lets it happen; answers the status and the state of the HTTP answer, where it is a request."""
        match event:
            case Event.PAID | Event.EXTENDED:
                answer = await self.market.paid(self.served, self.session_id, extension=EXTENSIONS[event])
            case Event.END:
                answer = await self.ask("POST", f"/api/sessions/{self.session_id}/end")
            case Event.REROUTED:
                answer = await self.ask("POST", f"/api/sessions/{self.session_id}/reroute")
                if answer.status_code == 201:
                    pairing_id = answer.json()["id"]
                    await self.market.queued(self.other)
                    offers = "SELECT 1 FROM pairing_offers WHERE pairing_id = $1 AND mitra_id = $2"
                    await eventually(lambda: self.market.system.sql.fetchval(offers, pairing_id, self.other.id))
                    await self.other_phone.ask(type="offer.accept", pairing_id=pairing_id)
            case Event.PAYMENT_TIMEOUT | Event.TIME_OVER:
                column = "payment_due_at" if event is Event.PAYMENT_TIMEOUT else "expires_at"
                await self.market.system.sql.execute(
                    f"UPDATE chat_sessions SET {column} = now() - interval '1 s' WHERE id = $1", self.session_id
                )
                await self.the_timers_have_looked()
                return None
        return answer.status_code, answer.json().get("state")

    async def the_timers_have_looked(self) -> None:
        """Another session that was due later is over."""
        sql = self.market.system.sql
        other = await self.session(SessionStatus.ACTIVE)
        await sql.execute("UPDATE chat_sessions SET expires_at = now() WHERE id = $1", other)
        await self.market.becomes(other, "ended")

    async def session(self, status: SessionStatus) -> str:
        """A session in a state, with everything that belongs to it."""
        session_id: str = await self.market.system.sql.fetchval(
            "INSERT INTO chat_sessions (id, customer_id, mitra_id, status, payment_due_at, started_at, expires_at) "
            "SELECT gen_random_uuid(), $1, $2, $3, now() + interval '1 h', s, s + interval '1 h' FROM "
            "(SELECT CASE WHEN $3 IN ('active', 'ended') THEN clock_timestamp() END AS s) AS started RETURNING id",
            self.customer.id,
            self.mitra.id,
            status,
        )
        return session_id


@pytest.fixture
async def scene(database: str, valkey: EmbeddedValkey) -> AsyncIterator[Scene]:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        mitra, _ = await market.mitra(served, max_sessions=100)
        other, phone = await market.mitra(served, max_sessions=100)
        yield Scene(market, served, await system.account("customer"), mitra, other, phone, "")


@pytest.mark.parametrize("event", Event)
async def test_each_event_makes_of_each_state_what_the_table_says(scene: Scene, event: Event) -> None:
    for status in SessionStatus:
        scene.session_id = await scene.session(status)
        before = await scene.market.row(scene.session_id)
        answered = await scene.happens(event)
        after = await scene.market.row(scene.session_id)
        expected = TRANSITIONS.get((status, event))
        what = f"{event} of a session that is {status}"
        assert after["status"] == (expected or status), what
        if expected is None:
            moved = {name for name in before if before[name] != after[name]}
            assert moved <= {"payment_due_at", "expires_at", "version", "changed_at"}, what
            assert answered in (None, (409, status)), what
        else:
            assert answered is None or answered[0] in (200, 201), what
            await LEADS_TO[event](scene, before, after)
        await scene.ask("POST", f"/api/sessions/{scene.session_id}/end")


async def paid(scene: Scene, before: dict[str, Any], after: dict[str, Any]) -> None:
    assert (after["expires_at"] - after["started_at"]).total_seconds() == pytest.approx(1800, abs=1)
    assert after["ended_at"] is None


async def extended(scene: Scene, before: dict[str, Any], after: dict[str, Any]) -> None:
    assert (after["expires_at"] - before["expires_at"]).total_seconds() == 1800
    assert after["extensions"] == 1


async def rerouted(scene: Scene, before: dict[str, Any], after: dict[str, Any]) -> None:
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {"mitra_id", "version", "changed_at"}
    assert after["mitra_id"] == scene.other.id


async def over(scene: Scene, before: dict[str, Any], after: dict[str, Any]) -> None:
    reasons = {"ended": {"customer", "time"}, "cancelled": {"customer"}, "expired": {"payment_timeout"}}
    assert after["end_reason"] in reasons[after["status"]]
    assert after["ended_at"] is not None


LEADS_TO = {
    Event.PAID: paid,
    Event.EXTENDED: extended,
    Event.REROUTED: rerouted,
    Event.END: over,
    Event.PAYMENT_TIMEOUT: over,
    Event.TIME_OVER: over,
}


async def test_a_payment_that_comes_when_it_cannot_count_is_to_be_refunded(scene: Scene) -> None:
    for status in SessionStatus:
        for event, extension in EXTENSIONS.items():
            if (status, event) in TRANSITIONS:
                continue
            session_id = await scene.session(status)
            before = await scene.market.row(session_id)
            event_of = invoice(session_id, extension=extension)
            assert (await scene.market.webhook(scene.served, event_of)).status_code == 200
            assert await scene.market.payment(event_of["id"]) == "refund_due", f"{event} of {status}"
            assert await scene.market.row(session_id) == before


async def test_extend_says_in_which_state_that_is_not_possible(scene: Scene) -> None:
    for status in SessionStatus:
        session_id = await scene.session(status)
        answer = await scene.ask("POST", f"/api/sessions/{session_id}/extend")
        if (status, Event.EXTENDED) in TRANSITIONS:
            assert (answer.status_code, answer.json()["external_id"]) == (200, f"{session_id}:1")
        else:
            assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (409, "wrong_state", status)

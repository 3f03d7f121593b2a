"""Chat within a session: stored, acknowledged, delivered to both sides in order, once to whoever looks at ids."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest

from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.market import CALM, Market
from tests.support.system import Account, Phone, Served, System


class Talk:
    """A customer on one instance and a mitra on another, in a session."""

    def __init__(self, market: Market, first: Served, second: Served) -> None:
        self.market, self.first, self.second = market, first, second
        self._turns = asyncio.Semaphore(20)
        """Whoever waits for the row must not wait for longer than for a connection."""

    async def begin(self) -> None:
        system = self.market.system
        self.mitra, self.phone = await self.market.mitra(self.first)
        self.customer = await system.account("customer")
        self.app = await system.customer(self.second, self.customer)
        session = await self.market.won(self.first, self.customer, self.phone, status="active")
        await self.market.told(self.app, session)
        self.id: str = session["id"]

    async def say(self, phone: Phone, client_id: str, body: str = "Halo", **other: str) -> dict[str, Any]:
        fields = {"session_id": self.id, "client_id": client_id, "body": body} | other
        return await phone.ask(type="chat.send", **fields)

    async def post(self, served: Served, who: Account, client_id: str, body: Any = "Halo") -> tuple[int, Any]:
        path = f"/api/sessions/{self.id}/messages"
        answer = await self.market.system.ask(
            served, who, "POST", path, json={"client_id": client_id, "body": body}, timeout=30
        )
        return answer.status_code, answer.json()

    async def store(self, served: Served, who: Account, client_id: str) -> None:
        """As both doors do it, without the pace of either."""
        assert served.node is not None
        async with self._turns:
            await served.node.market.sessions.send(self.id, who.id, client_id, client_id)

    async def read(self, who: Account, **asked: int) -> dict[str, Any]:
        path = f"/api/sessions/{self.id}/messages"
        found: dict[str, Any] = (await self.market.system.ask(self.first, who, "GET", path, params=asked)).json()
        return found


@pytest.fixture
async def talk(database: str, valkey: EmbeddedValkey) -> AsyncIterator[Talk]:
    async with System(database, valkey.url, CALM) as system:
        first, second = await asyncio.gather(system.instance(), system.instance())
        talk = Talk(Market(system), first, second)
        await talk.begin()
        yield talk


def heard(*phones: Phone) -> list[dict[str, Any]]:
    """The messages of sockets, one after the other, once each."""
    told = [each["message"] for phone in phones for each in phone.received if each["type"] == "chat.message"]
    return list({message["id"]: message for message in told}.values())


async def test_both_sides_hear_both_sides_in_order(talk: Talk) -> None:
    one = (await talk.say(talk.app, "a1", "Selamat pagi"))["message"]
    two = (await talk.say(talk.phone, "m1", "Pagi, Bu \U0001f408"))["message"]
    three = (await talk.say(talk.app, "a2", "Jam berapa?"))["message"]
    for phone in (talk.app, talk.phone):
        await eventually(partial(_has_heard, phone, 3))
        assert heard(phone) == [one, two, three]
    numbered = [(each["seq"], each["sender"]) for each in (one, two, three)]
    assert numbered == [(1, "customer"), (2, "mitra"), (3, "customer")]
    assert two["body"] == "Pagi, Bu \U0001f408"
    assert await talk.read(talk.mitra) == {"messages": [one, two, three], "more": False}


async def test_a_resend_is_the_same_message_by_whichever_way(talk: Talk) -> None:
    first = (await talk.say(talk.app, "1", "Halo"))["message"]
    assert (await talk.say(talk.app, "1", "Halo lagi"))["message"] == first
    assert await talk.post(talk.first, talk.customer, "1") == (201, first)
    theirs = (await talk.say(talk.phone, "1", "Ya?"))["message"]
    assert theirs["seq"] == 2, "the other side's numbers are its own"
    await eventually(lambda: len(heard(talk.phone)) == 2)
    again = await asyncio.gather(*(talk.post(talk.first, talk.mitra, "2") for _ in range(5)))
    assert len({message["id"] for _, message in again}) == 1, "also at the same time"
    assert [each["seq"] for each in (await talk.read(talk.mitra))["messages"]] == [1, 2, 3]


async def test_gaps_are_filled_from_any_number(talk: Talk) -> None:
    for n in range(5):
        await talk.post(talk.second, talk.customer, str(n))
    found = await talk.read(talk.mitra, after=1, limit=2)
    assert ([each["seq"] for each in found["messages"]], found["more"]) == ([2, 3], True)
    found = await talk.read(talk.customer, after=3)
    assert ([each["seq"] for each in found["messages"]], found["more"]) == ([4, 5], False)
    assert await talk.read(talk.customer, after=5) == {"messages": [], "more": False}


async def test_who_is_no_side_of_a_session_knows_of_none(talk: Talk) -> None:
    (_, stranger), other = await talk.market.mitra(talk.first), await talk.market.system.account("customer")
    refused = await talk.say(stranger, "1")
    assert (refused["type"], refused["code"]) == ("error", "unknown_session")
    assert (await talk.post(talk.first, other, "1"))[0] == 404
    assert (await talk.read(other))["code"] == "unknown_session"
    assert (await talk.say(talk.app, "1", session_id=other.id))["code"] == "unknown_session"
    assert heard(talk.app) == []


async def test_only_an_active_session_takes_messages(talk: Talk) -> None:
    kept = (await talk.say(talk.app, "1"))["message"]
    _, phone = await talk.market.mitra(talk.second)
    unpaid = await talk.market.won(talk.second, await talk.market.system.account("customer"), phone)
    assert (await talk.say(phone, "1", session_id=unpaid["id"]))["code"] == "wrong_state"
    await talk.phone.ask(type="session.end", session_id=talk.id)
    for answer in (await talk.say(talk.app, "2"), await talk.say(talk.phone, "2")):
        assert (answer["type"], answer["code"]) == ("error", "wrong_state")
    status, problem = await talk.post(talk.second, talk.customer, "2")
    assert (status, problem["code"], problem["state"]) == (409, "wrong_state", "ended")
    assert (await talk.say(talk.app, "1"))["message"] == kept, "but a resend of what was stored is harmless"
    assert (await talk.read(talk.customer))["messages"] == [kept], "and it can be read"


async def test_what_is_no_message_is_refused(talk: Talk) -> None:
    body: Any
    for client_id, body in (("", "x"), ("c" * 65, "x"), ("1", ""), ("1", "x" * 2001), ("1", 7), ("1", "a\0b")):
        status, problem = await talk.post(talk.first, talk.customer, client_id, body)
        assert (status, problem["code"]) == (422, "bad_field")
        assert (await talk.say(talk.app, client_id, body))["code"] == "bad_field"
    assert (await talk.read(talk.customer))["messages"] == []


async def test_who_sends_too_fast_over_http_is_refused_alone(talk: Talk) -> None:
    path = f"/api/sessions/{talk.id}/messages"

    async def send(n: int) -> httpx.Response:
        fields = {"client_id": str(n), "body": "\U0001f408" * 2000}
        return await talk.market.system.ask(talk.first, talk.customer, "POST", path, json=fields, timeout=30)

    began = time.monotonic()
    answers = await asyncio.gather(*(send(n) for n in range(100)))
    took = time.monotonic() - began
    sent = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(sent) + len(refused) == 100
    assert 20 <= len(sent) <= 20 + 5 * took + 1
    assert {(answer.json()["code"], answer.headers["Retry-After"]) for answer in refused} == {("too_many", "1")}
    assert (await talk.post(talk.first, talk.mitra, "1"))[0] == 201, "the other side has a pace of its own"
    await eventually(lambda: len(heard(talk.phone)) == len(sent) + 1)


async def test_hundreds_at_once_from_both_sides_arrive_in_order_without_gaps_over_a_reconnect(talk: Talk) -> None:
    count = 200
    sides = ((talk.first, talk.customer, "a"), (talk.second, talk.mitra, "m"))
    sending = asyncio.gather(
        *(talk.store(served, who, f"{side}{n}") for n in range(count) for served, who, side in sides)
    )
    await eventually(lambda: len(heard(talk.app)) > 20, 20)
    talk.app.cut()
    await talk.app.ended()
    again = await talk.market.system.customer(talk.first, talk.customer)
    await sending
    total = 2 * count
    await eventually(lambda: len(heard(talk.phone)) == total, 20)
    assert [each["seq"] for each in heard(talk.phone)] == list(range(1, total + 1))

    (session,) = again.hello["state"]["sessions"]
    before, known = heard(talk.app), session["messages"]
    assert [each["seq"] for each in before] == list(range(1, len(before) + 1))
    missed: list[dict[str, Any]] = []
    while (after := len(before) + len(missed)) < known:
        missed += (await talk.read(talk.customer, after=after, limit=100))["messages"]
    await eventually(lambda: known == total or (heard(again)[-1:] and heard(again)[-1]["seq"] == total), 20)
    told = {each["id"]: each["seq"] for each in (*before, *missed, *heard(again))}
    assert list(told.values()) == list(range(1, total + 1)), "whoever fills what hello says it missed has all, in order"
    bodies = [each["body"] for each in heard(talk.phone)]
    assert len(set(bodies)) == total


def _has_heard(phone: Phone, count: int) -> bool:
    return len(heard(phone)) == count

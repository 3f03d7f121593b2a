"""The example exchanges of docs/protocol.md, replayed against the server."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.system import FAST, Account, Phone, Served, System

DOCUMENT = (Path(__file__).parent.parent.parent / "docs/protocol.md").read_text()
EXCHANGES = re.findall(r"([^\n]+)\n\n```exchange\n(.*?)```", DOCUMENT, re.DOTALL)
CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}
ANY = "…"


def fits(found: Any, described: Any, named: dict[str, str] | None = None) -> bool:
    """Whether a value is the described one; `…` is any, `{name}` one that has this name from now on."""
    names = dict(named or {})
    if not _fits(found, described, names):
        return False
    if named is not None:
        named.update(names)
    return True


def _fits(found: Any, described: Any, names: dict[str, str]) -> bool:
    if described == ANY:
        return True
    if isinstance(described, str):
        described = with_names(described, names)
        if isinstance(found, str) and (unknown := re.fullmatch(r"\{(\w+)\}", described)):
            names[unknown[1]] = found
            return True
    if isinstance(described, dict) and isinstance(found, dict):
        return found.keys() == described.keys() and all(_fits(found[key], described[key], names) for key in described)
    if isinstance(described, list) and isinstance(found, list) and len(found) == len(described):
        return all(_fits(*pair, names) for pair in zip(found, described, strict=True))
    return bool(found == described)


def with_names(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


class Replay:
    """One exchange against one instance."""

    def __init__(self, system: System, served: Served, people: Sequence[Account]) -> None:
        self.system, self.served = system, served
        self.mitra, self.other, self.customer, self.operator = people
        self.app = self.mitra
        self.phone: Phone | None = None
        self.refused: websockets.InvalidStatus | None = None
        self.answer: httpx.Response | None = None
        self.heard = 0
        self.named: dict[str, str] = {}
        self.pairing = ""

    async def play(self, line: str) -> None:
        kind, _, what = line.partition(" ")
        if kind == "·":
            await self.happens(what)
        elif kind == "→":
            await self.sent(with_names(what, self.named))
        else:
            await self.received(what)

    async def sent(self, what: str) -> None:
        if what.startswith("GET /ws/"):
            self.heard = 0
            self.app = self.customer if what.startswith("GET /ws/customer") else self.mitra
            await self.connects(what.removeprefix("GET "))
        elif asked := re.fullmatch(r"(GET|POST|DELETE) (/api/\S+)(?: (\{.*))?", what):
            body = json.loads(asked[3]) if asked[3] else None
            self.answer = await self.asks(self.app, asked[1], asked[2], body)
        elif what.startswith("close "):
            await self.closes(int(what.split()[1]))
        else:
            await self.says(what)

    async def received(self, what: str) -> None:
        if found := re.fullmatch(r"(\d{3}) (\w+)", what):
            await self.is_refused(int(found[1]), found[2])
        elif found := re.fullmatch(r"(\d{3}) (\{.*)", what):
            assert self.answer is not None
            assert self.answer.status_code == int(found[1]), self.answer.text
            assert fits(self.answer.json(), json.loads(found[2]), self.named), self.answer.text
        elif what.startswith("close "):
            await self.is_closed(int(what.split()[1]))
        else:
            await self.hears(json.loads(what))

    async def asks(self, who: Account, method: str, path: str, body: Any = None) -> httpx.Response:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        answer = await self.system.ask(self.served, who, method, path, json=body, headers=key)
        if path == "/api/pairings" and answer.status_code == 201:
            self.pairing = answer.json()["id"]
        return answer

    # what the app does and hears; another client overrides these

    async def connects(self, path: str) -> None:
        url = f"ws://127.0.0.1:{self.served.public_port}{path}"
        try:
            self.phone = await self.system.watch(url, self.app)
        except websockets.InvalidStatus as refused:
            self.refused = refused

    async def closes(self, code: int) -> None:
        assert self.phone is not None
        await self.phone.socket.close(code)

    async def says(self, text: str) -> None:
        assert self.phone is not None
        await self.phone.socket.send(text)

    async def is_refused(self, status: int, code: str) -> None:
        """Over HTTP, where something was asked there; else at the handshake."""
        if self.answer is not None:
            found, document = self.answer.status_code, self.answer.json()
        else:
            assert self.refused is not None
            found, document = self.refused.response.status_code, json.loads(self.refused.response.body or b"")
        assert (found, document["status"], document["code"]) == (status, status, code)

    async def is_closed(self, code: int) -> None:
        assert self.phone is not None
        assert await self.phone.ended(10) == code

    async def hears(self, described: dict[str, Any]) -> None:
        assert self.phone is not None
        await self.next_of(self.phone.received, described)

    async def next_of(self, said: Sequence[Any], described: dict[str, Any], within: float = 5.0) -> None:
        """Waits for the next one that fits."""

        def next_one() -> bool:
            for n in range(self.heard, len(said)):
                if fits(said[n], described, self.named):
                    self.heard = n + 1
                    return True
            return False

        await eventually(next_one, within)

    # what happens elsewhere

    async def happens(self, what: str) -> None:
        inner, bearer = f"{self.served.inner_url}/api/internal", self.operator.bearer
        node = self.served.node
        assert node is not None
        http = self.system.http
        said = re.search(r'"(.*)"', what)
        match re.sub(r'"(.*)"', "…", what):
            case "the same login connects elsewhere":
                await self.system.phone(self.served, self.mitra)
            case "an operator deactivates the mitra":
                await http.post(f"{inner}/mitras/{self.mitra.id}/deactivate", headers=bearer)
            case "an operator takes the mitra offline":
                await http.post(f"{inner}/mitras/{self.mitra.id}/offline", headers=bearer)
            case "an operator sets app_notice to …":
                assert said is not None
                await http.put(f"{inner}/config/app_notice", json={"value": said[1]}, headers=bearer)
            case "the token is about to expire":
                session = node.registry.of(self.mitra.id)[0].session
                session.token_ends -= 560
                session._plan()
            case "the server is about to stop":
                await node.drain()
            case "a mitra is online":
                await self.asks(self.mitra, "POST", "/api/mitra/status/online")
            case "another mitra is online":
                await self.asks(self.other, "POST", "/api/mitra/status/online")
            case "the mitra goes offline":
                await self.asks(self.mitra, "POST", "/api/mitra/status/offline")
            case "a customer asks to be paired: …":
                assert said is not None
                await self.asks(self.customer, "POST", "/api/pairings", {"note": said[1]})
            case "the customer gives up":
                await self.asks(self.customer, "DELETE", f"/api/pairings/{self.pairing}")
            case "the mitra accepts it":
                await self.accepted_by(self.mitra)
            case "another mitra accepts it":
                await self.accepted_by(self.other)
            case "the session is paid for":
                answer = await http.post(f"{inner}/sessions/{self.named['session']}/paid", headers=bearer)
                assert answer.status_code == 200, answer.text
            case "the customer says …":
                await self.said_by(self.customer, said)
            case "the mitra says …":
                await self.said_by(self.mitra, said)
            case _:
                raise AssertionError(f"the test does not know how to bring about: {what}")

    async def accepted_by(self, mitra: Account) -> None:
        async def won() -> bool:
            path = f"/api/mitra/offers/{self.pairing}/accept"
            return bool((await self.asks(mitra, "POST", path)).json()["result"] == "won")

        await eventually(won)

    async def said_by(self, who: Account, said: re.Match[str] | None) -> None:
        assert said is not None
        body = {"client_id": str(uuid.uuid4()), "body": said[1]}
        await self.asks(who, "POST", f"/api/sessions/{self.named['session']}/messages", body)


async def people(system: System) -> list[Account]:
    """Who takes part in exchanges: two mitras, a customer, an operator."""
    return [await system.account(role) for role in ("mitra", "mitra", "customer", "operator")]


def test_the_document_has_exchanges() -> None:
    assert len(EXCHANGES) >= 9


@pytest.mark.parametrize(("title", "lines"), EXCHANGES, ids=[title for title, _ in EXCHANGES])
async def test_an_exchange_goes_as_described(database: str, valkey: EmbeddedValkey, title: str, lines: str) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        replay = Replay(system, served, await people(system))
        for line in lines.strip().splitlines():
            await replay.play(line)

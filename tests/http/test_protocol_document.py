"""The example exchanges of docs/protocol.md, replayed against the server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import websockets

from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.system import FAST, Account, Phone, Served, System

DOCUMENT = (Path(__file__).parent.parent.parent / "docs/protocol.md").read_text()
EXCHANGES = re.findall(r"([^\n]+)\n\n```exchange\n(.*?)```", DOCUMENT, re.DOTALL)
CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}
ANY = "…"


def fits(found: Any, described: Any) -> bool:
    """Whether a value is the described one; `…` is any."""
    if described == ANY:
        return True
    if isinstance(described, dict) and isinstance(found, dict):
        return found.keys() == described.keys() and all(fits(found[name], described[name]) for name in described)
    return bool(found == described)


class Replay:
    """One exchange against one instance."""

    def __init__(self, system: System, served: Served, mitra: Account, operator: Account) -> None:
        self.system, self.served, self.mitra, self.operator = system, served, mitra, operator
        self.phone: Phone | None = None
        self.refused: websockets.InvalidStatus | None = None
        self.heard = 0

    async def play(self, line: str) -> None:
        kind, _, what = line.partition(" ")
        if kind == "·":
            await self.happens(what)
        elif kind == "→":
            await self.sent(what)
        else:
            await self.received(what)

    async def sent(self, what: str) -> None:
        if what.startswith("GET /ws/mitra"):
            self.heard = 0
            try:
                self.phone = await self.system.phone(self.served, self.mitra, what.removeprefix("GET /ws/mitra"))
            except websockets.InvalidStatus as refused:
                self.refused = refused
            return
        assert self.phone is not None
        if what.startswith("close "):
            await self.phone.socket.close(int(what.split()[1]))
        else:
            await self.phone.socket.send(what)

    async def received(self, what: str) -> None:
        if found := re.fullmatch(r"(\d{3}) (\w+)", what):
            assert self.refused is not None
            document = json.loads(self.refused.response.body or b"")
            assert (document["status"], document["code"]) == (int(found[1]), found[2])
            return
        phone = self.phone
        assert phone is not None
        if what.startswith("close "):
            assert await phone.ended(10) == int(what.split()[1])
            return
        described = json.loads(what)

        def next_one() -> bool:
            for n in range(self.heard, len(phone.received)):
                if fits(phone.received[n], described):
                    self.heard = n + 1
                    return True
            return False

        await eventually(next_one)

    async def happens(self, what: str) -> None:
        inner, bearer = f"{self.served.inner_url}/api/internal", self.operator.bearer
        node = self.served.node
        assert node is not None
        http = self.system.http
        match what:
            case "the same login connects elsewhere":
                await self.system.phone(self.served, self.mitra)
            case "an operator deactivates the mitra":
                await http.post(f"{inner}/mitras/{self.mitra.id}/deactivate", headers=bearer)
            case "an operator takes the mitra offline":
                await http.post(f"{inner}/mitras/{self.mitra.id}/offline", headers=bearer)
            case 'an operator sets app_notice to "Hati-hati"':
                await http.put(f"{inner}/config/app_notice", json={"value": "Hati-hati"}, headers=bearer)
            case "the token is about to expire":
                session = node.registry.of(self.mitra.id)[0].session
                session.token_ends -= 560
                session._plan()
            case "the server is about to stop":
                await node.drain()
            case _:
                raise AssertionError(f"the test does not know how to bring about: {what}")


def test_the_document_has_exchanges() -> None:
    assert len(EXCHANGES) >= 5


@pytest.mark.parametrize(("title", "lines"), EXCHANGES, ids=[title for title, _ in EXCHANGES])
async def test_an_exchange_goes_as_described(database: str, valkey: EmbeddedValkey, title: str, lines: str) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        replay = Replay(system, served, await system.account(), await system.account("operator"))
        for line in lines.strip().splitlines():
            await replay.play(line)

"""The JavaScript clients, written from docs/protocol.md alone, have the exchanges of that document with the server."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from hadir.dev.embedded import EmbeddedValkey, dies_with_parent
from tests.http.test_protocol_document import CALM, EXCHANGES, Replay, people
from tests.support import eventually
from tests.support.system import Account, Served, System

HERE = Path(__file__).parent


class Client:
    """A client in a Node process of its own."""

    def __init__(self, served: Served, account: Account) -> None:
        self._served, self._account = served, account
        self.happened: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        node = shutil.which("node")
        if node is None or not (HERE / "node_modules" / "ws").exists():
            pytest.skip("Node with its ws package is not installed (npm install --prefix tests/foreign)")
        self._process = await asyncio.create_subprocess_exec(
            node,
            str(HERE / "exchanges.mjs"),
            self._served.ws_url().removesuffix("/ws/mitra"),
            self._account.token,
            self._account.role,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=dies_with_parent(),
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.happened.append(json.loads(line))

    async def do(self, what: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **fields}).encode() + b"\n")
        await self._process.stdin.drain()

    async def call(self, name: str, *args: Any) -> dict[str, Any]:
        """Calls a method; answers what its promise came to."""
        before = len(self._of("answered"))
        await self.do("call", name=name, args=args)
        answers: list[dict[str, Any]] = await eventually(lambda: self._of("answered")[before:])
        return answers[0]

    def _of(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.happened if each["event"] == event]

    @property
    def state(self) -> dict[str, Any]:
        """The last one that it told."""
        told = self._of("state")
        state: dict[str, Any] = told[-1]["state"] if told else {}
        return state


class JavaScript(Replay):
    """The same exchanges."""

    def __init__(self, system: System, served: Served, people: Sequence[Account]) -> None:
        super().__init__(system, served, people)
        self.client: Client | None = None

    async def run(self, lines: str) -> None:
        try:
            for line in lines.strip().splitlines():
                await self.play(line)
        finally:
            if self.client is not None:
                await self.client.__aexit__()

    @property
    def _client(self) -> Client:
        assert self.client is not None
        return self.client

    async def connects(self, path: str) -> None:
        if self.client is None:
            self.client = await Client(self.served, self.app).__aenter__()
        status = path.partition("status=")[2]
        await self._client.do("start", **({"status": status} if status else {}))

    async def closes(self, code: int) -> None:
        if code == 1000:
            await self._client.do("goodbye")
            await self._event({"event": "stopped", "because": "goodbye"})
        else:
            await self._client.do("exit")

    async def says(self, text: str) -> None:
        await self._client.do("raw", text=text)

    async def is_refused(self, status: int, code: str) -> None:
        if self.answer is not None:
            await super().is_refused(status, code)
        else:
            await self._event({"event": "refused", "status": status})
            await self._event({"event": "stopped", "because": code})

    async def is_closed(self, code: int) -> None:
        await self._event({"event": "closed", "code": code}, within=10)

    async def hears(self, described: dict[str, Any]) -> None:
        await self._event({"event": "message", "message": described})

    async def _event(self, described: dict[str, Any], within: float = 5.0) -> None:
        await self.next_of(self._client.happened, described, within)


@pytest.mark.parametrize(("title", "lines"), EXCHANGES, ids=[title for title, _ in EXCHANGES])
async def test_an_exchange_goes_as_described(database: str, valkey: EmbeddedValkey, title: str, lines: str) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        await JavaScript(system, served, await people(system)).run(lines)


async def test_both_clients_from_an_offer_to_the_end(database: str, valkey: EmbeddedValkey) -> None:
    """What their methods answer, and what they make of the state."""
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        mitra, _, customer, operator = await people(system)
        async with Client(served, mitra) as taker, Client(served, customer) as asker:
            await taker.do("start", status="online")
            await asker.do("start")
            await eventually(lambda: taker.state and asker.state)
            declined = await system.pair(served, customer)
            await eventually(lambda: taker.state["offers"])
            assert (await taker.call("decline", declined["id"]))["ok"]
            await eventually(lambda: not taker.state["offers"])
            await system.ask(served, customer, "DELETE", f"/api/pairings/{declined['id']}")
            await eventually(lambda: asker.state["pairings"] == [])
            pairing = await system.pair(served, customer)
            await eventually(lambda: [each["id"] for each in asker.state["pairings"]] == [pairing["id"]])
            await eventually(lambda: [each["pairing_id"] for each in taker.state["offers"]] == [pairing["id"]])
            assert (await taker.call("seen", pairing["id"]))["ok"]
            won = (await taker.call("accept", pairing["id"]))["value"]
            session = won["session"]["id"]
            assert won["result"] == "won"
            await eventually(lambda: not taker.state["offers"] and not asker.state["pairings"])
            early = await asker.call("sendMessage", session, "Halo")
            assert early["error"]["code"] == "wrong_state"
            url = f"{served.inner_url}/api/internal/sessions/{session}/paid"
            await system.http.post(url, headers=operator.bearer)

            def begun() -> bool:
                told = [[each["status"] for each in app.state["sessions"]] for app in (taker, asker)]
                return told == [["active"], ["active"]]

            await eventually(begun)
            said = (await asker.call("sendMessage", session, "Halo"))["value"]
            assert (said["seq"], said["body"]) == (1, "Halo")
            await eventually(lambda: taker.state["sessions"][0]["messages"] == 1)
            assert (await asker.call("endSession", session))["ok"]
            await eventually(lambda: not taker.state["sessions"] and not asker.state["sessions"])
            assert (await taker.call("setOnline", False))["ok"]
            await eventually(lambda: taker.state["online"] is False)

"""The JavaScript client, written from docs/protocol.md alone, has the exchanges of that document with the server."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from hadir.dev.embedded import EmbeddedValkey, dies_with_parent
from tests.http.test_protocol_document import CALM, EXCHANGES, Replay, fits
from tests.support import eventually
from tests.support.system import Account, Served, System

HERE = Path(__file__).parent


class JavaScript(Replay):
    """The same exchanges, with the client in a Node process of its own."""

    def __init__(self, system: System, served: Served, mitra: Account, operator: Account) -> None:
        super().__init__(system, served, mitra, operator)
        self.happened: list[dict[str, Any]] = []
        self._reader: asyncio.Task[None] | None = None

    async def run(self, lines: str) -> None:
        node = shutil.which("node")
        if node is None or not (HERE / "node_modules" / "ws").exists():
            pytest.skip("Node with its ws package is not installed (npm install --prefix tests/foreign)")
        self._process = await asyncio.create_subprocess_exec(
            node,
            str(HERE / "exchanges.mjs"),
            self.served.ws_url().removesuffix("/ws/mitra"),
            self.mitra.token,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=dies_with_parent(),
        )
        self._reader = asyncio.create_task(self._read())
        try:
            for line in lines.strip().splitlines():
                await self.play(line)
        finally:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()
            await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.happened.append(json.loads(line))

    async def _do(self, what: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **fields}).encode() + b"\n")
        await self._process.stdin.drain()

    async def sent(self, what: str) -> None:
        if what.startswith("GET /ws/mitra"):
            status = what.partition("status=")[2]
            await self._do("start", **({"status": status} if status else {}))
        elif what == "close 1000":
            await self._do("goodbye")
            await self._event({"event": "stopped", "because": "goodbye"})
        elif what.startswith("close "):
            await self._do("exit")
        else:
            await self._do("raw", text=what)

    async def received(self, what: str) -> None:
        if found := re.fullmatch(r"(\d{3}) (\w+)", what):
            await self._event({"event": "refused", "status": int(found[1])})
            await self._event({"event": "stopped", "because": found[2]})
        elif what.startswith("close "):
            await self._event({"event": "closed", "code": int(what.split()[1])}, within=10)
        else:
            await self._event({"event": "message", "message": json.loads(what)})

    async def _event(self, described: dict[str, Any], within: float = 5.0) -> None:
        """Waits for the next event that fits."""

        def next_one() -> bool:
            for n in range(self.heard, len(self.happened)):
                if fits(self.happened[n], described):
                    self.heard = n + 1
                    return True
            return False

        await eventually(next_one, within)


@pytest.mark.parametrize(("title", "lines"), EXCHANGES, ids=[title for title, _ in EXCHANGES])
async def test_an_exchange_goes_as_described(database: str, valkey: EmbeddedValkey, title: str, lines: str) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        await JavaScript(system, served, await system.account(), await system.account("operator")).run(lines)

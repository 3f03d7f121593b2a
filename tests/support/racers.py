"""Mitras that accept as fast as they can, from whichever instance still lives, until they are told."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from tests.support import eventually
from tests.support.system import Account, Process


class Racer:
    """One mitra's app: it holds a socket, comes back when it loses it, and asks again what was not answered."""

    def __init__(self, account: Account, instances: Sequence[Process], turn: int) -> None:
        self.account = account
        self._instances = instances
        self._turn = turn
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.offers: dict[str, asyncio.Event] = {}
        self.told: list[tuple[str, str]] = []
        """(pairing, outcome) of everything that said how a pairing ended for this mitra."""

    @property
    def connected(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def connect(self) -> None:
        """To the next instance that takes it."""
        while not self.connected:
            served = self._instances[self._turn % len(self._instances)].served
            self._turn += 1
            try:
                self._socket = await websockets.connect(
                    served.ws_url("?status=online"),
                    additional_headers=self.account.bearer,
                    compression=None,
                    ping_interval=None,
                )
            except (OSError, websockets.InvalidHandshake):
                await asyncio.sleep(0.05)  # for crowds of apps there is full jitter; a test wants them back
                continue
            self._reading = asyncio.create_task(self._read(self._socket))

    async def rest(self) -> None:
        """A new socket, and with it a new budget of frames."""
        await self.close()
        await self.connect()

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.transport.abort()
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                self._heard(json.loads(text))
        except websockets.ConnectionClosed:
            pass
        finally:
            for answer in self._answers.values():
                answer.cancel()
            self._answers.clear()

    def _heard(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "offer":
            self.offer(message["pairing_id"]).set()
        elif kind == "hello":
            for offer in message["state"]["offers"]:
                self.offer(offer["pairing_id"]).set()
        elif kind == "offer.closed":
            self.told.append((message["pairing_id"], message["reason"]))
        elif kind == "offer.result" and message["result"] != "busy":
            self.told.append((message["pairing_id"], message["result"]))
        answer = self._answers.pop(message.get("re", ""), None)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def offer(self, pairing_id: str) -> asyncio.Event:
        return self.offers.setdefault(pairing_id, asyncio.Event())

    async def accept(self, pairing_id: str) -> str:
        """What it came to, asked as often as it takes."""
        while True:
            await self.connect()
            assert self._socket is not None
            assert self._reading is not None
            asked = uuid.uuid4().hex
            answer = self._answers[asked] = asyncio.get_running_loop().create_future()
            try:
                await self._socket.send(json.dumps({"type": "offer.accept", "pairing_id": pairing_id, "id": asked}))
                message = await asyncio.wait_for(answer, 20)
            except (websockets.ConnectionClosed, asyncio.CancelledError):
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                await asyncio.wait([self._reading])
                continue
            if message["type"] == "offer.result":
                return str(message["result"])


async def all_connected(racers: Sequence[Racer]) -> None:
    await asyncio.gather(*(racer.connect() for racer in racers))
    await eventually(lambda: all(racer.connected for racer in racers), 30)


def outcomes_of(racers: Sequence[Racer]) -> dict[tuple[str, str], set[str]]:
    """What each mitra was told of each pairing, in whichever way."""
    told: dict[tuple[str, str], set[str]] = {}
    for racer in racers:
        for pairing_id, outcome in racer.told:
            told.setdefault((racer.account.id, pairing_id), set()).add(outcome)
    return told

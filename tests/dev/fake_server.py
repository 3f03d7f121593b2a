"""A small real server of the beacon and of mitra sockets, on loopback, that keeps every promise unless told not to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

INTERVAL_S, STALE_S, MAX_AGE_S = 0.2, 2.0, 0.2


@dataclass
class Lies:
    """What it does wrong. `closes_with`: after the first beat of every connection."""

    closes_with: int | None = None
    forgets_status: bool = False
    beacon: Mapping[str, Any] = field(default_factory=dict)
    """Over what would be right."""
    as_of_goes_back_s: float = 0.0
    """From the third answer on."""
    body: bytes | None = None
    pushes: Sequence[Mapping[str, Any]] = ()
    """Messages to every mitra, after the first beat of each connection."""


@dataclass
class Seat:
    online: bool
    beaten: float
    mitra: bool
    told: bool = False


class FakeServer:
    """Counts as available who is connected, wants to be online, and has beaten; pairs nobody. Use `async with`."""

    def __init__(self, lies: Lies | None = None) -> None:
        self._lies = lies or Lies()
        self._by_seat: dict[int, Seat] = {}
        self._intents: dict[str, bool] = {}
        self._answers = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> FakeServer:
        self._server = await serve(
            self._sit, "127.0.0.1", 0, process_request=self._request, ping_interval=None, compression=None
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _request(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.path != "/api/beacon":
            return None
        body = self._lies.body if self._lies.body is not None else orjson.dumps(self._beacon())
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        return Response(200, HTTPStatus.OK.phrase, headers, body)

    def _beacon(self) -> dict[str, Any]:
        self._answers += 1
        fresh = time.monotonic() - STALE_S
        available = sum(seat.mitra and seat.online and seat.beaten > fresh for seat in self._by_seat.values())
        back_s = self._lies.as_of_goes_back_s if self._answers > 2 else 0.0
        as_of = datetime.now(UTC) - timedelta(seconds=back_s)
        right = {"available": available, "online": available, "as_of": as_of.isoformat(), "max_age_s": MAX_AGE_S}
        return {**right, "state": "live", **self._lies.beacon}

    async def _sit(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        who = socket.request.headers["Authorization"]
        if "status=" in socket.request.path:
            self._intents[who] = socket.request.path.endswith("online")
        seat = self._by_seat[id(socket)] = Seat(
            self._intents.get(who, True), time.monotonic(), socket.request.path.startswith("/ws/mitra")
        )
        try:
            hello = {
                "connection_id": str(id(socket)),
                "heartbeat_interval_s": INTERVAL_S,
                "stale_after_s": STALE_S,
                "reconnect_window_s": 0.1,
            }
            await self._say(socket, "hello", **hello, state=self._state(seat))
            async for frame in socket:
                await self._answer(socket, seat, who, orjson.loads(frame))
        except ConnectionClosed:
            pass
        finally:
            del self._by_seat[id(socket)]

    async def _answer(self, socket: ServerConnection, seat: Seat, who: str, message: dict[str, Any]) -> None:
        seat.beaten = time.monotonic()
        match message["type"]:
            case "ping":
                await self._say(socket, "pong", re=message["id"])
                for push in self._lies.pushes if seat.mitra and not seat.told else ():
                    await self._push(socket, push)
                seat.told = True
                if self._lies.closes_with is not None:
                    await socket.close(self._lies.closes_with)
            case "status":
                self._intents[who] = message["online"]
                seat.online = message["online"]
                await self._say(socket, "ack", re=message["id"])
            case "sync":
                await self._say(socket, "sync", re=message["id"], state=self._state(seat))

    def _state(self, seat: Seat) -> dict[str, Any]:
        told = not seat.online if self._lies.forgets_status else seat.online
        return {"online": told, "wants_online": told, "pending": False, "sessions": []}

    async def _say(self, socket: ServerConnection, kind: str, **fields: Any) -> None:
        await self._push(socket, {"type": kind, **fields})

    async def _push(self, socket: ServerConnection, message: Mapping[str, Any]) -> None:
        await socket.send(orjson.dumps(message), text=True)

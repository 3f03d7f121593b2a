"""Plain Starlette on uvicorn: a `SET` awaited per ping.

python -m benchmarks.peers.plain PORT VALKEY_URL SECRET
"""

from __future__ import annotations

import secrets
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt
import orjson
import redis.asyncio as redis
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

FRAMES_PER_S, FRAMES_BURST = 5.0, 20.0
STALE_S = 60


@dataclass(slots=True)
class Mitra:
    """What a socket's owner is known by."""

    mitra_id: str
    sid: str
    connection_id: str
    token_ends: float
    last_beat: float
    frames_left: float = FRAMES_BURST

    def may_send(self) -> bool:
        now = time.monotonic()
        self.frames_left = min(FRAMES_BURST, self.frames_left + (now - self.last_beat) * FRAMES_PER_S) - 1
        self.last_beat = now
        return self.frames_left >= 0


def main(port: int, valkey_url: str, secret: str) -> None:
    pool = redis.BlockingConnectionPool.from_url(valkey_url, max_connections=100, timeout=60)
    valkey = redis.Redis.from_pool(pool)
    mitras: dict[str, Mitra] = {}

    async def mitra_socket(socket: WebSocket) -> None:
        _, _, token = socket.headers.get("authorization", "").partition(" ")
        try:
            claims = jwt.decode(token, secret, algorithms=["HS256"], options={"require": ["sub", "sid", "exp"]})
        except jwt.PyJWTError:
            await socket.close()
            return
        await socket.accept()
        mitra = Mitra(claims["sub"], claims["sid"], secrets.token_hex(8), claims["exp"], time.monotonic())
        mitras[mitra.connection_id] = mitra
        try:
            await socket.send_text(said("hello", connection_id=mitra.connection_id))
            while True:
                message = orjson.loads(await socket.receive_text())
                if message["type"] == "ping" and mitra.may_send():
                    at = datetime.now(UTC).isoformat(timespec="milliseconds")
                    await valkey.set(f"mitra:heartbeat:{mitra.mitra_id}", at, ex=STALE_S)
                    await socket.send_text(said("pong"))
        except WebSocketDisconnect:
            return
        finally:
            del mitras[mitra.connection_id]

    app = Starlette(routes=[WebSocketRoute("/ws/mitra", mitra_socket)])
    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        log_level="warning",
        access_log=False,
        backlog=4096,
    )


def said(kind: str, **fields: str) -> str:
    return orjson.dumps({"type": kind, "server_time": datetime.now(UTC).isoformat(), **fields}).decode()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])

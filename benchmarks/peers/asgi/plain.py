"""Starlette on uvicorn as its documentation shows it: an endpoint a socket, a `SET` awaited for every ping."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from .mitra import STALE_S, TOO_FAST, heartbeat_key, pong, utc_now, verified
from .serving import asked, run, valkey_at

CHANNEL = "peers:events"
options = asked()
valkey = valkey_at(options.valkey_url)
sockets: set[WebSocket] = set()


async def mitra_socket(socket: WebSocket) -> None:
    mitra = verified(socket.scope["headers"], options.secret)
    if mitra is None:
        await socket.send_denial_response(Response(status_code=401))
        return
    await socket.accept()
    sockets.add(socket)
    try:
        await socket.send_text(json.dumps(mitra.hello()))
        while True:
            message = json.loads(await socket.receive_text())
            if not mitra.beats():
                await socket.send_text(json.dumps(TOO_FAST))
            elif message["type"] == "ping":
                await valkey.set(heartbeat_key(mitra.mitra_id), utc_now(), ex=STALE_S)
                await socket.send_text(json.dumps(pong()))
    except WebSocketDisconnect:
        return
    finally:
        sockets.discard(socket)


async def publish(request: Request) -> Response:
    await valkey.publish(CHANNEL, await request.body())
    return Response(status_code=204)


async def hand_on() -> None:
    """What anybody publishes goes to every socket of this process."""
    async with valkey.pubsub() as subscription:
        await subscription.subscribe(CHANNEL)
        async for message in subscription.listen():
            if message["type"] == "message":
                text = message["data"].decode()
                for socket in tuple(sockets):
                    with suppress(WebSocketDisconnect, RuntimeError):  # it went meanwhile
                        await socket.send_text(text)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    task = asyncio.create_task(hand_on())
    yield
    task.cancel()
    await valkey.aclose()


if __name__ == "__main__":
    routes = [WebSocketRoute("/ws/mitra", mitra_socket), Route("/publish", publish, methods=["POST"])]
    run(Starlette(routes=routes, lifespan=lifespan), options.port)

"""python-socketio on uvicorn, with its Redis manager; a beat is an event with an acknowledgement."""

from __future__ import annotations

from typing import Any

import socketio

from .mitra import TOO_FAST, Beats, Mitra, pong, verified
from .serving import App, Message, Receive, Send, answer, asked, body, run, valkey_at

NEVER_S = 10 * 86_400
options = asked()
beats = Beats(valkey_at(options.valkey_url))
mitras: dict[str, Mitra] = {}
server = socketio.AsyncServer(
    async_mode="asgi",
    client_manager=socketio.AsyncRedisManager(options.valkey_url),
    transports=["websocket"],
    ping_interval=NEVER_S,  # presence is the client's beat; ours sends no pings either
    monitor_clients=False,
    http_compression=False,
    async_handlers=False,  # no task for an event: the handler below waits for nothing
)


@server.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any]) -> None:
    mitra = mitras[sid] = environ["asgi.scope"]["mitra"]
    await server.emit("hello", mitra.hello(), to=sid, ignore_queue=True)


@server.event  # type: ignore[untyped-decorator]
async def ping(sid: str) -> dict[str, object]:
    mitra = mitras[sid]
    if not mitra.beats():
        return TOO_FAST
    beats.add(mitra.mitra_id)
    return pong()


@server.event  # type: ignore[untyped-decorator]
async def disconnect(sid: str, reason: str) -> None:
    mitras.pop(sid, None)


def guarded(app: App) -> App:
    """Tokens are verified at the handshake, before the library hears of it."""

    async def guard(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            scope["mitra"] = verified(scope["headers"], options.secret)
            if scope["mitra"] is None:
                await answer(send, 401, "websocket.http.response")
                return
        await app(scope, receive, send)

    return guard


async def publish(scope: Message, receive: Receive, send: Send) -> None:
    await server.emit("event", (await body(receive)).decode())
    await answer(send, 204)


if __name__ == "__main__":
    run(guarded(socketio.ASGIApp(server, other_asgi_app=publish)), options.port)

"""How the peers in Python are started: their arguments, their collector, and uvicorn at its best."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Asked(NamedTuple):
    port: int
    valkey_url: str
    secret: str


def asked() -> Asked:
    """What the command line says. Thousands of sockets make the default collector stop for half a second."""
    gc.set_threshold(100_000, 50, 1000)
    port, valkey_url, secret = sys.argv[1:]
    return Asked(int(port), valkey_url, secret)


def valkey_at(url: str) -> Redis:
    """As many connections as help; whoever finds none waits for one."""
    return Redis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=50, timeout=None))


def run(app: App, port: int) -> None:
    """uvicorn on uvloop and httptools, without compression, its own pings and an access log."""
    import uvicorn  # Daphne's environment is that of uvicorn's peers, but its process need not hold it

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        ws_ping_timeout=None,
        access_log=False,
        log_level="warning",
    )


async def body(receive: Receive) -> bytes:
    """The whole body of a request."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def answer(send: Send, status: int, kind: str = "http.response") -> None:
    """An answer without a body, to a request or, as `websocket.http.response`, to a handshake."""
    await send({"type": f"{kind}.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": f"{kind}.body", "body": b""})

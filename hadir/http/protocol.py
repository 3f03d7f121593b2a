"""uvicorn's protocols with what it leaves open: deadlines of handshakes, client pings, readers that do not read."""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from hadir import metrics
from hadir.http import problems

REQUEST_S = 10.0
"""A request, or the handshake of a socket, must have arrived whole this long after it began."""
WRITE_BUFFER = 64 * 1024
WRITE_BUFFER_MAX = 256 * 1024
DEAF_S = 10.0
EXTENSION = "hadir.socket"
_FULL_BODY = problems.body(503, "full", "This instance holds as many connections as it may.")
FULL = (
    f"HTTP/1.1 503 Service Unavailable\r\ncontent-type: {problems.MEDIA_TYPE}\r\nretry-after: 5\r\n"
    f"cache-control: no-store\r\ncontent-length: {len(_FULL_BODY)}\r\nconnection: close\r\n\r\n"
).encode() + _FULL_BODY


class HttpProtocol(HttpToolsProtocol):
    """Ends a connection whose request does not arrive, and those past `limit_concurrency` at once."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            metrics.HANDSHAKES_REFUSED.labels("full").inc()
            self.connections.discard(self)
            self.transport.write(FULL)
            self.transport.close()
            return
        self._expect_request()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_request()

    def on_message_complete(self) -> None:
        self._forget_deadline()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._forget_deadline()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class SocketProtocol(WebSocketsSansIOProtocol):
    """Tells the application of Ping frames, and gives up on a peer that does not read.

    The application finds it as `scope["extensions"]["hadir.socket"]` and may set `on_ping` and `on_deaf`.
    """

    on_ping: Callable[[], None] | None = None
    on_deaf: Callable[[], None] | None = None
    _deaf: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:  # a refused handshake has none
            scope["extensions"][EXTENSION] = self

    def handle_ping(self) -> None:
        super().handle_ping()
        if self.on_ping is not None:
            self.on_ping()
        if self.transport.get_write_buffer_size() > WRITE_BUFFER_MAX:
            self._give_up()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._deaf is None:
            self._deaf = self.loop.call_later(DEAF_S, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_deaf()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deaf()
        self.on_ping = self.on_deaf = None
        super().connection_lost(exc)

    def abort(self) -> None:
        """Ends the connection without waiting for the peer to read anything."""
        self.transport.abort()

    def _give_up(self) -> None:
        if self.on_deaf is not None:
            self.on_deaf()
        self.abort()

    def _forget_deaf(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None

"""uvicorn's protocols with what it leaves open: heads without end, frames that nobody counts, deaf readers."""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from hadir import metrics
from hadir.http import problems
from hadir.http.wire import DEAF_S, LATE_MAX, SLICE, Wire, let_go
from hadir.realtime.peer import Peer

REQUEST_S = 10.0
"""A request, or the handshake of a socket, must have arrived whole this long after it began."""
UNREAD_S = 10.0
"""A client that asked must read on of its answer within this time, every time."""
HEAD_MAX = 16 * 1024
HEAD_ENDS = b"\r\n\r\n"
BODY_MAX = 256 * 1024
"""Raw bytes after the head, chunk sizes and trailers included; what a body may have is less (`requests.py`)."""
EARLY_FRAMES_MAX = 100
"""Frames that come before the handshake is answered."""
WRITE_BUFFER = 64 * 1024
EXTENSION = "hadir.socket"


Headers = list[tuple[bytes, bytes]]
Answers = Callable[[bytes, Headers], bytes | None]
"""What is written for bytes that are a whole request, with the headers of every answer; None: the application knows."""


def nobody_answers(data: bytes, headers: Headers) -> None:
    return None


class ListenerConfig(uvicorn.Config):
    """With the connections that have not said yet what they want, the oldest first.

    `hands_over`: sockets leave uvicorn once they are open (`wire.py`). `answers` is asked before the application.
    """

    def __init__(self, *args: Any, hands_over: bool, answers: Answers, **more: Any) -> None:
        super().__init__(*args, **more)
        self.waiting: dict[HttpProtocol, None] = {}
        self.hands_over = hands_over
        self.answers = answers


class HttpProtocol(HttpToolsProtocol):
    """Ends a connection whose request does not arrive, or has no end; the oldest such where there are too many."""

    config: ListenerConfig
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _begun = False
    """A request's first bytes came, its last ones did not."""
    _size = 0
    """Bytes of the head, or of what follows it, so far."""
    _seam = b""
    _deaf: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_request()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            metrics.HANDSHAKES_REFUSED.labels("full").inc()
            oldest = next(iter(self.config.waiting))
            self.connections.discard(oldest)
            oldest.refuse(503, "full", "This instance holds as many connections as it may.")

    def data_received(self, data: bytes) -> None:
        if self._answers_at_once(data):
            return
        if self._in_head:
            ends = (self._seam + data).find(HEAD_ENDS)
            self._seam = data[1 - len(HEAD_ENDS) :]
            self._size += len(data) if ends < 0 else ends
            if self._size > HEAD_MAX:
                self.refuse(431, "too_large", f"A request's head may have at most {HEAD_MAX} bytes.")
                return
        else:
            self._size += len(data)
            if self._size > BODY_MAX:
                self.refuse(413, "too_large", f"What follows a head may have at most {BODY_MAX} bytes.")
                return
        super().data_received(data)

    def _answers_at_once(self, data: bytes) -> bool:
        """Without a parser, a task or the application: between two requests, to a client that reads."""
        if self._begun or self._size or self.pipeline or self.flow.write_paused or self.transport.is_closing():
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            return False
        answer = self.config.answers(data, self.server_state.default_headers)
        if answer is None:
            return False
        self._forget_deadline()
        self.transport.write(answer)
        self.on_response_complete()
        return True

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        self._expect_request()

    def on_headers_complete(self) -> None:
        self._in_head, self._size = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._begun, self._size = True, False, 0
        self._forget_deadline()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read what it asked for; where that lasts, it is given up on."""
        super().pause_writing()
        if self._deaf is None:
            self._expect_reading()

    def _expect_reading(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._deaf = self.loop.call_later(UNREAD_S, self._has_read, unread)

    def _has_read(self, unread: int) -> None:
        """A slow client that reads gets all of its answer, however long that takes."""
        if self.transport.get_write_buffer_size() < unread:
            self._expect_reading()
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_deaf()

    def handle_websocket_upgrade(self) -> None:
        self._forget_deadline()
        self._forget_deaf()
        super().handle_websocket_upgrade()
        del self.parser  # they hold each other, which nobody would collect for long

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._forget_deaf()
        super().connection_lost(exc)
        del self.parser

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "bad_request", f"This is not HTTP: {msg}")

    def refuse(self, status: int, code: str, detail: str) -> None:
        """A problem document, unless there is an answer already; then the end."""
        document = problems.body(status, code, detail)
        again = f"retry-after: {problems.RETRY_AFTER_S}\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {problems.MEDIA_TYPE}\r\n{again}"
            f"content-length: {len(document)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self._forget_deadline()
        if self._in_head or self.cycle is None or not self.cycle.response_started:
            self.transport.write(head.encode() + document)
        self.transport.close()

    def _expect_request(self) -> None:
        self._forget_deadline()
        self.config.waiting[self] = None
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _forget_deadline(self) -> None:
        self.config.waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _forget_deaf(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None


class SocketProtocol(WebSocketsSansIOProtocol):
    """Tells the application of Ping frames and of frames that make no message; gives up on a peer that does not read.

    The application finds it as `scope["extensions"]["hadir.socket"]`, may set `on_ping`, `on_frame` and `on_deaf`,
    and sets `closing` once it wants no more of this peer.
    """

    config: ListenerConfig
    on_ping: Callable[[], None] | None = None
    on_frame: Callable[[], None] | None = None
    on_deaf: Callable[[], None] | None = None
    closing = False
    _deaf: asyncio.TimerHandle | None = None
    _early = 0
    _late = 0
    _followed = False
    """Frames came before the handshake was answered."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            part = data[start : start + SLICE]
            if self.closing:
                self._late += len(part)
            if self._late > LATE_MAX:
                self.abort()
            if self.transport.is_closing():
                return
            self._followed = self.handshake_initiated
            super().data_received(part)

    def hand_over(self, peer: Peer) -> bool:
        """From here on the connection is a `Wire`; False where frames came before the handshake was answered."""
        if not self.config.hands_over or self._followed or self.transport.is_closing():
            return False
        self.connections.discard(self)
        transport = self.transport
        del self.scope["extensions"][EXTENSION]  # a cycle
        let_go(self.conn)
        wire = Wire(transport, peer, self.connections)
        self.transport = _Gone()  # type: ignore[assignment]
        try:
            peer.start(wire)
        except BaseException:
            transport.abort()
            raise
        return True

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:  # a refused handshake has none
            scope["extensions"][EXTENSION] = self

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # by a refusal: otherwise uvicorn takes it for a defect, and logs one

    def handle_ping(self) -> None:
        super().handle_ping()
        self._tell(self.on_ping)

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._tell(self.on_frame)

    def handle_text(self, event: Frame) -> None:
        super().handle_text(event)
        self._count_fragment(event)

    def handle_bytes(self, event: Frame) -> None:
        super().handle_bytes(event)
        self._count_fragment(event)

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        self._count_fragment(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._deaf is None:
            self._deaf = self.loop.call_later(DEAF_S, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_deaf()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deaf()
        self.on_ping = self.on_frame = self.on_deaf = None
        super().connection_lost(exc)

    def abort(self) -> None:
        """Ends the connection without waiting for the peer to read anything."""
        self.transport.abort()

    def _count_fragment(self, event: Frame) -> None:
        if not event.fin:
            self._tell(self.on_frame)

    def _tell(self, told: Callable[[], None] | None) -> None:
        if self.closing:
            return
        if told is not None:
            told()
            return
        self._early += 1
        if self._early > EARLY_FRAMES_MAX:
            self.abort()

    def _give_up(self) -> None:
        if self.on_deaf is not None:
            self.on_deaf()
        self.abort()

    def _forget_deaf(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None


class _Gone:
    """In place of a transport that was handed over: uvicorn closes it when the application returns."""

    def close(self) -> None: ...

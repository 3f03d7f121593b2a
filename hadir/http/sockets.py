"""WebSockets as ASGI applications: refusals before the upgrade, then a thin carrier of frames."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from hadir import metrics
from hadir.errors import HadirError, Refused, StoreUnavailable
from hadir.http import problems
from hadir.http.auth import CONTROL_CENTRE, bearer_of, reader
from hadir.http.pace import Pace
from hadir.http.protocol import EXTENSION, SocketProtocol
from hadir.realtime.messages import SUBPROTOCOL, CloseCode, error
from hadir.realtime.node import Node
from hadir.realtime.peer import Login, Peer

log = logging.getLogger(__name__)

OUTBOX_MAX = 256
CONNECTS_BURST = 20
CONNECT_EVERY_S = 1.0
"""What one mitra may connect: this often, after a burst. An app with full jitter stays far below."""
BROWSER_CODES = {
    "token_expired": CloseCode.TOKEN_EXPIRED,
    "bad_token": CloseCode.TOKEN_EXPIRED,
    "revoked": CloseCode.REVOKED,
    "deactivated": CloseCode.DEACTIVATED,
    "unknown_subject": CloseCode.REVOKED,
    "origin": CloseCode.PROTOCOL_ERROR,
    "wrong_role": CloseCode.PROTOCOL_ERROR,
    "bad_field": CloseCode.PROTOCOL_ERROR,
}


class Door:
    """Lets new sockets in at a bounded number and rate, and no mitra at the others' expense (R12)."""

    def __init__(self, rate_per_s: float, connections_max: int) -> None:
        self._rate = rate_per_s
        self._max = connections_max
        self._tokens = rate_per_s
        self._at = time.monotonic()
        self._pace = Pace(CONNECT_EVERY_S, CONNECTS_BURST)

    def enter(self, subject_id: str, open_now: int) -> None:
        """Raises `Refused` (503) when there are too many, or too many at once; 429 when all are this mitra's."""
        now = time.monotonic()
        self._pace.take(subject_id, "This account connects too often.")
        if open_now >= self._max:
            raise Refused(503, "full", "This instance holds as many sockets as it may.", retry_after=5)
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            raise Refused(503, "overloaded", "Too many sockets connect at once.", retry_after=1)
        self._tokens -= 1


Admit = Callable[[HTTPConnection], Awaitable[Peer]]
"""Lets a handshake in. Raises `Refused` or `StoreUnavailable`, holding nothing."""


class Socket:
    """The ASGI application of one kind of sockets."""

    def __init__(self, admit: Admit) -> None:
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        handshake = HTTPConnection(scope)
        try:
            peer = await self._admit(handshake)
        except HadirError as problem:
            refusal = problem if isinstance(problem, Refused) else _unavailable(problem)
            metrics.HANDSHAKES_REFUSED.labels(refusal.code).inc()
            log.debug("handshake.refused", extra={"code": refusal.code, "status": refusal.status})
            await _refuse(handshake, send, refusal)
            return
        protocol: SocketProtocol | None = scope["extensions"].get(EXTENSION)
        try:
            await send({"type": "websocket.accept", "subprotocol": _subprotocol(handshake)})
            if protocol is not None and protocol.hand_over(peer):
                return
        except BaseException:
            peer.ended(None)
            raise
        link = AsgiLink(send, peer, protocol)
        code: int | None = None
        try:
            peer.start(link)
            code = await _carry(receive, peer)
        finally:
            peer.ended(code)
            await link.finish()


def mitra_socket(node: Node, door: Door) -> Socket:
    """`/ws/mitra`."""

    async def admit(handshake: HTTPConnection) -> Peer:
        login = _at_the_door(node, handshake, "mitra")
        wants_online = _wanted_status(handshake)
        door.enter(login.subject_id, _open(node))
        return await node.sockets.admit(login, wants_online, node.market)

    return Socket(admit)


def customer_socket(node: Node, door: Door) -> Socket:
    """`/ws/customer`."""

    async def admit(handshake: HTTPConnection) -> Peer:
        login = _at_the_door(node, handshake, "customer")
        door.enter(login.subject_id, _open(node))
        return await node.customer_sockets.admit(login, node.market)

    return Socket(admit)


def door_of(node: Node) -> Door:
    """One door for the public sockets of all kinds: they share the descriptors."""
    return Door(node.config.connect_rate_per_s, node.config.max_connections)


def _open(node: Node) -> int:
    return len(node.registry) + len(node.customers)


def _at_the_door(node: Node, handshake: HTTPConnection, role: str) -> Login:
    require_ready(node)
    origin = handshake.headers.get("origin")
    if origin is not None and origin not in node.config.allowed_origins:
        raise Refused(403, "origin", "Sockets from pages of this origin are not allowed.")
    login = node.sockets.verify(bearer_of(handshake))
    if login.role in CONTROL_CENTRE:
        raise Refused(403, "wrong_role", f"This socket needs a token of role {role}.")
    if login.role != role:
        raise Refused(401, "bad_token", f"This socket needs a token of role {role}.")
    return login


def dashboard_socket(node: Node) -> Socket:
    """`/ws/dashboard`, of the internal listener."""

    async def admit(handshake: HTTPConnection) -> Peer:
        require_ready(node)
        origin = handshake.headers.get("origin")
        own = urlsplit(origin or "").netloc == handshake.headers.get("host")
        if origin is not None and not own and origin not in node.config.allowed_origins:
            raise Refused(403, "origin", "Sockets from pages of this origin are not allowed.")
        login, checked = await reader(node, handshake)
        return await node.dashboards.admit(login, checked=checked)

    return Socket(admit)


def require_ready(node: Node) -> None:
    if node.sockets.draining or node.state != "ready":
        raise Refused(503, "draining", "This instance takes no new sockets.", retry_after=1)


def _unavailable(problem: HadirError) -> Refused:
    if not isinstance(problem, StoreUnavailable):
        raise problem
    return Refused(503, "unavailable", str(problem), retry_after=2)


def _wanted_status(handshake: HTTPConnection) -> bool | None:
    asked = handshake.query_params.get("status")
    if asked not in (None, "online", "offline"):
        raise Refused(422, "bad_field", "status must be online or offline.", field="status")
    return None if asked is None else asked == "online"


def _subprotocol(handshake: HTTPConnection) -> str | None:
    return SUBPROTOCOL if SUBPROTOCOL in handshake.scope["subprotocols"] else None


async def _refuse(handshake: HTTPConnection, send: Send, refusal: Refused) -> None:
    """A problem document; a browser, which could not see it, gets the upgrade, one `error` and the code."""
    if "origin" in handshake.headers:
        if (protocol := handshake.scope["extensions"].get(EXTENSION)) is not None:
            protocol.closing = True
        await send({"type": "websocket.accept", "subprotocol": _subprotocol(handshake)})
        told = error(refusal.code, refusal.detail, field=refusal.field)
        await send({"type": "websocket.send", "text": told})
        code = BROWSER_CODES.get(refusal.code, CloseCode.OVERLOADED)
        await send({"type": "websocket.close", "code": int(code), "reason": code.text})
        return
    document = problems.body(refusal.status, refusal.code, refusal.detail, field=refusal.field)
    headers = problems.headers_of(refusal) | {
        "content-type": problems.MEDIA_TYPE,
        "content-length": str(len(document)),
    }
    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": listed})
    await send({"type": "websocket.http.response.body", "body": document})


async def _carry(receive: Receive, peer: Peer) -> int | None:
    """Frames to the peer's dialogue until there are no more; answers the code of the client's close frame."""
    while True:
        message: Message = await receive()
        if message["type"] == "websocket.disconnect":
            return message.get("code")
        if (text := message.get("text")) is not None:
            peer.text(text)
        else:
            peer.binary()


class AsgiLink:
    """What goes out, in order, by a task that exists only while something waits."""

    def __init__(self, send: Send, peer: Peer, protocol: SocketProtocol | None) -> None:
        self._send = send
        self._peer = peer
        self._protocol = protocol
        self._outbox: deque[Message] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False
        if protocol is not None:
            protocol.on_ping = peer.ping
            protocol.on_frame = peer.frame
            protocol.on_deaf = lambda: peer.close(CloseCode.SLOW)

    @property
    def busy(self) -> bool:
        return self._writer is not None

    def send(self, text: str) -> None:
        if not self._closed:
            self._put({"type": "websocket.send", "text": text})

    def close(self, code: CloseCode) -> None:
        if not self._closed:
            self._put({"type": "websocket.close", "code": int(code), "reason": code.text})
            self._closed = True
            if self._protocol is not None:
                self._protocol.closing = True

    def _put(self, message: Message) -> None:
        if len(self._outbox) >= OUTBOX_MAX:
            self._closed = True
            self._outbox.clear()
            self._peer.close(CloseCode.SLOW)
            if self._protocol is not None:
                self._protocol.abort()
            return
        self._outbox.append(message)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._outbox:
                await self._send(self._outbox.popleft())
        except (OSError, RuntimeError):  # the latter is uvicorn's word for a connection that its parser has closed
            self._closed = True  # the reader hears of it too
            self._outbox.clear()
        finally:
            self._writer = None
        if not self._closed:
            self._peer.sent()

    async def finish(self) -> None:
        """Lets the writer end: with what it has, or because the peer is gone."""
        if self._writer is not None:
            await asyncio.wait([self._writer])

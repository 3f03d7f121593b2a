"""`/api/internal/live`, `/series` and `/activity`: what goes on, as a stream of events and as it was."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hadir.http.auth import reader
from hadir.http.pages import LIMIT_MAX
from hadir.http.requests import json_response, node_of, until_gone, whole
from hadir.http.sockets import require_ready
from hadir.realtime.activity import read_last
from hadir.realtime.messages import CloseCode
from hadir.realtime.peer import Peer
from hadir.realtime.series import MINUTES_MAX, read_series
from hadir.realtime.waiting import happens

MEDIA_TYPE = "text/event-stream"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""The latter asks proxies to pass on what comes at once."""
COMMENT_S = 15.0
COMMENT = b": still here\n\n"
EVENTS = frozenset({"hello", "counts", "presence"})
"""Of what dashboards are told; the rest is for those who can answer."""
TYPE_AT = len('{"type":"')
MINUTES, ENTRIES = 60, 100


async def series(request: Request) -> Response:
    """The counts of the last minutes; null where nobody counted."""
    node = node_of(request)
    await reader(node, request)
    minutes = whole(request, "minutes", MINUTES, 1, MINUTES_MAX)
    return json_response(await read_series(node.postgres, minutes))


async def activity(request: Request) -> Response:
    """What happened last, newest first."""
    node = node_of(request)
    await reader(node, request)
    limit = whole(request, "limit", ENTRIES, 1, LIMIT_MAX)
    return json_response({"entries": await read_last(node.postgres, limit)})


async def live(request: Request) -> Response:
    """What dashboards are told, as server-sent events, until somebody ends it."""
    node = node_of(request)
    require_ready(node)
    login, checked = await reader(node, request)
    if request.method == "HEAD":
        return Response(headers=HEADERS, media_type=MEDIA_TYPE)
    return EventStream(await node.dashboards.admit(login, checked=checked, stream=True))


@lru_cache(maxsize=8)
def event(text: str) -> bytes:
    """A frame of a socket as an event of a stream (WHATWG HTML, 9.2.6); b"" for one that is none."""
    kind = text[TYPE_AT : text.index('"', TYPE_AT)]
    return f"event: {kind}\ndata: {text}\n\n".encode() if kind in EVENTS else b""


class EventStream(Response):
    """The link of a watcher that only listens; what it does not read in time, the connection's protocol ends."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(headers=HEADERS, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._peer = peer
        self._outbox: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._code: CloseCode | None = None

    @property
    def busy(self) -> bool:
        return bool(self._outbox)

    def send(self, text: str) -> None:
        if frame := event(text):
            self._outbox.append(frame)
            self._wake.set()

    def close(self, code: CloseCode) -> None:
        self._code = code
        self._wake.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            self._peer.start(self)
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._write(send))
                tasks.create_task(_end_when_gone(receive, writing))
        finally:
            self._peer.ended(None)

    async def _write(self, send: Send) -> None:
        while self._code is None:
            await happens(self._wake, COMMENT_S)
            self._wake.clear()
            if not self._outbox and self._code is None:
                await send({"type": "http.response.body", "body": COMMENT, "more_body": True})
            while self._outbox:  # it stays there until the transport takes it: so long the peer is busy
                await send({"type": "http.response.body", "body": self._outbox[0], "more_body": True})
                self._outbox.popleft()
            self._peer.sent()
        await send({"type": "http.response.body", "body": f": {self._code.text}\n\n".encode(), "more_body": False})


async def _end_when_gone(receive: Receive, writing: asyncio.Task[None]) -> None:
    await until_gone(receive)
    writing.cancel()

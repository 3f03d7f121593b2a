"""The beacon's short way: whatever is asked, however it arrives, the bytes are those of the application."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable

import pytest
from uvicorn.server import ServerState

from hadir.dev.embedded import EmbeddedValkey
from hadir.http import app
from hadir.http.beacon import ShortWay, max_age
from hadir.http.protocol import Answers, HttpProtocol, nobody_answers
from hadir.http.server import _listener
from hadir.realtime.node import Node
from tests.http.test_wire import Line
from tests.support.system import System

HOST = b"Host: h\r\n"
FIELDS = (
    b"",
    b"User-Agent: curl/8\r\nAccept: */*\r\n",
    b"connection: keep-alive\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"If-None-Match: TAG\r\n",
    b'if-none-match:  W/TAG , "other"\r\n',
    b'If-None-Match: "other"\r\nIF-NONE-MATCH: TAG\r\n',
    b"If-None-Match: *\r\n",
    b"If-None-Match:\r\n",
    b"If-None-Match: TAG\tx\r\n",
    b"Origin: https://example.org\r\n",
    b"X-Y: \xc3\xa9\r\n",
    b"Broken\r\n",
    b"Broken : x\r\n",
    b" folded\r\n",
    b"Content-Length: 2\r\n",
    b"Expect: 100-continue\r\n",
)
STARTS = (
    b"GET /api/beacon HTTP/1.1\r\n",
    b"GET /api/beacon HTTP/1.0\r\n",
    b"GET /api/beacon?x=1 HTTP/1.1\r\n",
    b"GET /api/beacon/ HTTP/1.1\r\n",
    b"HEAD /api/beacon HTTP/1.1\r\n",
    b"POST /api/beacon HTTP/1.1\r\n",
    b"get /api/beacon HTTP/1.1\r\n",
)


OTHER = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
ANSWERED = b""
"""Between parts: until what came before is answered."""


def short_way(node: Node) -> ShortWay:
    return ShortWay(node.availability, node.config.allowed_origins)


def protocol_of(node: Node, answers: Answers) -> tuple[HttpProtocol, Line]:
    listener = _listener(app.public(node), node.config, answers)
    listener.config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    made, line = HttpProtocol(config=listener.config, server_state=state, app_state={}), Line()
    made.connection_made(line)
    return made, line


async def said(node: Node, answers: Answers, parts: list[bytes]) -> tuple[bytes, str]:
    """What is written for these parts of a stream, and how the connection ended; seconds that go by left out."""
    protocol, line = protocol_of(node, answers)
    for part in parts:
        if part and not line.ended:
            protocol.data_received(part)
        if part == ANSWERED:
            await idle(protocol)
    await idle(protocol)
    protocol._forget_deadline()
    protocol._unset_keepalive_if_required()
    return re.sub(rb"max-age=\d+", b"", line.written), line.ended


async def idle(protocol: HttpProtocol) -> None:
    async with asyncio.timeout(10):
        while protocol.tasks:
            await asyncio.sleep(0)


def whole(request: bytes) -> list[bytes]:
    return [request]


def cut(request: bytes) -> list[bytes]:
    return [request[:30], request[30:-3], request[-3:]]


def followed(request: bytes) -> list[bytes]:
    return [request, ANSWERED, OTHER, ANSWERED, request]


def at_once(request: bytes) -> list[bytes]:
    return [OTHER, request]


def in_a_head(request: bytes) -> list[bytes]:
    return [OTHER + b"GET /health HTTP/1.1\r\nX-Y: ", ANSWERED, request]


def together(request: bytes) -> list[bytes]:
    return [request + request]


@pytest.mark.parametrize("origins", ["", "https://example.org"])
async def test_every_request_is_answered_as_the_application_answers_it(
    database: str, valkey: EmbeddedValkey, origins: str
) -> None:
    async with System(database, valkey.url) as system:
        node = (await system.instance(BEACON_CACHE_SECONDS="300", ALLOWED_ORIGINS=origins)).node
        assert node is not None
        await node.availability.beacon()
        tag = re.search(rb'"[0-9a-f]+"', (await said(node, nobody_answers, [STARTS[0] + HOST + b"\r\n"]))[0])
        assert tag is not None
        ways: tuple[Callable[[bytes], list[bytes]], ...] = (whole, cut, followed, at_once, in_a_head, together)
        for start, fields, way in itertools.product(STARTS, FIELDS, ways):
            parts = way(start + HOST + fields.replace(b"TAG", tag[0]) + b"\r\n")
            short, application = await said(node, short_way(node), parts), await said(node, nobody_answers, parts)
            assert short == application, parts


@pytest.mark.parametrize("fields", [FIELDS[1], FIELDS[2], FIELDS[5].replace(b"TAG", b'"x"')])
async def test_a_plain_request_is_answered_before_anything_else_runs(
    database: str, valkey: EmbeddedValkey, fields: bytes
) -> None:
    async with System(database, valkey.url) as system:
        node = (await system.instance(BEACON_CACHE_SECONDS="300")).node
        assert node is not None
        protocol, line = protocol_of(node, short_way(node))
        request = STARTS[0] + HOST + fields + b"\r\n"
        protocol.data_received(request)
        assert line.written == b"", "what is not known yet, the application finds out"
        await idle(protocol)
        line.written, before = b"", time.monotonic()
        protocol.data_received(request)
        answer = node.availability.known()
        assert answer is not None
        assert line.written.endswith(b"\r\n\r\n" + answer.body)
        left = re.search(rb"max-age=(\d+)", line.written)
        assert left is not None
        assert max_age(answer, time.monotonic()) <= int(left[1]) <= max_age(answer, before)
        assert not protocol.tasks
        protocol._unset_keepalive_if_required()

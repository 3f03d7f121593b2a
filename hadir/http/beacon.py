"""`GET /api/beacon`: how many are available now, cached everywhere, right about its own age."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from hadir import metrics
from hadir.errors import StoreUnavailable
from hadir.http import problems
from hadir.http.protocol import Headers
from hadir.http.requests import node_of, none_match
from hadir.realtime.availability import Availability, Beacon

ANY_ORIGIN = {"access-control-allow-origin": "*"}


async def beacon(request: Request) -> Response:
    try:
        answer = await node_of(request).availability.beacon()
    except StoreUnavailable as error:
        metrics.BEACON_ANSWERS.labels("unavailable").inc()
        response = problems.unavailable(request, error)
        response.headers.update(ANY_ORIGIN)
        return response
    metrics.BEACON_ANSWERED[answer.state].more += 1
    full, same = responses(answer, time.monotonic())
    return same if {full.headers["etag"], "*"} & none_match(request.headers.getlist("if-none-match")) else full


def responses(answer: Beacon, now: float) -> tuple[Response, Response]:
    """To whoever does not have this body yet, and to whoever has."""
    etag = f'"{hashlib.blake2b(answer.body, digest_size=8).hexdigest()}"'
    headers = {"cache-control": f"public, max-age={max_age(answer, now)}", "etag": etag, **ANY_ORIGIN}
    full = Response(answer.body, headers=headers, media_type="application/json")
    return full, Response(status_code=304, headers=headers)


def max_age(answer: Beacon, now: float) -> int:
    """Whole seconds left, so that caches do not add up; an answer that is not live is asked for again soon."""
    if answer.state != "live":
        return 1
    return max(0, int(answer.expires - now))


class ShortWay:
    """Writes the present answer to plain requests for it: rendered once a second, else only the head is looked at.

    Whatever is not plain, and the first request after the answer has expired, goes to the application.
    """

    def __init__(self, availability: Availability, allowed_origins: Sequence[str]) -> None:
        self._availability = availability
        self._vary = [VARY] if allowed_origins else []  # as the application's middleware for them does
        self._answer: Beacon | None = None
        self._headers: Headers = []
        self._until = 0.0

    def __call__(self, data: bytes, headers: Headers) -> bytes | None:
        if not data.startswith(PLAIN_START) or len(data) > PLAIN_MAX:
            return None
        tags = asked_plainly(data)
        answer = self._availability.known()
        if tags is None or answer is None:
            return None
        now = time.monotonic()
        if answer is not self._answer or headers is not self._headers or now > self._until:
            self._render(answer, headers, now)
        self._answered.more += 1
        return self._same if self._tags & tags else self._full

    def _render(self, answer: Beacon, headers: Headers, now: float) -> None:
        full, same = responses(answer, now)
        self._answer, self._headers = answer, headers
        self._until = answer.expires - max_age(answer, now) if answer.state == "live" else answer.expires
        self._tags = frozenset((full.headers["etag"], "*"))
        self._full, self._same = [rendered(each, [*headers, *each.raw_headers, *self._vary]) for each in (full, same)]
        self._answered = metrics.BEACON_ANSWERED[answer.state]


VARY = (b"vary", b"Origin")
PLAIN_START = b"GET /api/beacon HTTP/1.1\r\n"
PLAIN_MAX = 2_048
FIELD = re.compile(rb"([A-Za-z0-9-]+): ?([!-~](?:[ -~]*[!-~])?)")
NOT_PLAIN = frozenset(
    (b"connection", b"content-length", b"expect", b"origin", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


@lru_cache(maxsize=512)
def asked_plainly(head: bytes) -> frozenset[str] | None:
    """The tags of `If-None-Match` in a whole request's head; None where something in it could change more than that."""
    if not head.endswith(b"\r\n\r\n"):
        return None
    known = []
    for line in head[len(PLAIN_START) : -4].split(b"\r\n"):
        field = FIELD.fullmatch(line)
        if field is None:
            return None
        name, value = field[1].lower(), field[2]
        if name in NOT_PLAIN and (name, value.lower()) != (b"connection", b"keep-alive"):
            return None
        if name == b"if-none-match":
            known.append(value.decode())
    return frozenset(none_match(known))


def rendered(response: Response, headers: Headers) -> bytes:
    """As uvicorn writes it."""
    fields = b"".join(b"%b: %b\r\n" % field for field in headers)
    return STATUS_LINE[response.status_code] + fields + b"\r\n" + bytes(response.body)

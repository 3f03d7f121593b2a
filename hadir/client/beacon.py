"""The customers' beacon over plain asyncio streams."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, replace
from http.client import parse_headers
from io import BytesIO
from urllib.parse import urlsplit

import orjson

ANSWER_MAX = 64 * 1024
FIELDS = {"available": int, "online": int, "as_of": str, "max_age_s": int | float, "state": str}


@dataclass(frozen=True, slots=True)
class Beacon:
    """An answer of the beacon. `as_of`: when it was counted (ISO-8601, server's clock), valid for `max_age_s`."""

    available: int
    online: int
    as_of: str
    max_age_s: float
    state: str
    etag: str | None
    fresh_for_s: float
    """Seconds for which the HTTP answer said it may be kept, from when it came."""
    unchanged: bool = False
    """The server answered 304: nothing has changed since the one that was handed in."""


class BeaconUnavailable(Exception):
    """There was an answer, but it was no beacon; `status` is its HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the beacon answered {status}")
        self.status = status


class BeaconMalformed(Exception):
    """There was an answer with status 200, but not as the protocol has it; the text says what was wrong."""


async def fetch_beacon(url: str, previous: Beacon | None = None, *, timeout_s: float = 5.0) -> Beacon:
    """One GET of the beacon at `url`; with `previous`, a conditional one.

    Raises `BeaconUnavailable`, `BeaconMalformed`, or OSError (TimeoutError is one) when there was no answer.
    """
    async with asyncio.timeout(timeout_s):
        answer = await _get(url, None if previous is None else previous.etag)
    head, _, body = answer.partition(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", first)
    if status is None:
        raise ConnectionError("the beacon's answer was no HTTP")
    headers = parse_headers(BytesIO(rest + b"\r\n\r\n"))
    max_age = re.search(r"max-age=(\d+)", headers.get("Cache-Control", ""))
    fresh_for_s = float(max_age.group(1)) if max_age else 0.0
    if status.group(1) == b"304" and previous is not None:
        return replace(previous, fresh_for_s=fresh_for_s, unchanged=True)
    if status.group(1) != b"200":
        raise BeaconUnavailable(int(status.group(1)))
    try:
        return _parse(body, headers.get("ETag"), fresh_for_s)
    except (KeyError, TypeError, ValueError) as error:  # JSONDecodeError is a ValueError
        raise BeaconMalformed(f"the beacon's answer is not of the protocol: {error!r}") from error


def _parse(body: bytes, etag: str | None, fresh_for_s: float) -> Beacon:
    """Raises KeyError, TypeError or ValueError."""
    fields = orjson.loads(body)
    beacon = Beacon(etag=etag, fresh_for_s=fresh_for_s, **{name: fields[name] for name in FIELDS})
    for name, kind in FIELDS.items():
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise TypeError(f"{name} is {fields[name]!r}")
    return beacon


async def _get(url: str, etag: str | None) -> bytes:
    """The whole answer. HTTP/1.0, so that its end is the connection's end and it is never chunked."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=ssl.create_default_context() if secure else None
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.0", f"Host: {parts.netloc.rpartition('@')[2]}", "Accept: application/json"]
        if etag is not None:
            lines.append(f"If-None-Match: {etag}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = bytearray()
        while chunk := await reader.read(ANSWER_MAX):
            answer += chunk
            if len(answer) > ANSWER_MAX:
                raise ConnectionError("the beacon's answer was too long")
        return bytes(answer)
    finally:
        writer.close()

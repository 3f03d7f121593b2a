"""One HTTP request and its answer over plain asyncio streams."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPMessage, parse_headers
from io import BytesIO
from urllib.parse import urlsplit

ANSWER_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a server, whatever its status."""

    status: int
    headers: HTTPMessage
    body: bytes


async def exchange(
    method: str, url: str, headers: Mapping[str, str], body: bytes = b"", *, timeout_s: float, longest: int = ANSWER_MAX
) -> Answer:
    """Asks once. Raises OSError (TimeoutError is one) when there was no answer, or one of more than `longest` bytes."""
    async with asyncio.timeout(timeout_s):
        raw = await _talk(method, url, headers, body, longest)
    head, _, content = raw.partition(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", first)
    if status is None:
        raise ConnectionError(f"the answer of {url} was no HTTP")
    return Answer(int(status.group(1)), parse_headers(BytesIO(rest + b"\r\n\r\n")), content)


async def _talk(method: str, url: str, headers: Mapping[str, str], body: bytes, longest: int) -> bytes:
    """The whole answer. HTTP/1.0, so that its end is the connection's end and it is never chunked."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=ssl.create_default_context() if secure else None
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.0", f"Host: {parts.netloc.rpartition('@')[2]}", "Accept: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        answer = bytearray()
        while chunk := await reader.read(64 * 1024):
            answer += chunk
            if len(answer) > longest:
                raise ConnectionError(f"the answer of {url} was too long")
        return bytes(answer)
    finally:
        writer.close()

"""What comes from a server, as values: messages, the answer that is an error, and what an attempt's error means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from hadir.client.verdict import Refused

Message = Mapping[str, Any]


class Answered(Exception):
    """The server answered a request with `error`: `code` for programs, the text for people."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"{message.get('code')}: {message.get('message')}")
        self.code = str(message.get("code"))
        self.field: str | None = message.get("field")


def parse(frame: str | bytes) -> Message:
    """A server's frame. What is no JSON object is an empty message, which concerns nobody."""
    try:
        message = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}


def refusal(url: str, error: BaseException) -> Refused | None:
    """The `Refused` that an attempt's error amounts to; None for what is no refusal."""
    match error:
        case InvalidStatus():
            response = error.response
            problem = parse(bytes(response.body)).get("code")
            retry_after = response.headers.get("Retry-After", "0")
            return Refused(
                f"{url} answered {response.status_code}",
                status=response.status_code,
                problem=problem if isinstance(problem, str) else None,
                retry_after_s=float(retry_after) if retry_after.isdigit() else 0.0,
            )
        case ConnectionClosed():
            code = None if error.rcvd is None else error.rcvd.code
            return Refused(f"{url} closed with {code} before its hello", close_code=code)
        case OSError() | InvalidHandshake() | InvalidMessage():
            return Refused(f"{url}: {error or type(error).__name__}")
        case KeyError() | TypeError() | ValueError():
            return Refused(f"{url} said a hello that is not of this protocol: {error!r}")
    return None

"""The wire, version 1: messages parsed once at the door, and close codes with their verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from uuid import UUID

import orjson

from hadir.realtime.session import BODY_MAX, CLIENT_ID_MAX

FRAME_MAX = 16 * 1024
"""Bytes of a text frame; above it `too_large`, above `MESSAGE_MAX` the connection ends with 1009."""
MESSAGE_MAX = 64 * 1024
SUBPROTOCOL = "hadir.v1"
BEARER_SUBPROTOCOL = "bearer."
ID_MAX = 64


class CloseCode(IntEnum):
    """Close codes this server sends. 45xx: the app must not come back by itself."""

    NORMAL = 1000
    TOO_BIG = 1009
    RESTARTING = 1012
    OVERLOADED = 1013
    TOKEN_EXPIRED = 4001
    SILENT = 4002
    SLOW = 4003
    TOO_FAST = 4004
    ROTATED = 4005
    SUPERSEDED = 4006
    REVOKED = 4501
    DEACTIVATED = 4502
    DISPLACED = 4503
    PROTOCOL_ERROR = 4504

    @property
    def text(self) -> str:
        """The reason in the close frame."""
        return self.name.lower()


REASONS: Mapping[int, str] = {
    CloseCode.RESTARTING: "drained",
    CloseCode.TOKEN_EXPIRED: "token_expired",
    CloseCode.SILENT: "silent",
    CloseCode.SLOW: "slow",
    CloseCode.TOO_FAST: "too_fast",
    CloseCode.ROTATED: "rotated",
    CloseCode.REVOKED: "revoked",
    CloseCode.DEACTIVATED: "deactivated",
    CloseCode.PROTOCOL_ERROR: "protocol_error",
}
"""Why a presence row changed when its socket closed with this code from our side; anything else is `lost`."""

FINAL = frozenset({CloseCode.REVOKED, CloseCode.DEACTIVATED, CloseCode.PROTOCOL_ERROR})
"""Codes after which a mitra is offline at once."""


def ending(code: int | None, *, ours: bool) -> tuple[bool, str]:
    """(offline at once?, reason) of a connection whose first close frame carried `code`; None: there was none."""
    if code is None or not ours:
        return (True, "goodbye") if code == CloseCode.NORMAL else (False, "lost")
    return code in FINAL, REASONS.get(code, "lost")


class WireError(Exception):
    """A frame that is not of the protocol: becomes one `error` message, and the socket stays."""

    def __init__(self, code: str, message: str, *, field: str | None = None, re: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.re = code, message, field, re


@dataclass(frozen=True, slots=True)
class Ping:
    id: str | None


@dataclass(frozen=True, slots=True)
class Status:
    id: str | None
    online: bool


@dataclass(frozen=True, slots=True)
class TokenRefresh:
    id: str | None
    token: str


@dataclass(frozen=True, slots=True)
class Sync:
    id: str | None


@dataclass(frozen=True, slots=True)
class OfferAccept:
    id: str | None
    pairing_id: str


@dataclass(frozen=True, slots=True)
class OfferDecline:
    id: str | None
    pairing_id: str


@dataclass(frozen=True, slots=True)
class OfferSeen:
    id: str | None
    pairing_id: str


@dataclass(frozen=True, slots=True)
class SessionEnd:
    id: str | None
    session_id: str


@dataclass(frozen=True, slots=True)
class ChatSend:
    id: str | None
    session_id: str
    client_id: str
    body: str


Command = OfferAccept | OfferDecline | OfferSeen | SessionEnd | ChatSend
"""What Postgres has to decide."""
ClientMessage = Ping | Status | TokenRefresh | Sync | Command
DASHBOARD_SENDS = frozenset({"ping", "token.refresh", "sync"})
CUSTOMER_SENDS = DASHBOARD_SENDS | {"session.end", "chat.send"}
MITRA_SENDS = CUSTOMER_SENDS | {"status", "offer.accept", "offer.decline", "offer.seen"}


def parse(text: str, takes: frozenset[str]) -> ClientMessage:
    """A client's text frame as a message of a type that is taken from it.

    Raises `WireError` naming what was wrong and what was expected.
    """
    if len(text) > FRAME_MAX or len(text.encode()) > FRAME_MAX:
        raise WireError("too_large", f"A frame may have at most {FRAME_MAX} bytes.")
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise WireError("not_json", "A frame must be one JSON object; this one is not JSON.") from None
    if not isinstance(fields, dict):
        raise WireError("not_an_object", "A frame must be one JSON object; this one is other JSON.")
    message_id = _id(fields)
    kind = fields.get("type")
    if isinstance(kind, str) and kind not in takes:
        why = f"The type is none that this socket takes: {', '.join(sorted(takes))}."
        raise WireError("unknown_type", why, field="type", re=message_id)
    match kind:
        case "ping":
            return Ping(message_id)
        case "status":
            return Status(message_id, _field(fields, "online", bool, "true or false"))
        case "token.refresh":
            return TokenRefresh(message_id, _field(fields, "token", str, "a string"))
        case "sync":
            return Sync(message_id)
        case "offer.accept":
            return OfferAccept(message_id, _uuid(fields, "pairing_id"))
        case "offer.decline":
            return OfferDecline(message_id, _uuid(fields, "pairing_id"))
        case "offer.seen":
            return OfferSeen(message_id, _uuid(fields, "pairing_id"))
        case "session.end":
            return SessionEnd(message_id, _uuid(fields, "session_id"))
        case "chat.send":
            return ChatSend(
                message_id,
                _uuid(fields, "session_id"),
                _text(fields, "client_id", CLIENT_ID_MAX),
                _text(fields, "body", BODY_MAX),
            )
        case _:
            raise WireError("bad_field", "type must be a string.", field="type", re=message_id)


def _id(fields: dict[str, Any]) -> str | None:
    value = fields.get("id")
    if value is None or (isinstance(value, str) and len(value) <= ID_MAX):
        return value
    raise WireError("bad_field", f"id must be a string of at most {ID_MAX} characters.", field="id")


def _field(fields: dict[str, Any], name: str, kind: type, expected: str) -> Any:
    value = fields.get(name)
    if type(value) is kind:
        return value
    raise WireError("bad_field", f"{name} must be {expected}.", field=name, re=fields.get("id"))


def _uuid(fields: dict[str, Any], name: str) -> str:
    value = _field(fields, name, str, "a UUID").lower()
    if is_uuid(value):
        return str(value)
    raise WireError("bad_field", f"{name} must be a UUID.", field=name, re=fields.get("id"))


def _text(fields: dict[str, Any], name: str, longest: int) -> str:
    expected = f"a text of 1 to {longest} characters"
    value = _field(fields, name, str, expected)
    if fits(value, longest):
        return str(value)
    raise WireError("bad_field", f"{name} must be {expected}.", field=name, re=fields.get("id"))


def fits(text: str, longest: int) -> bool:
    """Whether a text of people can be kept: not empty, not too long, without what Postgres has no place for."""
    return 0 < len(text) <= longest and "\0" not in text


def is_uuid(text: str) -> bool:
    """Whether a text is an id as this program writes them: a lower-case UUID."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def encode(kind: str, *, nulls: Mapping[str, Any] | None = None, **fields: Any) -> str:
    """A server's message as its text frame; fields that are None are left out, but for those among `nulls`."""
    present = {name: value for name, value in fields.items() if value is not None}
    return orjson.dumps({"type": kind, **present, **(nulls or {})}, option=orjson.OPT_UTC_Z).decode()


def error(code: str, message: str, *, field: str | None = None, re: str | None = None) -> str:
    return encode("error", code=code, message=message, field=field, re=re)

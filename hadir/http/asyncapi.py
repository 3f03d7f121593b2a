"""The AsyncAPI 3.0 document of the sockets: every message of both directions, the token, the close codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hadir import __version__
from hadir.http.openapi_schemas import (
    BODY,
    BOOLEAN,
    CLIENT_ID,
    COUNT,
    NUMBER,
    SCHEMAS,
    TEXT,
    TIME,
    UUID,
    WHAT_MITRAS_HOLD,
    Schema,
    listing,
    named_in,
    nullable,
    one_of,
    reached,
    record,
    ref,
)
from hadir.realtime.activity import SHOWN
from hadir.realtime.messages import (
    BEARER_SUBPROTOCOL,
    CUSTOMER_SENDS,
    DASHBOARD_SENDS,
    FRAME_MAX,
    ID_MAX,
    MESSAGE_MAX,
    MITRA_SENDS,
    SUBPROTOCOL,
    CloseCode,
)
from hadir.realtime.movers import LISTED_MAX
from hadir.realtime.pairing import CLOSED_BECAUSE

Document = dict[str, Any]

FRAME_ERRORS = (
    "bad_field",
    "bad_token",
    "binary_frame",
    "internal",
    "not_an_object",
    "not_json",
    "overloaded",
    "too_fast",
    "too_large",
    "unavailable",
    "unknown_session",
    "unknown_type",
    "wrong_state",
)
REFUSALS: Mapping[int, tuple[str, ...]] = {
    401: ("bad_token", "revoked", "token_expired"),
    403: ("deactivated", "origin", "unknown_subject", "wrong_role"),
    422: ("bad_field",),
    429: ("too_many",),
    503: ("draining", "full", "overloaded", "unavailable"),
}
"""How a handshake is refused: status → codes. A browser gets the same code in one `error`."""
NOT_MET = {
    "mitra": (),
    "customer": ("bad_field", "deactivated"),
    "dashboard": ("bad_field", "deactivated", "overloaded", "unknown_subject"),
}
"""Those of them that a channel has no use for."""

AGAIN, NEW_TOKEN, IF_NEWEST, NEVER, GOODBYE = (
    "yes",
    "with a new token",
    "if this was the newest socket",
    "no",
    "goodbye",
)
COME_BACK = {
    CloseCode.NORMAL: GOODBYE,
    CloseCode.TOKEN_EXPIRED: NEW_TOKEN,
    CloseCode.SUPERSEDED: IF_NEWEST,
    CloseCode.REVOKED: NEVER,
    CloseCode.DEACTIVATED: NEVER,
    CloseCode.DISPLACED: NEVER,
    CloseCode.PROTOCOL_ERROR: NEVER,
}
"""Whether an app comes back after a close code; after any other: yes, with full jitter over `reconnect_window_s`."""
MITRA_CODES = frozenset({CloseCode.DEACTIVATED, CloseCode.DISPLACED, CloseCode.SUPERSEDED})

MESSAGE_ID: Schema = {"type": ["string", "null"], "maxLength": ID_MAX, "description": "The answer has it as `re`."}
RE: Schema = {"type": "string", "maxLength": ID_MAX, "description": "The `id` of the message that this answers."}
LIMITS = record({"frame_bytes": COUNT, "frames_per_s": NUMBER, "frames_burst": NUMBER})
MITRA_STATE = record(
    {
        "online": BOOLEAN,
        "pending": BOOLEAN | {"description": "Not online yet, since the server cannot reach its database."},
        **WHAT_MITRAS_HOLD,
    }
)
CUSTOMER_STATE = record(
    {
        "pairings": listing(ref("Pairing")) | {"description": "Those that search."},
        "sessions": listing(ref("Session")) | {"description": "Those that are open."},
        "config": ref("PublicConfig"),
    }
)
GREETING = {
    "heartbeat_interval_s": NUMBER,
    "stale_after_s": NUMBER,
    "reconnect_window_s": NUMBER,
    "server_time": TIME,
    "token_ttl_s": COUNT,
    "limits": LIMITS,
}
COUNTED = {
    "counts": ref("LiveCounts"),
    "sessions": nullable(ref("SessionCounts")) | {"description": "Null while the database is away."},
    "pairings": nullable(ref("PairingCounts")) | {"description": "Null while the database is away."},
    "instances": listing(ref("Instance")),
    "as_of": nullable(TIME) | {"description": "When it was counted; null: never yet."},
    "activity": listing(ref("Activity")) | {"maxItems": SHOWN, "description": "Oldest first."},
}


def _taken(kind: str, **fields: Schema) -> Schema:
    """What an app sends: of it, unknown fields are ignored."""
    return record({"type": {"const": kind}, **fields, "id": MESSAGE_ID}, optional=("id",), takes_more=True)


def _sent(kind: str, fields: Mapping[str, Schema], *optional: str) -> Schema:
    return record({"type": {"const": kind}, **fields}, optional=optional)


TAKEN = {
    "ping": _taken("ping"),
    "status": _taken("status", online=BOOLEAN),
    "token.refresh": _taken("token.refresh", token=TEXT),
    "sync": _taken("sync"),
    "offer.accept": _taken("offer.accept", pairing_id=UUID),
    "offer.decline": _taken("offer.decline", pairing_id=UUID),
    "offer.seen": _taken("offer.seen", pairing_id=UUID),
    "session.end": _taken("session.end", session_id=UUID),
    "chat.send": _taken("chat.send", session_id=UUID, client_id=CLIENT_ID, body=BODY),
}
SENT_TO_ALL = {
    "pong": _sent("pong", {"server_time": TIME, "re": RE}, "re"),
    "error": _sent(
        "error",
        {
            "code": one_of(*sorted({*FRAME_ERRORS, *(code for codes in REFUSALS.values() for code in codes)})),
            "message": TEXT,
            "field": TEXT,
            "re": RE,
        },
        "field",
        "re",
    ),
    "token.expiring": _sent("token.expiring", {"expires_in_s": COUNT}),
    "reconnect": _sent("reconnect", {"after_ms": COUNT, "reason": one_of("max_age", "restarting")}),
}
SENT_TO_PARTIES = {
    "ack": _sent("ack", {"message": ref("Message"), "re": RE}, "message", "re"),
    "config.updated": _sent("config.updated", {"config": ref("PublicConfig")}),
    "session.updated": _sent("session.updated", {"session": ref("Session")}),
    "chat.message": _sent("chat.message", {"message": ref("Message")}),
}


def _greeted(state: Schema) -> dict[str, Schema]:
    return {
        "hello": _sent("hello", {"connection_id": TEXT, **GREETING, "state": state}),
        "sync": _sent("sync", {"state": state, "server_time": TIME, "re": RE}, "re"),
    }


SENT: Mapping[str, Mapping[str, Schema]] = {
    "mitra": {
        **_greeted(MITRA_STATE),
        "offer": _sent("offer", SCHEMAS["Offer"]["properties"]),
        "offer.result": _sent(
            "offer.result",
            {"pairing_id": UUID, "result": ref("AcceptResult"), "session": ref("Session"), "re": RE},
            "session",
            "re",
        ),
        "offer.closed": _sent(
            "offer.closed", {"pairing_id": UUID, "reason": one_of(*sorted({*CLOSED_BECAUSE.values()}))}
        ),
        **SENT_TO_PARTIES,
        **SENT_TO_ALL,
    },
    "customer": {
        **_greeted(CUSTOMER_STATE),
        "pairing.updated": _sent("pairing.updated", {"pairing": ref("Pairing")}),
        **SENT_TO_PARTIES,
        **SENT_TO_ALL,
    },
    "dashboard": {
        "hello": _sent("hello", {"instance": TEXT, "role": one_of("operator", "viewer"), **GREETING, **COUNTED}),
        "sync": _sent("sync", {"server_time": TIME, **COUNTED, "re": RE}, "re"),
        "counts": _sent("counts", COUNTED | {"more_activity": COUNT}),
        "presence": _sent(
            "presence", {"changes": listing(ref("PresenceChange")) | {"maxItems": LISTED_MAX}, "more": COUNT}
        ),
        "ack": _sent("ack", {"re": RE}, "re"),
        **SENT_TO_ALL,
    },
}
TAKES = {"mitra": MITRA_SENDS, "customer": CUSTOMER_SENDS, "dashboard": DASHBOARD_SENDS}
LISTENERS = {"mitra": "public", "customer": "public", "dashboard": "internal"}
CHANNELS = {
    "mitra": "An app of a mitra; its token has the role mitra.",
    "customer": "An app of a customer; its token has the role customer.",
    "dashboard": "A dashboard of the control centre; its token has the role operator or viewer.",
}
STATUS = record(
    {"status": one_of("online", "offline") | {"description": "A command; without it the stored intent holds."}},
    optional=("status",),
    takes_more=True,
)
HANDSHAKE = record(
    {
        "Authorization": {"type": "string", "pattern": "^Bearer .+$"},
        "Sec-WebSocket-Protocol": {
            "type": "string",
            "description": f"For browsers: `{SUBPROTOCOL}, {BEARER_SUBPROTOCOL}<token>`; `{SUBPROTOCOL}` is selected.",
        },
    },
    optional=("Authorization", "Sec-WebSocket-Protocol"),
    takes_more=True,
    description="The token comes in one of these, never in the URL.",
)
DESCRIPTION = f"""Frames are text, one JSON object each, without compression, of at most {FRAME_MAX} bytes; more than
{MESSAGE_MAX} end the connection. Unknown fields and unknown types of messages must be ignored. See docs/protocol.md."""


def document() -> Document:
    messages: dict[str, Document] = {}
    for kind, payload in TAKEN.items():
        messages[f"app.{kind}"] = _message(kind, payload)
    for channel, sent in SENT.items():
        for kind, payload in sent.items():
            messages[_name(channel, kind)] = _message(kind, payload)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Hadir", "version": __version__, "description": DESCRIPTION, "license": {"name": "MIT"}},
        "defaultContentType": "application/json",
        "servers": {
            listener: {
                "host": "{host}",
                "protocol": "wss",
                "variables": {"host": {"description": f"Where the {listener} listener is reached."}},
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
            for listener in dict.fromkeys(LISTENERS.values())
        },
        "channels": {name: _channel(name) for name in CHANNELS},
        "operations": {
            f"{name}.{verb}": {
                "action": verb,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": f"What the server {told}",
                "messages": [{"$ref": f"#/channels/{name}/messages/{pointer}"} for pointer in _pointers(name)[verb]],
            }
            for name in CHANNELS
            for verb, told in (("receive", "takes"), ("send", "sends"))
        },
        "components": {
            "messages": messages,
            "schemas": reached(named_in(messages)),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _name(channel: str, kind: str) -> str:
    if kind in SENT_TO_ALL:
        return f"server.{kind}"
    return f"party.{kind}" if SENT[channel][kind] is SENT_TO_PARTIES.get(kind) else f"{channel}.{kind}"


def _pointers(channel: str) -> dict[str, list[str]]:
    return {
        "receive": [f"app.{kind}" for kind in TAKEN if kind in TAKES[channel]],
        "send": [_name(channel, kind) for kind in SENT[channel]],
    }


def _message(kind: str, payload: Schema) -> Document:
    return {"name": kind, "payload": payload}


def _channel(name: str) -> Document:
    mitra = name == "mitra"
    handshake: Document = {"method": "GET", "headers": HANDSHAKE, "bindingVersion": "0.1.0"}
    if mitra:
        handshake["query"] = STATUS
    used = [pointer for pointers in _pointers(name).values() for pointer in pointers]
    refusals = {
        str(status): kept
        for status, codes in REFUSALS.items()
        if (kept := [code for code in codes if code not in NOT_MET[name]])
    }
    return {
        "address": f"/ws/{name}",
        "description": CHANNELS[name],
        "servers": [{"$ref": f"#/servers/{LISTENERS[name]}"}],
        "messages": {pointer: {"$ref": f"#/components/messages/{pointer}"} for pointer in used},
        "bindings": {"ws": handshake},
        "x-refused-handshakes": refusals,
        "x-close-codes": [
            {"code": int(code), "reason": code.text, "come_back": COME_BACK.get(code, AGAIN)}
            for code in CloseCode
            if mitra or code not in MITRA_CODES
        ],
    }

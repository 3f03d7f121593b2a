"""JSON schemas of what the listeners and the sockets say: the components of both documents.

They use what JSON Schema 2020-12 (OpenAPI 3.1) and draft 7 (AsyncAPI 3.0) have in common.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from hadir.http.market import PAYMENT_STATES
from hadir.http.mitras import STATES
from hadir.http.requests import TEXT_MAX
from hadir.realtime.appconfig import KEYS
from hadir.realtime.board import SESSION_STATES
from hadir.realtime.pairing import NOTE_MAX, AcceptResult, OfferStatus, PairingStatus
from hadir.realtime.payment import RUPIAH_MAX
from hadir.realtime.presence import State
from hadir.realtime.series import COLUMNS, STEP_S
from hadir.realtime.session import BODY_MAX, CLIENT_ID_MAX, END_REASONS, OPEN, SessionStatus

Schema = dict[str, Any]


def record(
    properties: Mapping[str, Schema], *, optional: Collection[str] = (), takes_more: bool = False, **more: Any
) -> Schema:
    """An object. What we send has no other fields; of what we take, others are ignored."""
    required = [name for name in properties if name not in optional]
    schema: Schema = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = required
    if not takes_more:
        schema["additionalProperties"] = False
    return schema | more


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]} if "$ref" in schema else schema | {"type": [schema["type"], "null"]}


def listing(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def ref(name: str, kind: Literal["schemas", "responses"] = "schemas") -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


TEXT: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number", "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
UUID: Schema = {"type": "string", "format": "uuid"}
WITHOUT_NUL = {"pattern": "^[^\\u0000]*$"}
SHORT_TEXT: Schema = {"type": "string", "maxLength": TEXT_MAX, **WITHOUT_NUL}
NOTE: Schema = {"type": "string", "maxLength": NOTE_MAX, **WITHOUT_NUL}
CLIENT_ID: Schema = {"type": "string", "minLength": 1, "maxLength": CLIENT_ID_MAX, **WITHOUT_NUL}
BODY: Schema = {"type": "string", "minLength": 1, "maxLength": BODY_MAX, **WITHOUT_NUL}
RUPIAH: Schema = {"type": "integer", "minimum": 0, "maximum": RUPIAH_MAX}
ANY: Schema = {"type": "object"}

MITRA_STATE = one_of(*State)
COUNTS = dict.fromkeys(("online", "suspect", "available", "busy", "deactivated", "connected"), COUNT)
STANDING = {
    "online": BOOLEAN,
    "suspect": BOOLEAN,
    "owner": {"type": ["string", "null"], "enum": ["socket", "http", None]},
}
WHAT_MITRAS_HOLD = {
    "wants_online": BOOLEAN,
    "offers": listing(ref("Offer")) | {"description": "Those that are open."},
    "sessions": listing(ref("Session")) | {"description": "Those that are open."},
    "config": ref("PublicConfig"),
}
PAIRING = {
    "id": UUID,
    "customer_id": UUID,
    "status": one_of(*PairingStatus),
    "note": TEXT,
    "created_at": TIME,
    "expires_at": TIME | {"description": "The deadline that is shown; the server decides five seconds later."},
    "decided_at": nullable(TIME),
    "mitra_id": nullable(UUID),
    "mitra_name": nullable(TEXT),
    "session_id": nullable(UUID),
    "reroute": BOOLEAN,
    "version": COUNT,
}
SESSION = {
    "id": UUID,
    "customer_id": UUID,
    "mitra_id": UUID,
    "mitra_name": TEXT,
    "status": one_of(*SessionStatus),
    "created_at": TIME,
    "payment_due_at": nullable(TIME),
    "started_at": nullable(TIME),
    "expires_at": nullable(TIME),
    "ended_at": nullable(TIME),
    "end_reason": nullable(TEXT)
    | {"description": f"{', '.join(END_REASONS)}; or what another program wrote that ended it."},
    "extensions": COUNT | {"description": "Extensions that were paid for."},
    "messages": COUNT | {"description": "`seq` of its last message."},
    "mitra_reachable": BOOLEAN,
    "version": COUNT,
}
OFFER_RECORD = record(
    {
        "mitra_id": UUID,
        "wave": COUNT,
        "status": one_of(*OfferStatus),
        "offered_at": TIME,
        "delivered_at": nullable(TIME),
        "seen_at": nullable(TIME),
        "answered_at": nullable(TIME),
    }
)
INSTANCE = {
    "id": TEXT,
    "name": TEXT,
    "version": TEXT,
    "started_at": TIME,
    "state": one_of("starting", "ready", "draining"),
    "sockets": COUNT,
    "beats_per_s": nullable(NUMBER) | {"description": "Of its sockets, at its last beat; null: not measured."},
    "loop_lag_s": nullable(NUMBER) | {"description": "The longest delay of its event loop between its last two beats."},
    "age_s": {"type": "number", "description": "Since its last beat."},
}
MITRA = {
    "id": UUID,
    "display_name": TEXT,
    "state": MITRA_STATE,
    "is_active": BOOLEAN,
    "wants_online": BOOLEAN,
    "reason": TEXT,
    "actor": nullable(TEXT),
    "changed_at": TIME,
    "online_since": nullable(TIME),
    "suspect_since": nullable(TIME),
    "last_heartbeat_at": nullable(TIME),
    "open_sessions": COUNT,
    "max_sessions": COUNT,
    "has_capacity": BOOLEAN,
}
CONFIG_KEY = {
    "key": one_of(*KEYS),
    "value": ref("ConfigValue"),
    "default": ref("ConfigValue"),
    "kind": one_of("integer", "text"),
    "min": nullable({"type": "integer"}) | {"description": "The least number; null of a text."},
    "max": {"type": "integer", "description": "The greatest number; of a text the most characters."},
    "doc": TEXT,
    "updated_at": nullable(TIME) | {"description": "Null: it is the default."},
    "actor": nullable(TEXT),
    "expected": TEXT,
    "schema": ANY,
    "public": BOOLEAN,
}
CONFIG_CHANGE = record(
    {"at": TIME, "actor": nullable(TEXT), "from": nullable(ref("ConfigValue")), "to": nullable(ref("ConfigValue"))}
)
NEXT = nullable(TEXT) | {"description": "The cursor of the following page; null at the end."}
SENTENCE: Schema = {"type": "string", "minLength": 1}

SCHEMAS: Mapping[str, Schema] = {
    "Problem": record(
        {
            "type": {"const": "about:blank"},
            "title": SENTENCE,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"type": "string", "pattern": "^[a-z_]+$", "description": "Stable, for programs."},
            "detail": SENTENCE | {"description": "For people."},
            "field": TEXT | {"description": "The field at fault."},
            "pairing_id": UUID | {"description": "Of `pairing_open`: the one that searches."},
            "state": TEXT | {"description": "Of `wrong_state`: the state that is in the way."},
        },
        optional=("field", "pairing_id", "state"),
        description="A problem document (RFC 9457).",
    ),
    "Health": record({"status": {"const": "ok"}}),
    "Readiness": record(
        {"state": one_of("ready", "degraded", "starting", "draining"), "why": listing(TEXT)}, optional=("why",)
    ),
    "Beacon": record(
        {
            "available": COUNT,
            "online": COUNT,
            "as_of": TIME,
            "max_age_s": NUMBER,
            "state": one_of("live", "rebuilding", "stale"),
        },
        description="Counted at `as_of`, valid for `max_age_s` seconds from then.",
    ),
    "PublicConfig": record({key.name: dict(key.schema) for key in KEYS.values() if key.public}),
    "Standing": record(STANDING),
    "MitraState": record(STANDING | WHAT_MITRAS_HOLD),
    "Offer": record(
        {"pairing_id": UUID, "offered_at": TIME, "expires_at": TIME, "note": TEXT, "reroute": BOOLEAN},
        description="A customer who can be taken; `reroute`: with a session that goes on.",
    ),
    "Pairing": record(PAIRING),
    "PairingWithSession": record(PAIRING | {"session": nullable(ref("Session"))}),
    "PairingWithWaves": record(PAIRING | {"session": nullable(ref("Session")), "waves": COUNT}),
    "PairingWithOffers": record(
        PAIRING | {"session": nullable(ref("Session")), "waves": COUNT, "offers": listing(OFFER_RECORD)}
    ),
    "Session": record(SESSION),
    "SessionWithPayments": record(SESSION | {"pairings": listing(ref("Pairing")), "payments": listing(ref("Payment"))}),
    "Message": record(
        {
            "id": UUID,
            "session_id": UUID,
            "seq": {"type": "integer", "minimum": 1, "description": "1, 2, 3, … within its session, without gaps."},
            "sender": one_of("customer", "mitra"),
            "client_id": TEXT,
            "body": TEXT,
            "at": TIME,
        }
    ),
    "Payment": record(
        {
            "external_id": TEXT | {"description": "The session's id, with `:<n>` for its n-th extension."},
            "invoice_id": TEXT,
            "session_id": nullable(UUID),
            "extension": COUNT,
            "state": one_of(*PAYMENT_STATES),
            "amount": nullable(RUPIAH),
            "paid_at": nullable(TIME),
            "actor": nullable(TEXT),
            "created_at": TIME,
            "changed_at": TIME,
        },
        description="An invoice that was paid or has expired.",
    ),
    "AcceptResult": one_of(*AcceptResult),
    "Counts": record(COUNTS | {"state": one_of("live", "rebuilding")}),
    "Instance": record(INSTANCE),
    "ListedInstance": record(INSTANCE | {"self": BOOLEAN}),
    "Mitra": record(MITRA),
    "WholeMitra": record(
        MITRA
        | {
            "created_at": TIME,
            "version": COUNT,
            "connection_id": nullable(TEXT),
            "instance_id": nullable(TEXT),
            "sid": nullable(UUID),
            "claimed_at": nullable(TIME),
            "last_session_at": nullable(TIME),
            "logins": listing(ref("Login")),
            "sessions": listing(ref("SessionOfMitra")),
        }
    ),
    "Login": record({"sid": UUID, "expires_at": nullable(TIME), "revoked_at": nullable(TIME)}),
    "SessionOfMitra": record(
        {
            "id": UUID,
            "customer_id": UUID,
            "status": one_of(*sorted(OPEN)),
            "created_at": TIME,
            "payment_due_at": nullable(TIME),
            "started_at": nullable(TIME),
            "expires_at": nullable(TIME),
        }
    ),
    "Change": record(
        {
            "at": TIME,
            "recorded_at": TIME,
            "state": MITRA_STATE,
            "reason": TEXT,
            "connection_id": nullable(TEXT),
            "instance_id": nullable(TEXT),
            "actor": nullable(TEXT),
        },
        description="A line of `presence_log`.",
    ),
    "ConfigValue": {"anyOf": [dict(key.schema) for key in KEYS.values()]},
    "ConfigKey": record(CONFIG_KEY),
    "ConfigKeyWithChanges": record(CONFIG_KEY | {"changes": listing(CONFIG_CHANGE)}),
    "ConfigKeyAfterChange": record(
        CONFIG_KEY | {"moved": COUNT | {"description": "Mitras whose capacity the change moved."}}
    ),
    "Activity": record(
        {
            "at": TIME,
            "kind": one_of("operator", "pairing", "instance"),
            "subject": TEXT | {"description": "What it happened to: an id, or a key of the configuration."},
            "what": TEXT
            | {
                "description": "Of operators the action; of pairings created, accepted, expired, cancelled; "
                "of instances started, stopped, died."
            },
            "actor": nullable(TEXT),
            "mitra_id": nullable(TEXT),
            "took_s": nullable(NUMBER) | {"description": "From asking for a pairing to its end."},
        }
    ),
    "Series": record(
        {
            "step_s": {"const": STEP_S},
            "at": listing({"type": "integer"}) | {"description": "Seconds since the epoch, oldest first, all steps."},
            "series": record({name: listing(nullable(NUMBER)) for name in COLUMNS}),
        },
        description="Lists of one length; null where nobody counted.",
    ),
    "PairingCounts": record(
        {
            "waiting": COUNT,
            "oldest_s": nullable(NUMBER) | {"description": "How long the oldest of those has searched."},
            "accept_p50_s": nullable(NUMBER) | {"description": "Of the pairings accepted in the last 15 minutes."},
            "accept_p95_s": nullable(NUMBER),
        }
    ),
    "LiveCounts": record(
        {name: nullable(COUNT) for name in COUNTS} | {"state": one_of("live", "rebuilding", "stale")},
        description="Null: never known to this instance.",
    ),
    "SessionCounts": record(dict.fromkeys(SESSION_STATES, COUNT)),
    "PresenceChange": record(
        {
            "mitra_id": UUID,
            "display_name": TEXT,
            "state": MITRA_STATE,
            "is_active": BOOLEAN,
            "reason": TEXT,
            "at": TIME,
            "open_sessions": COUNT,
            "max_sessions": COUNT,
        }
    ),
}

STATE_FILTER = one_of(*STATES)


def reached(roots: Collection[str]) -> dict[str, Schema]:
    """The schemas of these names, and those that they refer to."""
    found: dict[str, Schema] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = SCHEMAS[name]
            waiting.extend(named_in(SCHEMAS[name]))
    return {name: found[name] for name in SCHEMAS if name in found}


def named_in(part: Any) -> set[str]:
    """The names of schemas that a part of a document refers to."""
    if isinstance(part, dict):
        mine = {part["$ref"].rpartition("/")[2]} if "/schemas/" in part.get("$ref", "") else set()
        return mine.union(*map(named_in, part.values()))
    return set().union(*map(named_in, part)) if isinstance(part, list | tuple) else set()

"""Every operation of the two listeners, as a table: what it takes, what it answers, what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from hadir.http.auth import CONTROL_CENTRE
from hadir.http.mitras import POOL_MAX, SEARCH_MAX
from hadir.http.openapi_schemas import (
    ANY,
    BOOLEAN,
    COUNT,
    NEXT,
    SHORT_TEXT,
    STATE_FILTER,
    UUID,
    Schema,
    listing,
    nullable,
    one_of,
    record,
    ref,
)
from hadir.http.pages import LIMIT, LIMIT_MAX
from hadir.http.parties import WAIT_MAX_S
from hadir.realtime.appconfig import KEYS

PUBLIC, INTERNAL = "public", "internal"
BOTH = (PUBLIC, INTERNAL)
MITRA, READER, OPERATOR = ("mitra",), CONTROL_CENTRE, ("operator",)

CACHE_CONTROL = "Cache-Control"
NO_STORE = {CACHE_CONTROL: {"const": "no-store"}}
FIT_TO_CACHE = {CACHE_CONTROL: {"type": "string", "pattern": "^public, max-age=[0-9]+$"}}
BEACON_HEADERS = FIT_TO_CACHE | {
    "ETag": {"type": "string", "pattern": '^"[0-9a-f]+"$'},
    "Access-Control-Allow-Origin": {"const": "*"},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One that is no refusal. `content` is its media type and schema; without one it has no body."""

    gives: str
    content: tuple[str, Schema] | None
    headers: Mapping[str, Schema] = field(default_factory=lambda: NO_STORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path. `refuses`: statuses beside those that every operation, or every token, may meet."""

    on: tuple[str, ...]
    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    refuses: tuple[int, ...] = ()
    roles: tuple[str, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: Schema | None = None
    body_required: bool = False


def query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def in_path(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def json(gives: str, schema: Schema | str, headers: Mapping[str, Schema] = NO_STORE) -> Answer:
    return Answer(gives, ("application/json", ref(schema) if isinstance(schema, str) else schema), headers)


def get(on: tuple[str, ...], path: str, summary: str, answer: Answer, **more: Any) -> Operation:
    return Operation(
        on=on, method="get", path=path, summary=summary, answers={200: answer} | more.pop("also", {}), **more
    )


def act(on: str, path: str, summary: str, answer: Answer, **more: Any) -> Operation:
    """A POST; its body may be absent, and most have no fields yet."""
    refuses = (415, 422, *more.pop("refuses", ()))
    return Operation(
        on=(on,),
        method="post",
        path=path,
        summary=summary,
        answers={200: answer},
        refuses=refuses,
        body=more.pop("body", ANY),
        **more,
    )


def of_mitra(action: str, summary: str, answer: Answer) -> Operation:
    path = f"/api/internal/mitras/{{id}}/{action}"
    return act(INTERNAL, path, summary, answer, roles=OPERATOR, refuses=(404,), parameters=(ID,))


ID = in_path("id", UUID)
KEY = in_path("key", one_of(*KEYS))
CURSOR = query("cursor", {"type": "string"}, "`next` of the page before; valid only with the same `q`.")


def limit(default: int, most: int) -> dict[str, Any]:
    return query("limit", {"type": "integer", "minimum": 1, "maximum": most, "default": default}, "How many at most.")


STANDING = json("How the mitra stands then", "Standing")
HEALTH = json("It runs", "Health")
READINESS = json("Whether anybody should be sent here; `why` has what does not work", "Readiness")
NOT_READY = json("It starts, drains, or its schema is behind", "Readiness")
WAIT = query(
    "wait", {"type": "number", "minimum": 0, "maximum": WAIT_MAX_S, "default": 0}, "Seconds to wait for a change."
)

OPERATIONS = (
    *(get(BOTH, path, "Whether the process runs", HEALTH) for path in ("/health", "/healthz")),
    *(
        get(BOTH, path, "Whether a load balancer should send anybody here", READINESS, also={503: NOT_READY})
        for path in ("/ready", "/readyz")
    ),
    get(BOTH, "/openapi.json", "This document", json("The document", ANY, FIT_TO_CACHE)),
    get(
        (PUBLIC,),
        "/api/beacon",
        "How many mitras are available",
        json("Counted at `as_of`; the `Cache-Control` has the whole seconds left", "Beacon", BEACON_HEADERS),
        also={304: Answer("It is still the one of `If-None-Match`", None, BEACON_HEADERS)},
        parameters=({"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},),
    ),
    act(PUBLIC, "/api/mitra/status/heartbeat", "A beat of an app without a socket", STANDING, roles=MITRA),
    act(PUBLIC, "/api/mitra/status/online", "Switches the mitra's toggle on", STANDING, roles=MITRA),
    act(
        PUBLIC,
        "/api/mitra/status/offline",
        "Switches the mitra's toggle off; with `connection_id` only if that connection still owns the presence",
        STANDING,
        roles=MITRA,
        refuses=(409,),
        body=record({"connection_id": nullable(SHORT_TEXT)}, optional=("connection_id",), takes_more=True),
    ),
    get(
        (PUBLIC,),
        "/api/mitra/state",
        "All that an app needs to know; with `wait` as soon as it changes",
        json("The state", "MitraState"),
        roles=MITRA,
        refuses=(422, 429),
        parameters=(WAIT,),
    ),
    get(
        (INTERNAL,),
        "/metrics",
        "Metrics, as Prometheus reads them",
        Answer("The metrics of this instance", (CONTENT_TYPE_LATEST.partition(";")[0], {"type": "string"}), {}),
    ),
    get((INTERNAL,), "/api/internal/counts", "The live counts", json("Counted now", "Counts"), roles=READER),
    get(
        (INTERNAL,),
        "/api/internal/instances",
        "All instances",
        json("As their rows say", record({"instances": listing(ref("ListedInstance"))})),
        roles=READER,
    ),
    get(
        (INTERNAL,),
        "/api/internal/available",
        "Who can take work, whom to offer first at the head",
        json("The pool", record({"mitras": listing(ref("Mitra")), "state": one_of("live", "rebuilding")})),
        roles=READER,
        refuses=(422,),
        parameters=(limit(LIMIT, POOL_MAX),),
    ),
    get(
        (INTERNAL,),
        "/api/internal/mitras",
        "A page of mitras: by name where one is searched for, else by id",
        json("The page", record({"mitras": listing(ref("Mitra")), "next": NEXT})),
        roles=READER,
        refuses=(422,),
        parameters=(
            query(
                "q", {"type": "string", "maxLength": SEARCH_MAX, "pattern": "^[^\\u0000]*$"}, "How a name or id begins."
            ),
            query("state", STATE_FILTER, "Only those of this state."),
            limit(LIMIT, LIMIT_MAX),
            CURSOR,
        ),
    ),
    get(
        (INTERNAL,),
        "/api/internal/mitras/{id}",
        "One mitra, whole",
        json("Its row, logins and open sessions", "WholeMitra"),
        roles=READER,
        refuses=(404, 422),
        parameters=(ID,),
    ),
    get(
        (INTERNAL,),
        "/api/internal/mitras/{id}/history",
        "Why a mitra was what it was, newest first",
        json("A page of changes", record({"changes": listing(ref("Change")), "next": NEXT})),
        roles=READER,
        refuses=(404, 422),
        parameters=(ID, limit(LIMIT, LIMIT_MAX), CURSOR),
    ),
    of_mitra("activate", "Takes a mitra back into service", json("The mitra then", "Mitra")),
    of_mitra("deactivate", "Takes a mitra out of service, and ends its logins", json("The mitra then", "Mitra")),
    of_mitra("offline", "Switches a mitra's toggle off", json("The mitra then", "Mitra")),
    act(
        INTERNAL,
        "/api/internal/auth-sessions/{sid}/revoke",
        "Revokes a login and closes its sockets",
        json("It is revoked", record({"revoked": BOOLEAN})),
        roles=OPERATOR,
        refuses=(404,),
        parameters=(in_path("sid", UUID),),
    ),
    act(
        INTERNAL,
        "/api/internal/expiry/release",
        "Lets an expiry that is held go on",
        json("How many were due", record({"released": COUNT})),
        roles=OPERATOR,
        refuses=(409,),
    ),
    get(
        (INTERNAL,),
        "/api/internal/config",
        "All config keys",
        json("The keys", record({"config": listing(ref("ConfigKey"))})),
        roles=READER,
    ),
    get(
        (INTERNAL,),
        "/api/internal/config/{key}",
        "A config key with its last changes",
        json("The key", "ConfigKeyWithChanges"),
        roles=READER,
        refuses=(422,),
        parameters=(KEY,),
    ),
    Operation(
        on=(INTERNAL,),
        method="put",
        path="/api/internal/config/{key}",
        summary="Sets a config key",
        answers={200: json("The key then", "ConfigKeyAfterChange")},
        roles=OPERATOR,
        refuses=(415, 422),
        parameters=(KEY,),
        body=record({"value": ref("ConfigValue")}, takes_more=True),
        body_required=True,
    ),
)

"""Operations of presence and of the house, and the table of all."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST

from hadir.http.live import ENTRIES, MINUTES
from hadir.http.live import MEDIA_TYPE as EVENTS
from hadir.http.mitras import POOL_MAX, SEARCH_MAX, SORTS
from hadir.http.openapi_market import MARKET
from hadir.http.openapi_page import PAGE
from hadir.http.openapi_record import KEY, RECORD
from hadir.http.openapi_schemas import (
    ANY,
    BOOLEAN,
    COUNT,
    NEXT,
    SHORT_TEXT,
    STATE_FILTER,
    UUID,
    WITHOUT_NUL,
    listing,
    nullable,
    one_of,
    record,
    ref,
)
from hadir.http.openapi_table import (
    BEACON_HEADERS,
    BOTH,
    CURSOR,
    ETAG,
    FIT_TO_CACHE,
    ID,
    INTERNAL,
    MITRA,
    NO_STORE,
    OPERATOR,
    PUBLIC,
    READER,
    WAIT,
    Answer,
    Operation,
    act,
    get,
    in_path,
    json,
    limit,
    query,
    whole_number,
)
from hadir.http.pages import LIMIT, LIMIT_MAX
from hadir.realtime.series import MINUTES_MAX

STANDING = json("How the mitra stands then", "Standing")
HEALTH = json("It runs", "Health")
READINESS = json("Whether anybody should be sent here; `why` has what does not work", "Readiness")
NOT_READY = json("It starts, drains, or its schema is behind", "Readiness")
IF_NONE_MATCH = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}


def of_mitra(action: str, summary: str, answer: Answer) -> Operation:
    path = f"/api/internal/mitras/{{id}}/{action}"
    return act(INTERNAL, path, summary, answer, roles=OPERATOR, refuses=(404,), parameters=(ID,))


PRESENCE = (
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
        parameters=(IF_NONE_MATCH,),
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
        "All that an app needs to know; with `wait` as soon as it is another, than now or than that of `If-None-Match`",
        json("The state", "MitraState", NO_STORE | ETAG),
        roles=MITRA,
        refuses=(422,),
        parameters=(WAIT, IF_NONE_MATCH),
    ),
    get(
        (INTERNAL,),
        "/metrics",
        "Metrics, as Prometheus reads them",
        Answer("The metrics of this instance", (CONTENT_TYPE_LATEST.partition(";")[0], {"type": "string"}), {}),
    ),
    get(
        (INTERNAL,),
        "/api/internal/live",
        "What dashboards are told, as server-sent events",
        Answer("Events `hello`, `counts`, `presence`, their `data` as on the socket", (EVENTS, {"type": "string"})),
        roles=READER,
        refuses=(429,),
    ),
    get(
        (INTERNAL,),
        "/api/internal/series",
        "The counts of the last minutes, every ten seconds",
        json("As they were counted", "Series"),
        roles=READER,
        refuses=(422,),
        parameters=(query("minutes", whole_number(1, MINUTES_MAX, MINUTES), "How many."),),
    ),
    get(
        (INTERNAL,),
        "/api/internal/activity",
        "What happened last: operators, pairings, instances",
        json("Newest first", record({"entries": listing(ref("Activity"))})),
        roles=READER,
        refuses=(422,),
        parameters=(limit(ENTRIES, LIMIT_MAX),),
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
        "A page of mitras: by name where one is searched for, else by id, or as `sort` says",
        json("The page", record({"mitras": listing(ref("Mitra")), "next": NEXT})),
        roles=READER,
        refuses=(422,),
        parameters=(
            query("q", {"type": "string", "maxLength": SEARCH_MAX, **WITHOUT_NUL}, "How a name or id begins."),
            query("state", STATE_FILTER, "Only those of this state."),
            query("sort", one_of(*SORTS), "By name, or last changed first."),
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
        json("The keys", record({"settings": listing(ref("ConfigKey"))})),
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
OPERATIONS = (*PRESENCE, *MARKET, *RECORD, *PAGE)

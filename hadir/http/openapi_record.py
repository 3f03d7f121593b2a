"""Operations of what is kept: the audit log, timelines, the history of settings, reports."""

from __future__ import annotations

from typing import Any

from hadir.http.audit import ACTIONS
from hadir.http.csv_stream import MEDIA_TYPE as CSV
from hadir.http.openapi_schemas import (
    ANY,
    COUNT,
    NEXT,
    NUMBER,
    SENTENCE,
    SHORT_TEXT,
    TEXT,
    TIME,
    UUID,
    Schema,
    listing,
    nullable,
    one_of,
    record,
    ref,
)
from hadir.http.openapi_table import (
    CURSOR,
    ID,
    INTERNAL,
    NO_STORE,
    READER,
    Answer,
    Operation,
    get,
    in_path,
    json,
    limit,
    query,
)
from hadir.http.pages import LIMIT, LIMIT_MAX
from hadir.http.periods import DAYS, DAYS_MAX
from hadir.http.reports import FORMATS, FUNNEL, HOURS, ONLINE_TIME
from hadir.realtime.appconfig import KEYS

KEY = in_path("key", one_of(*KEYS))
PAGE = (limit(LIMIT, LIMIT_MAX), CURSOR)
DAY: Schema = {"type": "string", "format": "date"}
SOME_TEXT: Schema = SHORT_TEXT | {"minLength": 1}
SECONDS = nullable(NUMBER)
AUDIT_LINE = record({"at": TIME, "actor": TEXT, "action": TEXT, "subject": TEXT, "details": ANY})
MITRA_ENTRY = record(
    {
        "at": TIME,
        "until": nullable(TIME),
        "kind": one_of("presence", "operator", "offer", "session"),
        "state": nullable(TEXT),
        "reason": nullable(TEXT) | {"description": "Of an operator's act: what it was."},
        "why": SENTENCE,
        "actor": nullable(TEXT),
        "connection_id": nullable(TEXT),
        "instance_id": nullable(TEXT),
        "subject": nullable(TEXT) | {"description": "The pairing, session, or what was acted on."},
    }
)
ENTRY = record(
    {
        "at": TIME,
        "what": TEXT,
        "wave": nullable(COUNT),
        "mitra_id": nullable(UUID),
        "display_name": nullable(TEXT),
        "count": nullable(COUNT),
        "why": SENTENCE,
        "after_s": {"type": "number", "description": "Since the beginning."},
    }
)
CHANGE = record(
    {
        "at": TIME,
        "actor": nullable(TEXT),
        "value": nullable(ref("ConfigValue")),
        "before": nullable(ref("ConfigValue")),
    }
)
OF_ROWS: dict[str, Schema] = {
    "day": DAY,
    "hour": TIME,
    "mitra_id": UUID,
    "display_name": nullable(TEXT) | {"description": "Null: a mitra that was deleted."},
    "online_s": NUMBER,
    "available_min": nullable(COUNT),
    **dict.fromkeys(("online_avg", "available_avg", "busy_avg", "waves_avg"), SECONDS),
    **dict.fromkeys(("accept_p50_s", "accept_p95_s"), SECONDS),
}
"""What is in the columns of reports that do not count."""


def timeline(of: str, summary: str, schema: Schema, **more: Any) -> Operation:
    answer = json("What happened", schema)
    path = f"/api/internal/{of}/{{id}}/timeline"
    return get((INTERNAL,), path, summary, answer, roles=READER, refuses=(404, 422), **more)


def report(name: str, summary: str, columns: tuple[str, ...], *, paged: bool = False) -> Operation:
    rows = listing(record({column: OF_ROWS.get(column, COUNT) for column in columns}))
    fields = {"from": DAY, "to": DAY, "tz": TEXT, "rows": rows} | ({"next": NEXT} if paged else {})
    mine = (query("mitra_id", UUID, "Only this mitra."), *PAGE) if paged else ()
    return get(
        (INTERNAL,),
        f"/api/internal/reports/{name}",
        summary,
        Answer("The report", ("application/json", record(fields)), NO_STORE, (CSV, {"type": "string"})),
        roles=READER,
        refuses=(422,),
        parameters=(
            query("from", DAY, f"The first day, included; by default {DAYS - 1} days before the last."),
            query("to", DAY, f"The last day, included; by default today. At most {DAYS_MAX} days in all."),
            query("tz", SOME_TEXT | {"default": "UTC"}, "The IANA name of the time zone whose days they are."),
            query("format", one_of(*FORMATS) | {"default": "json"}, "CSV is sent whole, JSON may be paged."),
            *mine,
        ),
    )


RECORD = (
    get(
        (INTERNAL,),
        "/api/internal/audit",
        "What operators did",
        json("The page, newest first", record({"entries": listing(AUDIT_LINE), "next": NEXT})),
        roles=READER,
        refuses=(422,),
        parameters=(
            query("actor", SOME_TEXT, "Only what this operator did."),
            query("subject", SOME_TEXT, "Only what was done to this mitra, login, session or setting."),
            query("action", one_of(*ACTIONS), "Only this action."),
            *PAGE,
        ),
    ),
    timeline(
        "mitras",
        "What happened to a mitra, newest first, each with a sentence that says why",
        record({"entries": listing(MITRA_ENTRY), "next": NEXT}),
        parameters=(ID, *PAGE),
    ),
    timeline(
        "pairings",
        "What became of a pairing, oldest first; of a large wave the first offers",
        record({"pairing": ref("PairingWithWaves"), "entries": listing(ENTRY)}),
        parameters=(ID,),
    ),
    timeline(
        "sessions",
        "What became of a session, oldest first",
        record({"session": ref("Session"), "entries": listing(ENTRY)}),
        parameters=(ID,),
    ),
    get(
        (INTERNAL,),
        "/api/internal/config/{key}/history",
        "The changes of a config key, newest first",
        json("A page of changes", record({"changes": listing(CHANGE), "next": NEXT})),
        roles=READER,
        refuses=(422,),
        parameters=(KEY, *PAGE),
    ),
    report("online-time", "How long mitras were online, a row a mitra and day", ONLINE_TIME, paged=True),
    report("hours", "Availability against demand, a row an hour; reroutes are no demand", HOURS),
    report("funnel", "From asking to winning, a row a day; without reroutes", FUNNEL),
)

"""What an operation of a listener is, as a value: what it takes, what it answers, what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hadir.http.auth import CONTROL_CENTRE
from hadir.http.openapi_schemas import ANY, UUID, Schema, ref
from hadir.http.parties import WAIT_MAX_S

PUBLIC, INTERNAL = "public", "internal"
BOTH = (PUBLIC, INTERNAL)
MITRA, CUSTOMER, SIDES = ("mitra",), ("customer",), ("customer", "mitra")
READER, OPERATOR = CONTROL_CENTRE, ("operator",)

CACHE_CONTROL = "Cache-Control"
NO_STORE = {CACHE_CONTROL: {"const": "no-store"}}
FIT_TO_CACHE = {CACHE_CONTROL: {"type": "string", "pattern": "^public, max-age=[0-9]+$"}}
ETAG = {"ETag": {"type": "string", "pattern": '^"[0-9a-f]+"$'}}
BEACON_HEADERS = FIT_TO_CACHE | ETAG | {"Access-Control-Allow-Origin": {"const": "*"}}


@dataclass(frozen=True, slots=True)
class Answer:
    """One that is no refusal. `content` is its media type and schema; without one it has no body.

    `or_content`: the same as another media type, where that was asked for.
    """

    gives: str
    content: tuple[str, Schema] | None
    headers: Mapping[str, Schema] = field(default_factory=lambda: NO_STORE)
    or_content: tuple[str, Schema] | None = None


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
    """A POST; its body may be absent, and most have no fields yet. `status`: of its answer."""
    refuses = (415, 422, *more.pop("refuses", ()))
    return Operation(
        on=(on,),
        method="post",
        path=path,
        summary=summary,
        answers={more.pop("status", 200): answer},
        refuses=refuses,
        body=more.pop("body", ANY),
        **more,
    )


ID = in_path("id", UUID)
CURSOR = query("cursor", {"type": "string"}, "`next` of the page before; valid only with the same other parameters.")


def whole_number(least: int, most: int, default: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


def limit(default: int, most: int) -> dict[str, Any]:
    return query("limit", whole_number(1, most, default), "How many at most.")


WAIT = query(
    "wait", {"type": "number", "minimum": 0, "maximum": WAIT_MAX_S, "default": 0}, "Seconds to wait for a change."
)

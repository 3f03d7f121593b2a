"""OpenAPI 3.1 documents of the two listeners, built from the table of operations."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from hadir import __version__
from hadir.http import problems
from hadir.http.openapi_operations import OPERATIONS
from hadir.http.openapi_schemas import Schema, named_in, reached, ref
from hadir.http.openapi_table import BOTH, INTERNAL, NO_STORE, PUBLIC, Answer, Operation
from hadir.http.protocol import BODY_MAX as RAW_MAX
from hadir.http.protocol import HEAD_MAX
from hadir.http.requests import BODY_MAX

Document = dict[str, Any]

EVERY_OPERATION = (400, 405, 413, 431, 503)
EVERY_TOKEN = (401, 403)
MAX_AGE_S = 60
DESCRIPTIONS = {
    PUBLIC: "What apps and customers reach. Sockets: see the AsyncAPI document.",
    INTERNAL: "What operators and the control centre reach; never exposed.",
}
DESCRIPTION = """Errors are problem documents (RFC 9457) with a stable `code`; an unknown path is answered by 404 with
one, too. Every GET is answered to HEAD as well, without the body. A body that is not asked for is not read."""

REFUSALS: Mapping[int, tuple[str, str, Mapping[str, Schema]]] = {
    400: ("BadRequest", "This is not HTTP.", {}),
    401: (
        "Unauthorized",
        "The token is missing, wrong, expired, or of a login that is revoked.",
        {"WWW-Authenticate": {"enum": ["Bearer", "X-Callback-Token"]}},
    ),
    403: ("Forbidden", "The token is of another role, or of somebody who is unknown or deactivated.", {}),
    404: ("NotFound", "There is none of this id or name.", {}),
    405: ("MethodNotAllowed", "Another method of this path.", {"Allow": {"type": "string", "minLength": 1}}),
    409: ("Conflict", "It does not fit what is true now (`state`, `pairing_id`); nothing was changed.", {}),
    413: ("TooLarge", f"A body has more than {BODY_MAX} bytes, or {RAW_MAX} with its chunk sizes.", {}),
    415: ("UnsupportedMediaType", "The body is not application/json.", {}),
    422: ("Unprocessable", "A field, parameter or body is not what it must be; `field` names it.", {}),
    429: ("TooMany", "Too many of the same account at once.", {"Retry-After": {"type": "integer", "minimum": 1}}),
    431: ("HeadTooLarge", f"The head has more than {HEAD_MAX} bytes.", {}),
    503: (
        "Unavailable",
        "A store is away, or there are too many connections; nothing was changed.",
        {"Retry-After": {"type": "integer", "minimum": 1}},
    ),
}
"""Status → name, meaning, and the headers that it has beside `Cache-Control: no-store`."""


def document(listeners: Collection[str] = BOTH) -> Document:
    """The document of these listeners; `tags` say which of them an operation is on."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        on = [name for name in operation.on if name in listeners]
        if on:
            paths.setdefault(operation.path, {})[operation.method] = _operation(operation, on)
    responses = {name: _refusal(status) for status, (name, _, _) in REFUSALS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hadir", "version": __version__, "description": DESCRIPTION, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": DESCRIPTIONS[name]} for name in listeners],
        "paths": paths,
        "components": {
            "schemas": reached(named_in([paths, responses])),
            "responses": responses,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: Operation, on: list[str]) -> Document:
    refused = {*EVERY_OPERATION, *operation.refuses, *(EVERY_TOKEN if operation.roles else ())}
    answers = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    for status in refused:
        name = REFUSALS[status][0]
        if str(status) in answers:  # it says the same status in words of its own
            answers[str(status)]["content"] |= _refusal(status)["content"]
        else:
            answers[str(status)] = ref(name, "responses")
    described: Document = {
        "operationId": re.sub(r"\W+", "_", f"{operation.method}{operation.path}").rstrip("_"),
        "tags": on,
        "summary": operation.summary,
        "responses": dict(sorted(answers.items())),
    }
    if operation.roles:
        described["description"] = f"Needs a token of role {' or '.join(operation.roles)}."
        described["security"] = [{"token": []}]
    if operation.parameters:
        described["parameters"] = [dict(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        content = {"application/json": {"schema": operation.body}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described


def _answer(answer: Answer) -> Document:
    described: Document = {"description": f"{answer.gives}."}
    if answer.headers:
        described["headers"] = _headers(answer.headers)
    contents = [each for each in (answer.content, answer.or_content) if each is not None]
    if contents:
        described["content"] = {media_type: {"schema": schema} for media_type, schema in contents}
    return described


def _refusal(status: int) -> Document:
    _, meaning, headers = REFUSALS[status]
    return {
        "description": meaning,
        "headers": _headers({**NO_STORE, **headers}),
        "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}},
    }


def _headers(headers: Mapping[str, Schema]) -> Document:
    return {name: {"required": True, "schema": schema} for name, schema in headers.items()}


def served(listener: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that answers a listener's own document."""
    body = orjson.dumps(document([listener]))

    async def endpoint(request: Request) -> Response:
        return Response(body, 200, {"cache-control": f"public, max-age={MAX_AGE_S}"}, "application/json")

    return endpoint

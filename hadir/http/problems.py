"""Errors at the edge: RFC 9457 problem documents, whoever raised them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hadir import metrics
from hadir.errors import Refused, StoreUnavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
CODES = {404: "not_found", 405: "method_not_allowed"}
RETRY_AFTER_S = 2


def body(
    status: int, code: str, detail: str, *, field: str | None = None, members: Mapping[str, str] | None = None
) -> bytes:
    """The document; `code` and `members` are stable and for programs, `detail` a sentence for people."""
    fields: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if field is not None:
        fields["field"] = field
    return orjson.dumps(fields | dict(members or {}))


def headers_of(refusal: Refused) -> dict[str, str]:
    headers = {"cache-control": "no-store"}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = refusal.field or "Bearer"  # the field: a header that is to have another token
    return headers


def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    document = body(error.status, error.code, error.detail, field=error.field, members=error.members)
    return Response(document, error.status, headers_of(error), MEDIA_TYPE)


def unavailable(request: Request, error: Exception) -> Response:
    """A store is away and nothing was changed."""
    return refused(request, Refused(503, "unavailable", str(error), retry_after=RETRY_AFTER_S))


def http_error(request: Request, error: Exception) -> Response:
    """What the router itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "refused")
    detail = {
        404: "There is nothing at this path.",
        405: f"This path does not take {request.method}.",
    }.get(error.status_code, str(error.detail))
    document = body(error.status_code, code, detail)
    headers = {"cache-control": "no-store", **(error.headers or {})}
    return Response(document, error.status_code, headers, MEDIA_TYPE)


def gone(request: Request, error: Exception) -> Response:
    """It left in the middle of its own request; nobody hears what is answered."""
    return Response(body(400, "cut_off", "The request ended before its body did."), 400, media_type=MEDIA_TYPE)


def crashed(request: Request, error: Exception) -> Response:
    """A defect of ours; the server logs its traceback."""
    metrics.ERRORS.labels("request").inc()
    log.error("http.crashed", exc_info=error, extra={"path": request.url.path})
    return Response(body(500, "internal", "This is a defect of the server."), 500, media_type=MEDIA_TYPE)


HANDLERS = {
    Refused: refused,
    StoreUnavailable: unavailable,
    HTTPException: http_error,
    ClientDisconnect: gone,
    Exception: crashed,
}

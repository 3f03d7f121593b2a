"""What every endpoint shares: the node, a checked JSON body, a checked query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from hadir.errors import Refused
from hadir.realtime.messages import fits, is_uuid
from hadir.realtime.node import Node

BODY_MAX = 64 * 1024
TEXT_MAX = 100


def node_of(request: Request) -> Node:
    node: Node = request.app.state.node
    return node


def json_response(fields: Any, status: int = 200, *, cache: str = "no-store") -> Response:
    return Response(orjson.dumps(fields, option=orjson.OPT_UTC_Z), status, {"cache-control": cache}, "application/json")


def none_match(values: Iterable[str]) -> set[str]:
    """The ETags of `If-None-Match` headers (or `*`) as they compare: weakly, RFC 9110 13.1.2."""
    listed = ",".join(values).split(",")
    return {tag.strip().removeprefix("W/") for tag in listed} - {""}


async def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object, an absent one as an empty object. Raises `Refused` (413, 415, 422)."""
    body = await _limited_body(request)
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "unsupported_media_type", "The body must be application/json.")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(422, "not_json", "The body must be one JSON object; this is not JSON.") from None
    if not isinstance(fields, dict):
        raise Refused(422, "not_an_object", "The body must be one JSON object; this is other JSON.")
    return fields


async def _limited_body(request: Request) -> bytes:
    too_large = Refused(413, "too_large", f"A body may have at most {BODY_MAX} bytes.")
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > BODY_MAX:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_MAX:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def text(fields: dict[str, Any], name: str, longest: int) -> str:
    """A field of the body that must be there and say something. Raises `Refused` (422)."""
    value = fields.get(name)
    if isinstance(value, str) and fits(value, longest):
        return value
    raise Refused(422, "bad_field", f"{name} must be a text of 1 to {longest} characters, without NUL.", field=name)


def optional_text(fields: dict[str, Any], name: str, longest: int = TEXT_MAX) -> str | None:
    """A field of the body that may be absent or empty. Raises `Refused` (422)."""
    value = fields.get(name)
    if value in (None, "") or (isinstance(value, str) and fits(value, longest)):
        return value
    why = f"{name} must be a text of at most {longest} characters, without NUL."
    raise Refused(422, "bad_field", why, field=name)


def optional_whole(fields: dict[str, Any], name: str, most: int) -> int | None:
    """A field of the body that may be absent: a whole number, not negative. Raises `Refused` (422)."""
    value = fields.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 5.0 is the integer 5 in JSON
    if value is None or (type(value) is int and 0 <= value <= most):
        return value
    raise Refused(422, "bad_field", f"{name} must be a whole number from 0 to {most}.", field=name)


def whole(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query. Raises `Refused` (422)."""
    asked = request.query_params.get(name)
    if asked is None:
        return default
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= len(str(high)) and low <= int(asked) <= high):
        raise Refused(422, "bad_field", f"{name} must be a whole number from {low} to {high}.", field=name)
    return int(asked)


def path_id(request: Request, name: str) -> str:
    """An id of the path, in lower case. Raises `Refused` (422)."""
    value = str(request.path_params[name]).lower()
    if not is_uuid(value):
        raise Refused(422, "bad_field", f"{name} must be a UUID.", field=name)
    return value


async def until_gone(receive: Receive) -> None:
    """Returns when the client has hung up, or has its whole answer."""
    while (await receive())["type"] != "http.disconnect":
        pass

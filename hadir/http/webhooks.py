"""`/webhooks/…`: what a payment provider says is stored and acknowledged, nothing more."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response

from hadir.errors import Refused
from hadir.http.requests import json_body, json_response, node_of


async def xendit(request: Request) -> Response:
    node = node_of(request)
    expected = node.config.xendit_callback_token
    if expected is None:
        raise Refused(404, "not_found", "There is nothing at this path.")
    given = request.headers.get("x-callback-token", "")
    if not secrets.compare_digest(given.encode("latin-1"), expected.encode()):  # the bytes that came, of any text
        why = "The header X-Callback-Token is not the one that was agreed."
        raise Refused(401, "bad_token", why, field="X-Callback-Token")
    event = await json_body(request)
    if not event:
        raise Refused(422, "not_an_object", "The body must be the JSON object of an event.")
    await node.market.payments.store(event)
    return json_response({"stored": True})

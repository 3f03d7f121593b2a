"""`/api/pairings…` for customers, `/api/mitra/offers/…` for mitras without a socket."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hadir.errors import Refused
from hadir.http.pace import Pace
from hadir.http.parties import party, read_until, wait_of
from hadir.http.requests import TEXT_MAX, json_body, json_response, optional_text, path_id
from hadir.realtime.node import Node
from hadir.realtime.pairing import NOTE_MAX, Pairing
from hadir.realtime.told import fields_of
from hadir.realtime.work import read_session

ASK_EVERY_S = 3.0
ASKS_BURST = 10
"""What one customer may ask of one instance: this often, after a burst. Every pairing rings at a wave of mitras."""
TOO_OFTEN = "This customer asks for mitras too often."


async def create(request: Request, *, asks: Pace) -> Response:
    """Begins to search, once for each `Idempotency-Key`."""
    node, login = await party(request, "customer")
    asks.take(login.subject_id, TOO_OFTEN)
    key = request.headers.get("idempotency-key", "")
    if not 0 < len(key) <= TEXT_MAX:
        why = f"The header Idempotency-Key must be a text of 1 to {TEXT_MAX} characters."
        raise Refused(422, "bad_field", why, field="Idempotency-Key")
    note = optional_text(await json_body(request), "note", NOTE_MAX) or ""
    return json_response(await shown(node, await node.market.pairings.create(login.subject_id, key, note)), 201)


async def pairing(request: Request) -> Response:
    """One route for both, so that `Allow` names both."""
    return await (_cancel if request.method == "DELETE" else _read)(request)


async def _read(request: Request) -> Response:
    """How it stands; with `wait` as soon as it is decided."""
    node, login = await party(request, "customer")
    pairing_id = path_id(request, "id")

    async def read() -> Pairing:
        return await node.market.pairings.read(pairing_id, login.subject_id)

    found = await read_until(node, login.subject_id, wait_of(request), read, lambda each: not each.is_open)
    return json_response(await shown(node, found))


async def _cancel(request: Request) -> Response:
    node, login = await party(request, "customer")
    return json_response(await shown(node, await node.market.pairings.cancel(path_id(request, "id"), login.subject_id)))


async def accept(request: Request) -> Response:
    node, login = await party(request, "mitra")
    await json_body(request)
    accepted = await node.market.pairings.accept(path_id(request, "pairing_id"), login.subject_id)
    return json_response({"result": accepted.result, "session": accepted.session})


async def decline(request: Request) -> Response:
    node, login = await party(request, "mitra")
    await json_body(request)
    return json_response(
        {"result": await node.market.pairings.decline(path_id(request, "pairing_id"), login.subject_id)}
    )


async def shown(node: Node, found: Pairing) -> dict[str, Any]:
    """A pairing with its session, as its customer gets it."""
    session = None if found.session_id is None else await read_session(node.postgres, found.session_id)
    return fields_of(found) | {"session": session}

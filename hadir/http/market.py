"""`/api/internal/pairings…`, `/sessions…`, `/payments`: what the control centre sees of them, and does."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hadir.db.queries import sql
from hadir.errors import Refused
from hadir.http import sessions as public
from hadir.http.auth import acted, operator, reader
from hadir.http.pages import LATEST, NEWEST, Position, page
from hadir.http.pairings import shown
from hadir.http.requests import json_body, json_response, node_of, optional_whole, path_id
from hadir.realtime.pairing import Pairing, PairingStatus
from hadir.realtime.pairings import unknown_pairing
from hadir.realtime.payment import RUPIAH_MAX
from hadir.realtime.session import SessionStatus
from hadir.realtime.told import fields_of
from hadir.realtime.work import pairing_of, read_pairing

OFFERS_MAX = 10_000
PAYMENT_STATES = ("paid", "expired", "refund_due", "unmatched")
PAYMENT_FIELDS = (
    "external_id",
    "invoice_id",
    "session_id",
    "extension",
    "state",
    "amount",
    "paid_at",
    "actor",
    "created_at",
    "changed_at",
)
EXTENSION_MAX = 9_999
LAST_CHANGED: Position = {"changed_at": LATEST, "invoice_id": chr(0x10FFFF)}


async def pairings(request: Request) -> Response:
    """A page of pairings, newest first."""
    node = node_of(request)
    await reader(node, request)
    condition, args = _filter(request, "status", "p.status = $4", PairingStatus)
    statement = sql("pairings_page").replace("{status}", condition)
    found, following = await page(request, statement, NEWEST, *args)
    return json_response({"pairings": [pairing_of(record) for record in found], "next": following})


async def pairing_asked_for(request: Request) -> Pairing:
    """Of the path, for somebody who may read. Raises `Refused` (401, 403, 404)."""
    node = node_of(request)
    await reader(node, request)
    found = await read_pairing(node.postgres, path_id(request, "id"))
    if found is None:
        raise unknown_pairing()
    return found


async def pairing(request: Request) -> Response:
    """One pairing with its waves: who was offered it, and what became of that."""
    node, found = node_of(request), await pairing_asked_for(request)
    offers = [dict(record) for record in await node.postgres.fetch(sql("pairing_offers"), found.id, OFFERS_MAX)]
    waves = max((offer["wave"] for offer in offers), default=0)
    return json_response(await shown(node, found) | {"waves": waves, "offers": offers})


async def sessions(request: Request) -> Response:
    """A page of sessions, newest first."""
    node = node_of(request)
    await reader(node, request)
    condition, args = _filter(request, "status", "s.status = $4", SessionStatus)
    return await public.listed(request, condition, *args)


async def session(request: Request) -> Response:
    """One session with the pairings that it came from and went through, and its payments."""
    node = node_of(request)
    await reader(node, request)
    found = await node.market.sessions.read(path_id(request, "id"))
    origins = await node.postgres.fetch(sql("session_pairings"), found.id)
    payments = await node.postgres.fetch(sql("session_payments"), found.id)
    more = {"pairings": [pairing_of(each) for each in origins], "payments": [_payment(each) for each in payments]}
    return json_response(fields_of(found) | more)


async def end(request: Request) -> Response:
    node, who = node_of(request), await operator(node_of(request), request)
    await json_body(request)
    ended = await node.market.sessions.end(path_id(request, "id"), None, "operator", actor=who.subject_id)
    acted(who, "end_session", ended.id)
    return json_response(ended)


async def reroute(request: Request) -> Response:
    node, who = node_of(request), await operator(node_of(request), request)
    await json_body(request)
    session_id = path_id(request, "id")
    searching = await node.market.pairings.reroute(session_id, None, actor=who.subject_id)
    acted(who, "reroute", session_id)
    return json_response(await shown(node, searching), 201)


async def paid(request: Request) -> Response:
    """A payment outside of the provider: of the session, or of its extension `extension`."""
    node, who = node_of(request), await operator(node_of(request), request)
    fields = await json_body(request)
    extension = optional_whole(fields, "extension", EXTENSION_MAX) or 0
    amount, session_id = optional_whole(fields, "amount", RUPIAH_MAX), path_id(request, "id")
    await node.market.payments.mark_paid(session_id, extension, amount, who.subject_id)
    acted(who, "paid", session_id)
    return json_response(await node.market.sessions.read(session_id))


async def payments(request: Request) -> Response:
    """A page of payments, last changed first."""
    node = node_of(request)
    await reader(node, request)
    condition, args = _filter(request, "state", "state = $4", PAYMENT_STATES)
    statement = sql("payments_page").replace("{state}", condition)
    found, following = await page(request, statement, LAST_CHANGED, *args)
    return json_response({"payments": [_payment(record) for record in found], "next": following})


def _payment(record: Any) -> dict[str, Any]:
    return {name: record[name] for name in PAYMENT_FIELDS}


def _filter(request: Request, name: str, condition: str, values: Any) -> tuple[str, list[str]]:
    """The condition that a parameter asks for, with its argument. Raises `Refused` (422)."""
    asked = request.query_params.get(name)
    if asked is None:
        return "true", []
    if asked not in list(values):
        raise Refused(422, "bad_field", f"{name} must be one of {', '.join(values)}.", field=name)
    return condition, [asked]

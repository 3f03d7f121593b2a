"""`/api/sessions…` for both sides of a session."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from hadir.db.queries import sql
from hadir.http.pace import Pace
from hadir.http.pages import LIMIT, LIMIT_MAX, NEWEST, page
from hadir.http.pairings import TOO_OFTEN, shown
from hadir.http.parties import party
from hadir.http.requests import json_body, json_response, path_id, text, whole
from hadir.realtime.session import BODY_MAX, CLIENT_ID_MAX
from hadir.realtime.work import session_of

SIDES = ("customer", "mitra")
SEQ_MAX = 2**31 - 1
WHOSE = {role: f"s.{role}_id = $4::uuid" for role in SIDES}
"""The condition on `chat_sessions s` by who asks."""


async def sessions(request: Request) -> Response:
    """A page of one's own sessions, newest first."""
    _, login = await party(request, *SIDES)
    return await listed(request, WHOSE[login.role], login.subject_id)


async def listed(request: Request, condition: str, *args: str) -> Response:
    """A page of the sessions of a condition."""
    found, following = await page(request, sql("sessions_page").replace("{whose}", condition), NEWEST, *args)
    return json_response({"sessions": [session_of(record) for record in found], "next": following})


async def session(request: Request) -> Response:
    node, login = await party(request, *SIDES)
    return json_response(await node.market.sessions.read(path_id(request, "id"), login.subject_id))


async def end(request: Request) -> Response:
    node, login = await party(request, *SIDES)
    await json_body(request)
    return json_response(await node.market.sessions.end(path_id(request, "id"), login.subject_id, login.role))


async def extend(request: Request) -> Response:
    """What to pay for an extension with; the payment extends."""
    node, login = await party(request, "customer")
    await json_body(request)
    named, found = await node.market.sessions.extension(path_id(request, "id"), login.subject_id)
    return json_response({"external_id": named, "session": found})


async def reroute(request: Request, *, asks: Pace) -> Response:
    """Searches another mitra for a session that goes on; it rings at mitras as a new pairing does."""
    node, login = await party(request, "customer")
    asks.take(login.subject_id, TOO_OFTEN)
    await json_body(request)
    searching = await node.market.pairings.reroute(path_id(request, "id"), login.subject_id)
    return json_response(await shown(node, searching), 201)


async def messages(request: Request, *, says: Pace) -> Response:
    """One route for both, so that `Allow` names both."""
    return await (_send(request, says) if request.method == "POST" else _read(request))


async def _read(request: Request) -> Response:
    node, login = await party(request, *SIDES)
    session_id, after = path_id(request, "id"), whole(request, "after", 0, 0, SEQ_MAX)
    limit = whole(request, "limit", LIMIT, 1, LIMIT_MAX)
    found, more = await node.market.sessions.messages(session_id, login.subject_id, after, limit)
    return json_response({"messages": found, "more": more})


async def _send(request: Request, says: Pace) -> Response:
    node, login = await party(request, *SIDES)
    says.take(login.subject_id, "This account sends messages too fast.")
    fields, session_id = await json_body(request), path_id(request, "id")
    client_id, body = text(fields, "client_id", CLIENT_ID_MAX), text(fields, "body", BODY_MAX)
    return json_response(await node.market.sessions.send(session_id, login.subject_id, client_id, body), 201)

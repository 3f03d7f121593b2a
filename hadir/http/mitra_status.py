"""`/api/mitra/…`: presence for apps that cannot hold a socket, and the toggle for all."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from hadir import metrics
from hadir.errors import Refused, ValkeyUnavailable
from hadir.http.auth import bearer_of, check_session, require_role
from hadir.http.parties import read_until, wait_of
from hadir.http.requests import json_body, json_response, node_of, none_match, optional_text
from hadir.realtime import rows as presence_rows
from hadir.realtime.node import Node
from hadir.realtime.peer import Login
from hadir.realtime.presence import (
    HTTP_OWNER,
    Event,
    HttpBeat,
    HttpOffline,
    HttpOnline,
    Outcome,
    Row,
    State,
)
from hadir.realtime.told import Told
from hadir.realtime.transitions import Result


def _login(request: Request) -> Login:
    return require_role(node_of(request).sockets.verify(bearer_of(request)), ("mitra",))


async def heartbeat(request: Request) -> Response:
    login, node = _login(request), node_of(request)
    await json_body(request)
    return json_response(await beat(node, login))


async def beat(node: Node, login: Login) -> dict[str, Any]:
    """One script records the beat of a mitra that HTTP owns; whatever that cannot tell, Postgres does.

    Answers what the app is told. Raises `Refused` and `PostgresUnavailable`.
    """
    metrics.BEATS.labels("http").inc()
    try:
        answer = await node.mirror.beat([login.subject_id], [f"- {HTTP_OWNER}{login.sid}"], [0.0])
    except ValkeyUnavailable:
        answer = None
    held = answer is not None and answer.seeded and not answer.deactivated and not answer.strangers
    if held and node.heartbeats.warm:  # otherwise nobody looks there
        return {"online": True, "suspect": False, "owner": "http"}
    result = await submit(node, login, HttpBeat(login.sid))
    return _standing(result.row)


async def online(request: Request) -> Response:
    login = _login(request)
    await json_body(request)
    result = await submit(node_of(request), login, HttpOnline(login.sid))
    return json_response(_standing(result.row))


async def offline(request: Request) -> Response:
    login = _login(request)
    fence = optional_text(await json_body(request), "connection_id")
    result = await submit(node_of(request), login, HttpOffline(login.sid, fence))
    if result.outcome is Outcome.NOT_OWNER:
        raise Refused(409, "not_owner", "That connection no longer owns this mitra's presence; nothing was changed.")
    return json_response(_standing(result.row))


async def state(request: Request) -> Response:
    """The truth now; with `wait` as soon as it is another, than now or than that of `If-None-Match`."""
    login, node = _login(request), node_of(request)
    wait_s, known = wait_of(request), none_match(request.headers.getlist("if-none-match"))
    told = Told(login.subject_id)

    async def read() -> tuple[bytes, str]:
        nonlocal told
        row, told = await _row(node, login), Told(login.subject_id)
        told.hear(await node.work.submit("mitra", told))
        if not row.wants_online:
            told.withhold_offers()
        fields = _standing(row) | {
            "wants_online": row.wants_online,
            "offers": [*told.offers.values()],
            "sessions": [*told.sessions.values()],
            "config": node.app_config.public(),
        }
        body = orjson.dumps(fields, option=orjson.OPT_UTC_Z)
        return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'

    def is_news(found: tuple[bytes, str]) -> bool:
        nonlocal known
        if not known or "*" in known:
            known = {found[1]}
        return found[1] not in known

    body, etag = await read_until(node, login.subject_id, wait_s, read, is_news)
    node.market.delivered(login.subject_id, told.offers)
    return Response(body, 200, {"cache-control": "no-store", "etag": etag}, "application/json")


async def _row(node: Node, login: Login) -> Row:
    reading = await presence_rows.read(node.postgres, [login.subject_id])
    if not reading.rows:
        raise Refused(403, "unknown_subject", "The token's sub is no mitra that is known here.")
    row = reading.rows[0]
    if not row.is_active:
        raise Refused(403, "deactivated", "This mitra is deactivated.")
    await check_session(node, login)
    return row


async def submit(node: Node, login: Login, event: Event) -> Result:
    """What came of an event. Raises `Refused`, and `PostgresUnavailable` when nothing was changed."""
    result = await node.transitions.submit(login.subject_id, event)
    match result.outcome:
        case Outcome.UNKNOWN_SUBJECT:
            raise Refused(403, "unknown_subject", "The token's sub is no mitra that is known here.")
        case Outcome.DEACTIVATED:
            raise Refused(403, "deactivated", "This mitra is deactivated.")
        case Outcome.REVOKED:
            raise Refused(401, "revoked", "The token's login (sid) is revoked, expired or unknown.")
    return result


def _standing(row: Row | None) -> dict[str, Any]:
    """`owner`: whether a socket, HTTP or nobody holds the presence at the moment."""
    assert row is not None
    over_http = (row.connection_id or "").startswith(HTTP_OWNER) and row.is_online
    owner = "socket" if row.instance_id is not None else "http" if over_http else None
    return {"online": row.is_online, "suspect": row.state is State.SUSPECT, "owner": owner}

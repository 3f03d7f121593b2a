"""`/api/internal/…`: what operators see and do. Never exposed; needs a token all the same."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from hadir import metrics
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused
from hadir.http.auth import bearer_of, require_role
from hadir.http.requests import json_body, json_response, node_of
from hadir.realtime import rows as presence_rows
from hadir.realtime.appconfig import KEYS, known
from hadir.realtime.connection import Login
from hadir.realtime.node import Node
from hadir.realtime.presence import Event, Outcome, Revoke, Row, SetActive, TakeOffline
from hadir.realtime.rows import is_uuid

RESIZE_AT_ONCE = 500


async def _reader(request: Request) -> Login:
    login = require_role(node_of(request).sockets.verify(bearer_of(request)), ("operator", "viewer"))
    try:
        await _check_session(request, login)
    except PostgresUnavailable:
        return login  # reading goes on: the token itself is good
    return login


async def _operator(request: Request) -> Login:
    login = require_role(node_of(request).sockets.verify(bearer_of(request)), ("operator", "viewer"))
    if login.role != "operator":
        raise Refused(403, "viewer", "A viewer may read only; this needs a token of role operator.")
    await _check_session(request, login)
    return login


async def _check_session(request: Request, login: Login) -> None:
    valid = await node_of(request).postgres.fetchval(sql("session_valid"), login.sid, login.subject_id, login.role)
    if not valid:
        raise Refused(401, "revoked", "The token's login (sid) is revoked, expired or unknown.")


async def counts(request: Request) -> Response:
    await _reader(request)
    node = node_of(request)
    found = asdict(await node.availability.counts())
    return json_response(found | {"connected": node.connected()})


async def instances(request: Request) -> Response:
    await _reader(request)
    node = node_of(request)
    return json_response(
        {"instances": [asdict(each) | {"self": each.id == node.id} for each in node.liveness.instances]}
    )


async def activate(request: Request) -> Response:
    operator = await _operator(request)
    return await _change(request, SetActive(True, operator.subject_id))


async def deactivate(request: Request) -> Response:
    """Commits, revokes the mitra's logins (the row's trigger), closes its sockets everywhere."""
    operator = await _operator(request)
    return await _change(request, SetActive(False, operator.subject_id))


async def take_offline(request: Request) -> Response:
    operator = await _operator(request)
    return await _change(request, TakeOffline(operator.subject_id))


async def _change(request: Request, event: Event) -> Response:
    await json_body(request)
    node, mitra_id = node_of(request), _path_id(request, "id")
    result = await node.transitions.submit(mitra_id, event)
    if result.outcome is Outcome.UNKNOWN_SUBJECT or result.row is None:
        raise Refused(404, "unknown_mitra", "There is no mitra with this id.")
    return json_response(_seen(result.row))


async def revoke(request: Request) -> Response:
    await _operator(request)
    await json_body(request)
    node, sid = node_of(request), _path_id(request, "sid")
    record = await node.postgres.fetchrow(sql("sessions_revoke"), sid)
    if record is None:
        raise Refused(404, "unknown_session", "There is no auth session with this id.")
    node.bus.publish("revoked", [sid])
    node.feed.revoked([sid])
    if record["role"] == "mitra" and record["subject_id"] is not None:
        await node.transitions.submit(record["subject_id"], Revoke(sid))
    return json_response({"revoked": True})


async def release_expiry(request: Request) -> Response:
    operator = await _operator(request)
    await json_body(request)
    due = await node_of(request).postgres.fetchval(sql("expiry_release"), operator.subject_id)
    if due is None:
        raise Refused(409, "nothing_held", "No expiry is held at the moment.")
    return json_response({"released": due})


async def read_config(request: Request) -> Response:
    await _reader(request)
    name = known(request.path_params["key"]).name
    return json_response({"key": name, "value": node_of(request).app_config[name], "expected": KEYS[name].expected})


async def write_config(request: Request) -> Response:
    """Sets a key; a new `max_sessions` moves every mitra that has no capacity of its own, and says how many."""
    operator = await _operator(request)
    node, name = node_of(request), known(request.path_params["key"]).name
    fields = await json_body(request)
    if "value" not in fields:
        raise Refused(422, "bad_field", "The body must be an object with the field value.", field="value")
    await node.app_config.store(name, fields["value"], operator.subject_id)
    node.bus.publish("config")
    moved = await _resize(node) if name == "max_sessions" else 0
    return json_response({"key": name, "value": node.app_config[name], "moved": moved})


async def _resize(node: Node) -> int:
    """Moves who follows the default, a chunk at a time; the statement reads it anew, so that two of us agree."""
    moved, after = 0, presence_rows.FIRST_ID
    while True:
        at = time.monotonic()
        records = await node.postgres.fetch(sql("capacity_resize"), after, RESIZE_AT_ONCE)
        reading = presence_rows.reading_of([each for each in records if each["mitra_id"] is not None], at)
        moved += len(reading.rows)
        await node.mirror.apply(reading)
        node.rows_changed(reading.rows)
        after = records[0]["last"]
        if after is None:
            return moved


async def prometheus(request: Request) -> Response:
    return Response(generate_latest(metrics.REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST})


def _path_id(request: Request, name: str) -> str:
    value = str(request.path_params[name]).lower()
    if not is_uuid(value):
        raise Refused(422, "bad_field", f"{name} must be a UUID.", field=name)
    return value


def _seen(row: Row) -> dict[str, Any]:
    """A mitra as operators see it."""
    return asdict(row) | {"state": row.state.value}

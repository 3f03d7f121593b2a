"""`/api/internal/…`: what operators see and do. Never exposed; needs a token all the same."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from hadir import metrics
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused, StoreUnavailable
from hadir.http.auth import acted, operator, reader
from hadir.http.mitras import listed, unknown_mitra
from hadir.http.requests import json_body, json_response, node_of, path_id
from hadir.realtime.peer import Login
from hadir.realtime.presence import Event, Outcome, Revoke, SetActive, TakeOffline


async def counts(request: Request) -> Response:
    await reader(node_of(request), request)
    node = node_of(request)
    found = asdict(await node.availability.counts())
    return json_response(found | {"connected": node.connected()})


async def instances(request: Request) -> Response:
    await reader(node_of(request), request)
    node = node_of(request)
    return json_response({"instances": [asdict(each) | {"self": each.id == node.id} for each in node.liveness.aged()]})


async def activate(request: Request) -> Response:
    who = await operator(node_of(request), request)
    return await _change(request, who, "activate", SetActive(True, who.subject_id))


async def deactivate(request: Request) -> Response:
    """Commits, revokes the mitra's logins (the row's trigger), closes its sockets everywhere."""
    who = await operator(node_of(request), request)
    return await _change(request, who, "deactivate", SetActive(False, who.subject_id))


async def take_offline(request: Request) -> Response:
    who = await operator(node_of(request), request)
    return await _change(request, who, "offline", TakeOffline(who.subject_id))


async def _change(request: Request, who: Login, action: str, event: Event) -> Response:
    await json_body(request)
    node, mitra_id = node_of(request), path_id(request, "id")
    result = await node.transitions.submit(mitra_id, event)
    if result.outcome is Outcome.UNKNOWN_SUBJECT or result.row is None:
        raise unknown_mitra()
    if result.outcome is Outcome.DONE:
        acted(who, action, mitra_id)
    try:
        records = await node.postgres.fetch(sql("mitras_by_id"), [mitra_id])
    except PostgresUnavailable:
        raise Refused(503, "unavailable", "It was done, but cannot be shown at the moment.", retry_after=2) from None
    return json_response((await listed(node, records))[0])


async def revoke(request: Request) -> Response:
    who = await operator(node_of(request), request)
    await json_body(request)
    node, sid = node_of(request), path_id(request, "sid")
    record = await node.postgres.fetchrow(sql("sessions_revoke"), sid, who.subject_id)
    if record is None:
        raise Refused(404, "unknown_session", "There is no auth session with this id.")
    if record["good"]:
        acted(who, "revoke", sid)
    node.bus.publish("revoked", [sid])
    node.feed.revoked([sid])
    if record["role"] == "mitra" and record["subject_id"] is not None:
        with suppress(StoreUnavailable):  # it is revoked all the same: the feed finds it
            await node.transitions.submit(record["subject_id"], Revoke(sid))
    return json_response({"revoked": True})


async def release_expiry(request: Request) -> Response:
    who = await operator(node_of(request), request)
    await json_body(request)
    held = await node_of(request).postgres.fetchrow(sql("expiry_release"), who.subject_id)
    if held is None:
        raise Refused(409, "nothing_held", "No expiry is held at the moment.")
    if held["waits"]:
        acted(who, "release_expiry", str(held["due"]))
    return json_response({"released": held["due"]})


async def prometheus(request: Request) -> Response:
    await node_of(request).measure()
    return Response(generate_latest(metrics.REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST})

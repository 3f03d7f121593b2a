"""`/health` depends on nothing; `/ready` says whether a load balancer should send anybody here."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from hadir.http.requests import json_response, node_of


async def health(request: Request) -> Response:
    return json_response({"status": "ok"})


async def ready(request: Request) -> Response:
    """503 only while starting, draining or with the schema behind: an outage must not empty the balancer."""
    node = node_of(request)
    match node.state:
        case "ready":
            why = node.degraded()
            return json_response({"state": "degraded", "why": why} if why else {"state": "ready"})
        case "starting":
            return json_response({"state": "starting", "why": [node.why_starting]}, 503)
        case _:
            return json_response({"state": "draining"}, 503)

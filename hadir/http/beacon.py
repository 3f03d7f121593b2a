"""`GET /api/beacon`: how many are available now, cached everywhere, right about its own age."""

from __future__ import annotations

import hashlib
import time

from starlette.requests import Request
from starlette.responses import Response

from hadir import metrics
from hadir.errors import StoreUnavailable
from hadir.http import problems
from hadir.http.requests import node_of, none_match
from hadir.realtime.availability import Beacon

ANY_ORIGIN = {"access-control-allow-origin": "*"}


async def beacon(request: Request) -> Response:
    try:
        answer = await node_of(request).availability.beacon()
    except StoreUnavailable as error:
        metrics.BEACON_ANSWERS.labels("unavailable").inc()
        response = problems.unavailable(request, error)
        response.headers.update(ANY_ORIGIN)
        return response
    metrics.BEACON_ANSWERS.labels(answer.state).inc()
    etag = f'"{hashlib.blake2b(answer.body, digest_size=8).hexdigest()}"'
    headers = {"cache-control": f"public, max-age={max_age(answer, time.monotonic())}", "etag": etag, **ANY_ORIGIN}
    if {etag, "*"} & none_match(request):
        return Response(status_code=304, headers=headers)
    return Response(answer.body, headers=headers, media_type="application/json")


def max_age(answer: Beacon, now: float) -> int:
    """Whole seconds left, so that caches do not add up; an answer that is not live is asked for again soon."""
    if answer.state != "live":
        return 1
    return max(0, int(answer.expires - now))

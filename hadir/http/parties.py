"""Who asks over HTTP: customers and mitras, with a login that is good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request

from hadir.errors import Refused
from hadir.http.auth import bearer_of, check_session, require_role
from hadir.http.requests import node_of
from hadir.realtime.node import Node
from hadir.realtime.peer import Login
from hadir.realtime.waiting import happens

WAIT_MAX_S = 25.0
DISPLACED_S = 1.0
"""A request that gives way is answered after this: many apps of one account then ask once a second, not at once."""
T = TypeVar("T")


async def party(request: Request, *roles: str) -> tuple[Node, Login]:
    """Raises `Refused` (401, 403) and `PostgresUnavailable`: what they ask for needs Postgres anyway."""
    node = node_of(request)
    login = require_role(node.sockets.verify(bearer_of(request)), roles)
    await check_session(node, login)
    return node, login


def wait_of(request: Request) -> float:
    """The seconds of `wait`. Raises `Refused` (422)."""
    asked = request.query_params.get("wait", "0")
    try:
        wait_s = float(asked)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= WAIT_MAX_S:
        raise Refused(422, "bad_field", f"wait must be seconds from 0 to {WAIT_MAX_S:g}.", field="wait")
    return wait_s


async def read_until(
    node: Node, subject_id: str, wait_s: float, read: Callable[[], Awaitable[T]], enough: Callable[[T], bool]
) -> T:
    """What `read` answers, again after each change that concerns the subject until it is enough or `wait_s` is over.

    Subscribed before it reads: nothing falls between. Raises what `read` raises.
    """
    if wait_s <= 0:
        return await read()
    deadline = time.monotonic() + wait_s
    with node.waiters.watch(subject_id) as wait:
        found = await read()
        while not enough(found) and not wait.over:
            if not await happens(wait.changed, deadline - time.monotonic()):
                break
            wait.changed.clear()
            found = await read()
        if wait.displaced and not enough(found):
            await asyncio.sleep(min(DISPLACED_S, max(0.0, deadline - time.monotonic())))
        return found

"""`/api/internal/audit`: what operators did, to what, and when. Each line was written with the act itself."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response

from hadir.db.queries import sql
from hadir.errors import Refused
from hadir.http.auth import reader
from hadir.http.pages import NEWEST_LINE, page
from hadir.http.requests import TEXT_MAX, json_response, node_of
from hadir.realtime.messages import fits

ACTIONS = (
    "activate",
    "deactivate",
    "offline",
    "revoke",
    "release_expiry",
    "end_session",
    "reroute",
    "paid",
    "config",
)
FIELDS = ("at", "actor", "action", "subject", "details")


async def audit(request: Request) -> Response:
    """A page of the log, newest first: all of it, or what one actor, action or subject is about."""
    await reader(node_of(request), request)
    asked = {name: _asked(request, name) for name in ("actor", "action", "subject")}
    if asked["action"] is not None and asked["action"] not in ACTIONS:
        raise Refused(422, "bad_field", f"action must be one of {', '.join(ACTIONS)}.", field="action")
    chosen = {name: value for name, value in asked.items() if value is not None}
    found, following = await page(request, lines(chosen), NEWEST_LINE, *chosen.values())
    return json_response({"entries": [{name: each[name] for name in FIELDS} for each in found], "next": following})


def lines(columns: Iterable[str]) -> str:
    """The statement for lines where these columns have certain values, in their order from $3 on."""
    condition = " AND ".join(f"{name} = ${number}" for number, name in enumerate(columns, 3))
    return sql("audit_page").replace("{condition}", condition or "true")


def _asked(request: Request, name: str) -> str | None:
    value = request.query_params.get(name)
    if value is not None and not fits(value, TEXT_MAX):
        raise Refused(422, "bad_field", f"{name} must be a text of 1 to {TEXT_MAX} characters.", field=name)
    return value

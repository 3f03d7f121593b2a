"""`/api/internal/mitras…` and `/api/internal/available`: who they are, how they stand, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from hadir.db.queries import sql
from hadir.errors import Refused, ValkeyUnavailable
from hadir.http.auth import reader
from hadir.http.pages import LAST_ID, LATEST, LIMIT, LIMIT_MAX, Position, cursor, cut, page
from hadir.http.requests import json_response, node_of, path_id, whole
from hadir.realtime import rows as presence_rows
from hadir.realtime.node import Node
from hadir.realtime.presence import State

SEARCH_MAX = 100
POOL_MAX = 1_000
LOGINS_MAX = 20
ID_PREFIX = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,28}")
"""What is searched as the beginning of an id; anything else is the beginning of a name."""
STATES: Mapping[str, str] = {
    "online": "p.is_online AND p.suspect_since IS NULL",
    "suspect": "p.is_online AND p.suspect_since IS NOT NULL",
    "offline": "NOT p.is_online",
    "available": "p.is_online AND p.suspect_since IS NULL AND p.open_sessions < p.max_sessions",
    "busy": "p.is_online AND p.suspect_since IS NULL AND p.open_sessions >= p.max_sessions",
    "deactivated": "NOT p.is_active",
}
"""The state filters, as conditions on `mitra_presence p`."""
ANY = "true"
SORTS = ("name", "changed")
IN_RANGE = "p.mitra_id BETWEEN ${}::uuid AND ${}::uuid"
NAMED = (
    'lower(m.display_name) COLLATE "C" >= lower($4) AND lower(m.display_name) COLLATE "C" < lower($4) || chr(1114111)'
)
"""What a search comes to where the list is not in its order."""
MAX_ID = 2**128 - 1
FIRST_NAMED: Position = {"name_key": "", "mitra_id": presence_rows.FIRST_ID}
LAST_LINE: Position = {"at": LATEST, "recorded_at": LATEST}
LAST_CHANGED: Position = {"changed_at": LATEST, "mitra_id": LAST_ID}


async def mitras(request: Request) -> Response:
    """A page of mitras: by name where one is searched for, else by id; or as `sort` says. `next`: of the next page."""
    node = node_of(request)
    await reader(node, request)
    search, condition, sort = _search(request), _condition(request), _sort(request)
    is_name = search != "" and not _is_id(search)
    if sort == "changed":
        wanted, args = _searched(search)
        found, following = await page(request, by_change(condition, wanted), LAST_CHANGED, *args)
    elif is_name:
        found, following = await page(request, by_name(condition), FIRST_NAMED, first=(search,))
    elif sort == "name":
        whole_range = (str(each) for each in _id_range(search))
        listed_by_name = by_name(f"{condition} AND {IN_RANGE.format(5, 6)}")
        found, following = await page(request, listed_by_name, FIRST_NAMED, *whole_range, first=("",))
    else:
        limit, before = whole(request, "limit", LIMIT, 1, LIMIT_MAX), cursor(request, ("mitra_id",))
        first, last = _id_range(search)
        after_id = UUID(str(before["mitra_id"])).int if before else -1
        first_id = str(UUID(int=min(max(first.int, after_id + 1), MAX_ID)))
        records = await node.postgres.fetch(by_id(condition), first_id, str(last), limit + 1)
        found, following = cut(records, limit, ("mitra_id",))
    return json_response({"mitras": await listed(node, found), "next": following})


def by_id(condition: str) -> str:
    return sql("mitras_page").replace("{state}", condition)


def by_name(condition: str) -> str:
    return sql("mitras_named").replace("{state}", condition)


def by_change(condition: str, search: str) -> str:
    return sql("mitras_changed").replace("{state}", condition).replace("{search}", search)


async def mitra(request: Request) -> Response:
    """One mitra, whole: its row, its last beat, its logins, its open sessions."""
    node = node_of(request)
    await reader(node, request)
    mitra_id = path_id(request, "id")
    record = await node.postgres.fetchrow(sql("mitras_by_id"), [mitra_id])
    if record is None:
        raise unknown_mitra()
    found = (await listed(node, [record]))[0]
    logins = await node.postgres.fetch(sql("mitra_logins"), mitra_id, LOGINS_MAX)
    sessions = await node.postgres.fetch(sql("mitra_sessions"), mitra_id)
    row = presence_rows.row_of(record)
    return json_response(
        {
            **found,
            "created_at": record["created_at"],
            "version": row.version,
            "connection_id": row.connection_id,
            "instance_id": row.instance_id,
            "sid": row.sid,
            "claimed_at": row.claimed_at,
            "last_session_at": row.last_session_at,
            "logins": [dict(each) for each in logins],
            "sessions": [dict(each) for each in sessions],
        }
    )


async def history(request: Request) -> Response:
    """Why it was what it was: the lines of `presence_log`, newest first."""
    node = node_of(request)
    await reader(node, request)
    mitra_id = path_id(request, "id")
    found, following = await page(request, sql("mitra_history"), LAST_LINE, first=(mitra_id,))
    if not found and not (await presence_rows.read(node.postgres, [mitra_id])).rows:
        raise unknown_mitra()
    return json_response({"changes": [dict(record) for record in found], "next": following})


async def available(request: Request) -> Response:
    """The pool in the order in which it is offered work; `state` says whether the mirror or Postgres told."""
    node = node_of(request)
    await reader(node, request)
    limit = whole(request, "limit", LIMIT, 1, POOL_MAX)
    records, state = await node.availability.pool(limit)
    return json_response({"mitras": await listed(node, records), "state": state})


async def listed(node: Node, records: Sequence[asyncpg.Record]) -> list[dict[str, Any]]:
    """Mitras as lists show them; the last beat is the mirror's where it can be asked."""
    rows = [presence_rows.row_of(record) for record in records]
    beats: dict[str, datetime] = {}
    with suppress(ValkeyUnavailable):  # else Postgres has heard of them, a little late
        beats = await node.mirror.last_beats([row.mitra_id for row in rows])
    return [
        {
            "id": row.mitra_id,
            "display_name": record["display_name"],
            "state": row.state.value,
            "is_active": row.is_active,
            "wants_online": row.wants_online,
            "reason": row.reason,
            "actor": row.actor,
            "changed_at": row.changed_at,
            "online_since": row.online_since,
            "suspect_since": row.suspect_since,
            "last_heartbeat_at": beats.get(row.mitra_id, row.last_heartbeat_at),
            "open_sessions": row.open_sessions,
            "max_sessions": row.max_sessions,
            "has_capacity": row.state is State.ONLINE and row.has_capacity,
        }
        for row, record in zip(rows, records, strict=True)
    ]


def unknown_mitra() -> Refused:
    return Refused(404, "unknown_mitra", "There is no mitra with this id.")


def _search(request: Request) -> str:
    search = request.query_params.get("q", "").strip()
    if len(search) > SEARCH_MAX or "\0" in search:
        raise Refused(422, "bad_field", f"q must be a text of at most {SEARCH_MAX} characters.", field="q")
    return search


def _condition(request: Request) -> str:
    state = request.query_params.get("state")
    if state is None:
        return ANY
    if state not in STATES:
        raise Refused(422, "bad_field", f"state must be one of {', '.join(STATES)}.", field="state")
    return STATES[state]


def _sort(request: Request) -> str | None:
    sort = request.query_params.get("sort")
    if sort not in (None, *SORTS):
        raise Refused(422, "bad_field", f"sort must be one of {', '.join(SORTS)}.", field="sort")
    return sort


def _searched(search: str) -> tuple[str, list[str]]:
    """The condition that a search comes to in a list that is sorted otherwise, with its arguments from $4 on."""
    if not search:
        return ANY, []
    if _is_id(search):
        return IN_RANGE.format(4, 5), [str(each) for each in _id_range(search)]
    return NAMED, [search]


def _is_id(search: str) -> bool:
    return ID_PREFIX.fullmatch(search.lower()) is not None


def _id_range(prefix: str) -> tuple[UUID, UUID]:
    """The first and the last id that begin so."""
    digits = prefix.lower().replace("-", "")[:32]
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))

"""`/api/internal/config…`: what operators set while everything runs, typed, and on record."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hadir.db.queries import sql
from hadir.errors import Refused
from hadir.http.auth import acted, operator, reader
from hadir.http.pages import NEWEST_LINE, page
from hadir.http.requests import json_body, json_response, node_of
from hadir.realtime.appconfig import KEYS, Key, known
from hadir.realtime.capacity import follow_default
from hadir.realtime.node import Node

HISTORY_MAX = 50


async def all_keys(request: Request) -> Response:
    node = node_of(request)
    await reader(node, request)
    return json_response({"settings": [_described(node, key) for key in KEYS.values()]})


async def history(request: Request) -> Response:
    """A page of a key's changes, newest first: what it became, and what it was (null: the default)."""
    await reader(node_of(request), request)
    chosen = known(request.path_params["key"])
    found, following = await page(request, sql("config_history"), NEWEST_LINE, first=(chosen.name,))
    changes = [
        {"at": each["at"], "actor": each["actor"], "value": each["to"], "before": each["from"]} for each in found
    ]
    return json_response({"changes": changes, "next": following})


async def key(request: Request) -> Response:
    """One route for both, so that `Allow` names both."""
    return await (set_key if request.method == "PUT" else one_key)(request)


async def one_key(request: Request) -> Response:
    """A key with its last changes."""
    node = node_of(request)
    await reader(node, request)
    chosen = known(request.path_params["key"])
    found = await node.postgres.fetch(sql("config_history"), chosen.name, NEWEST_LINE["line"], HISTORY_MAX)
    changes = [{name: each[name] for name in ("at", "actor", "from", "to")} for each in found]
    return json_response(_described(node, chosen) | {"changes": changes})


async def set_key(request: Request) -> Response:
    """Sets a key; a new `max_sessions` moves every mitra that has no capacity of its own, and says how many."""
    node = node_of(request)
    who = await operator(node, request)
    chosen, fields = known(request.path_params["key"]), await json_body(request)
    if "value" not in fields:
        raise Refused(422, "bad_field", "The body must be an object with the field value.", field="value")
    await node.app_config.store(chosen.name, fields["value"], who.subject_id)
    acted(who, "config", chosen.name)
    node.bus.publish("config")
    moved = 0
    if chosen.name == "max_sessions":
        moved = await follow_default(node.postgres, node.mirror, node.rows_changed)
    return json_response(_described(node, chosen) | {"moved": moved})


def _described(node: Node, key: Key) -> dict[str, Any]:
    updated_at, actor = node.app_config.changed(key.name)
    least, most = key.bounds
    return {
        "key": key.name,
        "value": node.app_config[key.name],
        "default": key.default,
        "kind": key.kind,
        "min": least,
        "max": most,
        "doc": key.doc,
        "updated_at": updated_at,
        "actor": actor,
        "expected": key.expected,
        "schema": key.schema,
        "public": key.public,
    }

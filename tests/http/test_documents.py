"""The OpenAPI and AsyncAPI documents: valid, complete, with nothing else, and true of live answers and frames."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route, WebSocketRoute

from hadir.dev.embedded import EmbeddedValkey
from hadir.http import app, asyncapi, documents, openapi
from hadir.http.openapi_table import INTERNAL, PUBLIC
from hadir.realtime import messages
from hadir.realtime.messages import CUSTOMER_SENDS, DASHBOARD_SENDS, MITRA_SENDS
from hadir.realtime.node import Node
from tests.support import eventually
from tests.support.couples import accepted, paid
from tests.support.system import FAST, Account, Phone, Served, System

ROOT = Path(__file__).parent.parent.parent
ASYNCAPI_SCHEMA = ROOT / "tests/foreign/node_modules/@asyncapi/specs/schemas/3.0.0.json"
CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}


@pytest.mark.parametrize("name", sorted(documents.FILES))
def test_what_is_committed_is_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == documents.FILES[name](), "run `make docs`"


@pytest.mark.parametrize("listeners", [[PUBLIC], [INTERNAL], [PUBLIC, INTERNAL]])
def test_the_openapi_documents_are_valid(listeners: list[str]) -> None:
    OpenAPIV31SpecValidator(openapi.document(listeners)).validate()


async def test_every_route_is_in_the_documents_and_nothing_else(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        node = (await system.instance()).node
        assert node is not None
        assert routes_of(node, PUBLIC) == documented(PUBLIC)
        assert routes_of(node, INTERNAL) == documented(INTERNAL)
        sockets = [
            route.path
            for each in (app.public, app.inner)
            for route in each(node).routes
            if isinstance(route, WebSocketRoute)
        ]
        assert sockets == [channel["address"] for channel in asyncapi.document()["channels"].values()]


def routes_of(node: Node, listener: str) -> set[tuple[str, str]]:
    """(method, path) of what is served; HEAD goes with every GET."""
    routes = (app.public if listener == PUBLIC else app.inner)(node).routes
    return {
        (method.lower(), route.path)
        for route in routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }


def documented(listener: str) -> set[tuple[str, str]]:
    return {(method, path) for path, methods in openapi.document([listener])["paths"].items() for method in methods}


async def test_each_listener_serves_its_own_document(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        for url, listener in ((served.url, PUBLIC), (served.inner_url, INTERNAL)):
            answer = await system.http.get(f"{url}/openapi.json")
            assert answer.status_code == 200
            assert answer.json() == json.loads(json.dumps(openapi.document([listener])))


def test_the_asyncapi_document_is_valid() -> None:
    if not ASYNCAPI_SCHEMA.exists():
        pytest.skip("The npm package @asyncapi/specs is not installed (npm install --prefix tests/foreign)")
    jsonschema.Draft7Validator(json.loads(ASYNCAPI_SCHEMA.read_text())).validate(asyncapi.document())


def test_every_type_of_message_is_in_the_document_and_nothing_else() -> None:
    taken = {"mitra": MITRA_SENDS, "customer": CUSTOMER_SENDS, "dashboard": DASHBOARD_SENDS}
    assert set(asyncapi.TAKEN) == set().union(*taken.values())
    for channel, operations in taken.items():
        assert kinds(channel, "receive") == operations
    said = set()
    for module in (ROOT / "hadir").rglob("*.py"):
        said |= set(re.findall(r"\bencode\(\s*\"([a-z.]+)\"", module.read_text()))
    assert set().union(*(kinds(channel, "send") for channel in taken)) == said
    assert {each["code"] for each in asyncapi.document()["channels"]["mitra"]["x-close-codes"]} == set(
        map(int, messages.CloseCode)
    )


def kinds(channel: str, action: str) -> set[str]:
    document = asyncapi.document()
    operation = document["operations"][f"{channel}.{action}"]
    pointers = [each["$ref"].rpartition("/")[2] for each in operation["messages"]]
    return {document["components"]["messages"][pointer]["name"] for pointer in pointers}


class Frames:
    """Checks what a socket was sent against the schemas of its channel."""

    def __init__(self, channel: str) -> None:
        self._document = asyncapi.document()
        operation = self._document["operations"][f"{channel}.send"]
        pointers = [each["$ref"].rpartition("/")[2] for each in operation["messages"]]
        described = self._document["components"]["messages"]
        self._payloads = {described[pointer]["name"]: described[pointer]["payload"] for pointer in pointers}

    def check(self, phone: Phone) -> set[str]:
        """Raises where a frame does not fit; answers the types that were checked."""
        for frame in phone.received:
            schema = {**self._payloads[frame["type"]], "components": self._document["components"]}
            jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker()).validate(frame)
        return {frame["type"] for frame in phone.received}


async def test_live_frames_fit_their_schemas(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        node, mitra, operator = served.node, await system.account(), await system.account("operator")
        customer = await system.account("customer")
        assert node is not None
        view = await system.watch(served.inner_url.replace("http", "ws") + "/ws/dashboard", operator)
        phone = await system.phone(served, mitra)
        app = await system.customer(served, customer)
        for message in (
            {"type": "ping"},
            {"type": "sync"},
            {"type": "status", "online": False},
            {"type": "status", "online": True},
            {"type": "status", "online": 1},
            {"type": "dance"},
            {"type": "token.refresh", "token": mitra.make_token(70)},
            {"type": "token.refresh", "token": "x"},
        ):
            await phone.ask(**message)
        await view.ask(type="ping")
        await view.ask(type="sync")
        await trade(system, served, phone, app, customer, operator)
        url = f"{served.inner_url}/api/internal/config/app_notice"
        await system.http.put(url, json={"value": "Hati-hati"}, headers=operator.bearer)
        for held, socket in ((node.registry.of(mitra.id), phone), (node.customers.of(customer.id), app)):
            await socket.message("config.updated")
            expires = held[0].session
            expires.token_ends = time.monotonic() + 50
            expires._plan()
        await phone.message("token.expiring")
        await app.message("token.expiring")
        await view.message("presence")
        await view.message("counts")
        node.sockets.draining = True
        await node._rotate_all(0.0)
        for each in (phone, app, view):
            await each.message("reconnect")
        assert Frames("mitra").check(phone) == kinds("mitra", "send")
        assert Frames("customer").check(app) == kinds("customer", "send")
        assert Frames("dashboard").check(view) == kinds("dashboard", "send") - {"ack", "error", "token.expiring"}


async def trade(system: System, served: Served, phone: Phone, app: Phone, customer: Account, operator: Account) -> None:
    """All that a mitra and a customer can be told of their work."""
    given_up = await system.pair(served, customer, "Kucing saya sakit")
    await phone.message("offer")
    assert (await system.ask(served, customer, "DELETE", f"/api/pairings/{given_up['id']}")).status_code == 200
    await phone.message("offer.closed")
    pairing = await system.pair(served, customer)
    await eventually(lambda: phone.received[-1].get("pairing_id") == pairing["id"])
    assert (await phone.ask(type="offer.seen", pairing_id=pairing["id"]))["type"] == "ack"
    won = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
    session = await paid(system, served, won["session"], operator)
    for socket in (app, phone):
        said = {"session_id": session["id"], "client_id": "1", "body": "Halo"}
        assert (await socket.ask(type="chat.send", **said))["message"]["body"] == "Halo"
        await socket.ask(type="sync")
    await phone.message("chat.message")
    await app.message("chat.message")
    await app.ask(type="ping")
    await app.ask(type="dance")
    await app.ask(type="session.end", session_id=session["id"])
    refused = await phone.ask(type="session.end", session_id=session["id"])
    assert (refused["type"], refused["code"]) == ("error", "wrong_state")
    for socket in (app, phone):
        await socket.message("session.updated")
    await app.message("pairing.updated")


async def test_live_answers_fit_their_schemas(database: str, valkey: EmbeddedValkey) -> None:
    """What the contract test finds only where rows are: a mitra with a history, sessions, payments and logins."""
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        mitra, operator = await system.account(), await system.account("operator")
        customer = await system.account("customer")
        await system.phone(served, mitra)
        session = await paid(system, served, await accepted(system, served, customer, mitra), operator)
        chat = f"/api/sessions/{session['id']}/messages"
        await system.ask(served, customer, "POST", chat, json={"client_id": "1", "body": "Halo"})
        inner = served.inner_url
        await system.http.put(f"{inner}/api/internal/config/max_sessions", json={"value": 2}, headers=operator.bearer)
        pairings = (await system.http.get(f"{inner}/api/internal/pairings", headers=operator.bearer)).json()
        ids = {"mitras": mitra.id, "pairings": pairings["pairings"][0]["id"], "sessions": session["id"]}
        for listener, url in ((PUBLIC, served.url), (INTERNAL, inner)):
            document = openapi.document([listener])
            for path, methods in document["paths"].items():
                operation = methods.get("get", {})
                if "application/json" not in operation.get("responses", {}).get("200", {}).get("content", {}):
                    continue
                named = path.replace("{id}", ids.get(path.split("/{id}")[0].split("/")[-1], "")).replace(
                    "{key}", "max_sessions"
                )
                needs = operation.get("description", "")
                who = operator if "operator" in needs else mitra if "role mitra" in needs else customer
                answer = await system.http.get(url + named, headers=who.bearer)
                assert answer.status_code == 200, (named, answer.text)
                schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
                whole = {**schema, "components": document["components"]}
                jsonschema.Draft202012Validator(whole).validate(answer.json())

"""`/api/internal/live`: the same as dashboards are told, as server-sent events; and what ends it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import jsonschema

from hadir.dev.embedded import EmbeddedValkey
from hadir.http import asyncapi, live, protocol
from hadir.realtime import dashboards
from hadir.realtime.messages import encode
from hadir.realtime.watch import Watcher
from tests.faults.test_interleavings import cut_off_from_postgres, node_of
from tests.support import eventually
from tests.support.streams import PATH, listening
from tests.support.system import FAST, Served, System

CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}
MUCH = encode("presence", changes=[{"mitra_id": "x" * 100_000}], more=0)

LONG = 40_000_000
"""Many times what the kernel takes in for both ends."""


async def test_it_says_what_the_socket_says(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other = await system.instance(), await system.instance()
        stream = await listening(system, served, await system.account("viewer"))
        assert stream.headers is not None
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        mitra = await system.account()
        await system.phone(other, mitra)

        def told() -> list[tuple[str, str]]:
            changes = [change for frame in stream.of("presence") for change in frame["changes"]]
            return [(each["mitra_id"], each["state"]) for each in changes if each["reason"] != "created"]

        await eventually(lambda: told() == [(mitra.id, "online")], 10)
        await eventually(lambda: any(each["counts"]["online"] == 1 for each in stream.of("counts")))
        described, components = asyncapi.document()["components"]["messages"], asyncapi.document()["components"]
        for name, data in stream.events:
            assert data["type"] == name
            schema = {**described[f"dashboard.{name}"]["payload"], "components": components}
            jsonschema.Draft7Validator(schema).validate(data)
        assert {name for name, _ in stream.events} == {"hello", "counts", "presence"}
        await stream.leave()


async def test_it_needs_a_login_of_the_control_centre(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        url, mitra, viewer = served.inner_url + PATH, await system.account(), await system.account("viewer")
        assert (await system.http.get(url)).status_code == 401
        assert (await system.http.get(url, headers=mitra.bearer)).status_code == 403
        head = await system.http.head(url, headers=viewer.bearer)
        assert (head.status_code, head.headers["content-type"].split(";")[0]) == (200, "text/event-stream")
        assert served.node is not None
        assert len(served.node.dashboards) == 0


async def test_a_login_that_is_revoked_ends_it_elsewhere(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other = await system.instance(), await system.instance()
        operator, viewer = await system.account("operator"), await system.account("viewer")
        stream = await listening(system, other, viewer)
        url = f"{served.inner_url}/api/internal/auth-sessions/{viewer.sid}/revoke"
        assert (await system.http.post(url, headers=operator.bearer)).status_code == 200
        assert await stream.ended() == "revoked"
        assert other.node is not None
        await eventually(lambda: len(other.node.dashboards) == 0)  # type: ignore[union-attr]


async def test_a_token_that_runs_out_ends_it(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        stream = await listening(system, served, await system.account("viewer"))
        assert served.node is not None
        (watcher,) = served.node.dashboards
        watcher.session.token_ends -= 620  # it had ten minutes
        watcher.session._plan()
        assert await stream.ended() == "token_expired"


async def test_a_login_that_could_not_be_checked_is_checked_as_soon_as_it_can_be(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        await system.sql.execute(
            "UPDATE auth_sessions SET revoked_at = now() - interval '1 hour' WHERE id = $1", viewer.sid
        )
        assert served.node is not None
        async with cut_off_from_postgres(served.node):
            stream = await listening(system, served, viewer)
            counts = (await stream.event("hello"))["sessions"]
            assert counts is None, "nobody could ask"
        assert await stream.ended(10) == "revoked"


async def test_a_drain_ends_it_at_once(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, {**CALM, "DRAIN_SECONDS": "30"}) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        stream, phone = await listening(system, served, viewer), await system.phone(served, await system.account())
        assert served.node is not None
        draining = asyncio.create_task(served.node.drain())
        assert await stream.ended(25) == "restarting"
        assert not draining.done(), "the mitra's socket still has time"
        refused = await system.http.get(served.inner_url + PATH, headers=viewer.bearer)
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        await phone.goodbye()
        await draining


async def test_there_are_as_many_as_there_may_be(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        before, dashboards.DASHBOARDS_MAX = dashboards.DASHBOARDS_MAX, 1
        try:
            stream = await listening(system, served, viewer)
            refused = await system.http.get(served.inner_url + PATH, headers=viewer.bearer)
            assert (refused.status_code, refused.json()["code"]) == (503, "full")
            await stream.leave()
            assert served.node is not None
            await eventually(lambda: len(served.node.dashboards) == 0)  # type: ignore[union-attr]
            stream = await listening(system, served, viewer)
            await stream.leave()
        finally:
            dashboards.DASHBOARDS_MAX = before


async def test_silence_is_broken_by_comments(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        before, live.COMMENT_S = live.COMMENT_S, 0.05
        try:
            stream = await listening(system, served, viewer)
            await eventually(lambda: stream.comments.count("still here") > 3)
            await stream.leave()
        finally:
            live.COMMENT_S = before


@asynccontextmanager
async def by_hand(system: System, served: Served) -> AsyncIterator[tuple[socket.socket, Watcher]]:
    """A stream whose client reads only when told to, and has half a second for it; and the server's end of it."""
    viewer, loop, before = await system.account("viewer"), asyncio.get_running_loop(), protocol.UNREAD_S
    raw, protocol.UNREAD_S = socket.socket(), 0.5
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", served.internal_port))
        head = f"GET {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: {viewer.bearer['Authorization']}\r\n\r\n"
        await loop.sock_sendall(raw, head.encode())
        watching = node_of(served).dashboards
        await eventually(lambda: len(watching) == 1 and all(each.started for each in watching))
        (watcher,) = watching
        yield raw, watcher
    finally:
        protocol.UNREAD_S = before
        raw.close()


async def test_who_does_not_read_is_cut_off_and_only_it_notices(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        watching = node_of(served).dashboards
        async with by_hand(system, served) as (_, deaf):
            stream = await listening(system, served, await system.account("viewer"))
            for _ in range(100):  # more than a kernel takes in for both ends
                deaf.send(MUCH)
            await eventually(lambda: deaf.busy)
            await system.phone(served, await system.account())
            await stream.event("presence")
            await eventually(lambda: list(watching) != [deaf] and deaf not in watching, 10)
            assert len(watching) == 1
            await stream.leave()


def reached(until: float) -> bool:
    return asyncio.get_running_loop().time() >= until


async def test_who_reads_slowly_gets_all_of_it(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        async with by_hand(system, served) as (raw, slow):
            slow.send(encode("presence", changes=[{"mitra_id": "x" * LONG}], more=0))
            loop = asyncio.get_running_loop()
            began, got, ended = loop.time(), 0, False
            while not ended and got < LONG:
                data = await loop.sock_recv(raw, 1 << 18)
                got, ended = got + len(data), not data
                until = began + got / LONG * 6 * protocol.UNREAD_S
                await eventually(partial(reached, until))
            assert got >= LONG
            assert loop.time() - began > 5 * protocol.UNREAD_S


async def test_numbers_out_of_bounds_are_refused(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer, mitra = await system.instance(), await system.account("viewer"), await system.account()
        for path, field in (("series", "minutes"), ("activity", "limit")):
            url = f"{served.inner_url}/api/internal/{path}"
            assert (await system.http.get(url, headers=mitra.bearer)).status_code == 403
            assert (await system.http.get(url, headers=viewer.bearer)).status_code == 200
            for value in ("0", "-1", "1441", "x", "1.5", ""):
                answer = await system.http.get(f"{url}?{field}={value}", headers=viewer.bearer)
                assert (answer.status_code, answer.json()["field"]) == (422, field), value

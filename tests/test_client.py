"""The client against a small real WebSocket server that does and says what a test tells it to."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from hadir.client import (
    Answered,
    BeaconMalformed,
    BeaconUnavailable,
    ClientStopped,
    CustomerApi,
    CustomerClient,
    Ended,
    Event,
    Failed,
    MitraClient,
    OfferResult,
    Opened,
    Problem,
    Replied,
    Verdict,
    fetch_beacon,
)
from hadir.client.verdict import FINAL, LISTED, backoff
from hadir.realtime.messages import CloseCode
from tests.support import eventually


class Steady(Random):
    """Every wait is the shortest possible; the bounds that were asked for are kept."""

    def __init__(self, first_beat: float = 0.9) -> None:
        super().__init__(1)
        self.bounds: list[tuple[float, float]] = []
        self._first_beat = first_beat

    def random(self) -> float:
        return self._first_beat

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append((a, b))
        return 0.0


class Seat:
    """One connection, as the server sees it."""

    def __init__(self, server: TinyServer, socket: ServerConnection, number: int) -> None:
        self.server, self.socket = server, socket
        self.name = f"{server.name}{number}"
        self.heard: list[dict[str, Any]] = []
        self.closed_with: int | None = None
        request = socket.request
        assert request is not None
        self.path, self.token = request.path, request.headers["Authorization"].removeprefix("Bearer ")

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(orjson.dumps({"type": kind, **fields}), text=True)

    def say_together(self, *kinds: str) -> None:
        """In one segment: the second is there when the first is heard."""
        frames = (Frame(Opcode.TEXT, orjson.dumps({"type": kind})) for kind in kinds)
        self.socket.transport.write(b"".join(frame.serialize(mask=False) for frame in frames))

    def heard_types(self) -> list[str]:
        return [str(message["type"]) for message in self.heard]

    async def run(self) -> None:
        self.server.log.append(f"{self.name} opened")
        try:
            await self.server.may_greet.wait()
            self.server.log.append(f"{self.name} hello")
            await self.say(
                "hello",
                connection_id=self.name,
                heartbeat_interval_s=self.server.interval_s,
                reconnect_window_s=self.server.window_s,
                state={"online": True, "pending": self.server.pending},
            )
            async for frame in self.socket:
                self.heard.append(orjson.loads(frame))
                await self.answer(self.heard[-1])
        except ConnectionClosed:
            pass
        finally:
            self.closed_with = self.socket.close_code
            self.server.log.append(f"{self.name} closed {self.closed_with}")

    async def answer(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ping" if self.server.pongs:
                self.server.log.append(f"{self.name} beat")
                await self.say("pong", re=message["id"])
            case "status" if self.server.acks:
                await self.say("ack", re=message["id"])
            case "sync":
                await self.say("sync", re=message["id"], state={"online": False})
            case kind if kind in self.server.answers:
                reply, fields = self.server.answers[kind]
                await self.say(reply, re=message["id"], **fields)


class TinyServer:
    """Says hello, answers, and keeps a log (shared between servers) of what happened in which order."""

    def __init__(self, name: str = "A", log: list[str] | None = None) -> None:
        self.name = name
        self.log: list[str] = [] if log is None else log
        self.seats: list[Seat] = []
        self.refusals: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        """Status, body and headers of the next handshakes' refusals."""
        self.interval_s, self.window_s = 20.0, 0.0
        self.pongs = self.acks = True
        self.answers: dict[str, tuple[str, dict[str, Any]]] = {}
        """To a message of that type: the answer's type and fields."""
        self.pending = False
        self.may_greet = asyncio.Event()
        self.may_greet.set()
        self.server: Server | None = None

    async def handle(self, socket: ServerConnection) -> None:
        seat = Seat(self, socket, len(self.seats) + 1)
        self.seats.append(seat)
        await seat.run()

    def consider(self, socket: ServerConnection, request: Request) -> Response | None:
        if not self.refusals:
            return None
        status, body, headers = self.refusals.pop(0)
        content = orjson.dumps(body)
        all_headers = Headers({"Content-Length": str(len(content)), "Connection": "close", **headers})
        return Response(status, HTTPStatus(status).phrase, all_headers, content)

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"ws://127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> TinyServer:
        self.server = await serve(
            self.handle,
            "127.0.0.1",
            0,
            process_request=self.consider,
            ping_interval=None,
            compression=None,
            close_timeout=1,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        self.may_greet.set()
        self.server.close()
        await self.server.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[TinyServer]:
    async with TinyServer() as tiny:
        yield tiny


@asynccontextmanager
async def connected(*servers: TinyServer, **options: Any) -> AsyncIterator[MitraClient]:
    options.setdefault("random", Steady())
    token = options.pop("token", "t0")
    async with MitraClient([server.url for server in servers], token, **options) as client:
        await client.opened()
        yield client


def handing_out(*tokens: str) -> Callable[[], Any]:
    left = iter(tokens)

    async def token() -> str:
        return next(left)

    return token


@pytest.mark.parametrize("beat", ["text", "control"])
async def test_it_beats_every_interval_and_measures_the_pongs(server: TinyServer, beat: str) -> None:
    server.interval_s = 0.25
    told: list[Event] = []
    async with connected(server, beat=beat, on_event=told.append) as client:
        await eventually(lambda: client.counters.pongs >= 5)
        assert client.counters.opens == 1
        timed = [each.took_s for each in told if isinstance(each, Replied) and each.kind == "ping"]
        assert len(timed) == client.counters.pongs
        assert all(0 < took_s < 1 for took_s in timed)
        assert client.connected
        assert client.connection_id == "A1"
        assert set(server.seats[0].heard_types()) == ({"ping"} if beat == "text" else set())


async def test_the_first_beat_comes_after_a_random_part_of_the_interval(server: TinyServer) -> None:
    server.interval_s = 2  # so long that on a busy machine, too, half of it is told from the whole
    began = time.monotonic()
    async with connected(server, random=Steady(first_beat=0.5)):
        await eventually(lambda: bool(server.seats[0].heard))
        assert 1 <= time.monotonic() - began < 2


async def test_token_and_command_are_those_of_the_handshake(server: TinyServer) -> None:
    async with connected(server, status=False, token="abc"):
        assert server.seats[0].path == "/ws/mitra?status=offline"
        assert server.seats[0].token == "abc"
        await server.seats[0].socket.close(1012)
        await eventually(lambda: len(server.seats) == 2)
        assert server.seats[1].path == "/ws/mitra", "the command is given once; then the stored intent stands"


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4001, 4002, 4003, 4004, 4005, 4006, 4242])
async def test_after_these_codes_it_comes_back(server: TinyServer, code: int) -> None:
    async with connected(server) as client:
        await server.seats[0].socket.close(code)
        await eventually(lambda: client.counters.reconnects == 1 and client.connected)
        assert client.closed_with == code
        assert client.stopped_because is None


@pytest.mark.parametrize(
    ("code", "name"), [(4501, "revoked"), (4502, "deactivated"), (4503, "displaced"), (4504, "protocol_error")]
)
async def test_after_these_codes_it_stops(server: TinyServer, code: int, name: str) -> None:
    async with connected(server) as client:
        await server.seats[0].socket.close(code)
        await eventually(lambda: client.stopped_because == name)
        assert client.closed_with == code
        with pytest.raises(ClientStopped, match=name):
            await client.set_status(True)
    assert len(server.seats) == 1


async def test_the_successor_says_hello_before_the_old_connection_goes() -> None:
    log: list[str] = []
    async with TinyServer("A", log) as a, TinyServer("B", log) as b:
        a.interval_s = 0.25
        b.may_greet.clear()
        async with connected(a, b) as client:
            await a.seats[0].say("reconnect", after_ms=0, reason="drain")
            await eventually(lambda: "B1 opened" in log)
            beats = log.count("A1 beat")
            await eventually(lambda: log.count("A1 beat") > beats + 2)
            assert client.connection_id == "A1"
            b.may_greet.set()
            await eventually(lambda: a.seats[0].closed_with is not None)
            assert client.connection_id == "B1"
            assert client.counters.rotations == 1
            assert client.counters.reconnects == 0
    assert a.seats[0].closed_with == 1001, "1000 would be a goodbye"
    assert log.index("B1 opened") < log.index("B1 hello") < log.index("A1 closed 1001")


async def test_the_old_connection_stays_while_the_successors_claim_is_pending() -> None:
    async with TinyServer("A") as a, TinyServer("B") as b:
        a.interval_s, b.pending = 0.25, True
        async with connected(a, b) as client:
            await a.seats[0].say("reconnect", after_ms=0, reason="drain")
            await eventually(lambda: client.connection_id == "B1")
            beats = len(a.seats[0].heard)
            await eventually(lambda: len(a.seats[0].heard) > beats + 2)
            await b.seats[0].say("sync", state={"online": True, "pending": False})
            await eventually(lambda: a.seats[0].closed_with == 1001)


async def test_a_rotation_is_spread_over_the_time_that_the_server_gave(server: TinyServer) -> None:
    random = Steady()
    async with connected(server, random=random) as client:
        await server.seats[0].say("reconnect", after_ms=8000, reason="drain")
        await eventually(lambda: client.counters.rotations == 1)
        assert random.bounds == [(0.0, 8.0)]


async def test_superseded_by_its_own_successor_is_no_reason_to_come_back() -> None:
    async with TinyServer("A") as a, TinyServer("B") as b:
        b.may_greet.clear()
        async with connected(a, b) as client:
            await a.seats[0].say("reconnect", after_ms=0, reason="max_age")
            await eventually(lambda: len(b.seats) == 1)
            await a.seats[0].socket.close(4006)
            await eventually(lambda: not client.connected)
            b.may_greet.set()
            await eventually(lambda: client.connected)
            assert (client.connection_id, client.counters.opens) == ("B1", 2)
        assert (len(a.seats), len(b.seats)) == (1, 1)


async def test_a_final_code_on_the_old_connection_stops_the_successor_too() -> None:
    async with TinyServer("A") as a, TinyServer("B") as b:
        b.may_greet.clear()
        async with connected(a, b) as client:
            await a.seats[0].say("reconnect", after_ms=0, reason="max_age")
            await eventually(lambda: len(b.seats) == 1)
            await a.seats[0].socket.close(4502)
            await eventually(lambda: client.stopped_because == "deactivated")
            b.may_greet.set()
            await eventually(lambda: b.seats[0].closed_with is not None)
            assert not client.connected


@pytest.mark.parametrize("beat", ["text", "control"])
async def test_a_missing_pong_is_a_dead_server(server: TinyServer, beat: str) -> None:
    server.interval_s = 0.05
    async with connected(server, beat=beat) as client:
        if beat == "text":
            server.pongs = False
        else:
            server.seats[0].socket.transport.pause_reading()
        await eventually(lambda: len(server.seats) >= 2 and client.connected)
        assert client.counters.reconnects >= 1
        assert client.closed_with == 1006
        if beat == "control":
            server.seats[0].socket.transport.resume_reading()


async def test_failed_attempts_back_off_with_full_jitter_up_to_half_a_minute(server: TinyServer) -> None:
    server.refusals = [(503, {}, {})] * 9
    random = Steady()
    async with connected(server, random=random):
        assert random.bounds == [(0.0, bound) for bound in (0.5, 1, 2, 4, 8, 16, 30, 30, 30)]


def test_the_backoff_of_any_number_of_failures_is_within_its_bounds() -> None:
    random = Random(7)
    assert all(0.0 <= backoff(failures, random) <= 30.0 for failures in [*range(40), 10_000])


async def test_a_server_that_names_a_time_is_left_alone_for_it(server: TinyServer) -> None:
    server.refusals = [(503, {}, {"Retry-After": "1"})]
    began = time.monotonic()
    async with connected(server):
        assert time.monotonic() - began >= 1.0


async def test_after_a_loss_everybody_comes_back_over_the_servers_window(server: TinyServer) -> None:
    server.window_s = 10.0
    random = Steady()
    async with connected(server, random=random) as client:
        client.drop()
        await eventually(lambda: client.counters.reconnects == 1)
        assert random.bounds == [(0.0, 10.0)]
        assert server.seats[0].closed_with == 1006


async def test_an_attempt_tries_the_other_addresses_before_it_waits(server: TinyServer) -> None:
    async with TinyServer("X") as gone:
        dead = gone.url
    random = Steady()
    async with MitraClient([dead, server.url], "t", random=random) as client:
        await client.opened()
        assert client.connection_id == "A1"
        assert random.bounds == []


async def test_a_refused_token_is_replaced_where_there_is_a_source_of_them(server: TinyServer) -> None:
    server.refusals = [(401, {"code": "token_expired"}, {})]
    async with connected(server, token=handing_out("old", "new")):
        assert server.seats[0].token == "new"


@pytest.mark.parametrize(
    ("status", "problem", "token", "because"),
    [
        (401, {"code": "token_expired"}, "fixed", "token_expired"),
        (401, {"code": "revoked"}, handing_out("a", "b"), "revoked"),
        (403, {"code": "deactivated"}, handing_out("a", "b"), "deactivated"),
        (403, {}, "fixed", "http_403"),
    ],
)
async def test_these_refusals_are_final(
    server: TinyServer, status: int, problem: dict[str, str], token: Any, because: str
) -> None:
    server.refusals = [(status, problem, {})]
    async with MitraClient(server.url, token, random=Steady()) as client:
        with pytest.raises(ClientStopped, match=because):
            await client.opened()
    assert server.seats == []


async def test_an_expiring_token_is_refreshed_on_the_open_connection(server: TinyServer) -> None:
    async with connected(server, token=handing_out("old", "new")):
        await server.seats[0].say("token.expiring", expires_in_s=60)
        await eventually(lambda: server.seats[0].heard_types() == ["token.refresh"])
        assert server.seats[0].heard[0]["token"] == "new"


async def test_a_status_is_acknowledged_even_over_a_reconnect(server: TinyServer) -> None:
    async with connected(server) as client:
        await client.set_status(True)
        server.acks = False
        waiting = asyncio.create_task(client.set_status(False))
        await eventually(lambda: len(server.seats[0].heard) == 2)
        server.acks = True
        client.drop()
        await asyncio.wait_for(waiting, 5)
        assert [(m["type"], m["online"]) for m in server.seats[1].heard] == [("status", False)]


async def test_an_error_to_a_request_is_raised_where_it_was_made(server: TinyServer) -> None:
    server.acks = False
    async with connected(server) as client:
        asking = asyncio.create_task(client.set_status(True))
        await eventually(lambda: bool(server.seats[0].heard))
        await server.seats[0].say("error", re=server.seats[0].heard[0]["id"], code="unavailable", message="later")
        with pytest.raises(Answered, match="later") as caught:
            await asking
        assert caught.value.code == "unavailable"


async def test_sync_tells_the_state_and_messages_are_passed_on(server: TinyServer) -> None:
    heard: list[str] = []
    async with connected(server, on_message=lambda message: heard.append(message["type"])) as client:
        assert client.state == {"online": True, "pending": False}
        assert await client.sync() == {"online": False}
        assert client.state == {"online": False}
        assert heard == ["hello", "sync"]


async def test_goodbye_closes_with_1000_and_leaving_without_it_does_not(server: TinyServer) -> None:
    async with connected(server) as client:
        await client.goodbye()
        assert (client.closed_with, client.stopped_because) == (1000, "goodbye")
    async with connected(server):
        pass
    await eventually(lambda: [seat.closed_with for seat in server.seats] == [1000, 1001])


async def test_a_goodbye_is_not_cut_off_by_the_end_that_it_brings_about(server: TinyServer) -> None:
    goodbyes: list[asyncio.Task[None]] = []

    async def work() -> None:
        async with connected(server) as client:
            goodbyes.append(asyncio.create_task(client.goodbye()))
            await client.stopped()
            await client.opened()

    with pytest.raises(ClientStopped, match="goodbye"):
        await work()
    await goodbyes[0]
    await eventually(lambda: server.seats[0].closed_with == 1000)


async def test_frozen_it_neither_beats_nor_reads_and_thawed_it_goes_on(server: TinyServer) -> None:
    server.interval_s = 0.25
    heard: list[str] = []
    async with connected(server, on_message=lambda message: heard.append(message["type"])) as client:
        async with connected(server) as other:
            await eventually(lambda: client.counters.pongs > 0)
            client.freeze()
            await server.seats[0].say("config.updated")
            beats, others = client.counters.beats, other.counters.beats
            await eventually(lambda: other.counters.beats > others + 10)
            assert client.counters.beats <= beats + 1
            assert heard == ["hello"]
            client.thaw()
            await eventually(lambda: heard == ["hello", "config.updated"])
            await eventually(lambda: client.counters.beats > beats + 3)
            assert client.counters.opens == 1


@pytest.mark.parametrize("first", ["frozen", "lost"])
async def test_a_connection_that_a_frozen_app_loses_has_ended_whatever_it_had_yet_to_read(
    server: TinyServer, first: str
) -> None:
    told: list[Event] = []

    def hear(message: dict[str, Any]) -> None:
        if message["type"] == "one":  # the other one is in its hands by now
            (client.freeze if first == "frozen" else client.drop)()
            (client.drop if first == "frozen" else client.freeze)()
        assert message["type"] != "other"

    async with connected(server, on_message=hear, on_event=told.append) as client:
        server.seats[0].say_together("one", "other")
        await eventually(lambda: ended(told) == [(1006, "network", Verdict.AGAIN)])


async def test_thawed_and_frozen_again_at_once_it_keeps_its_connection(server: TinyServer) -> None:
    heard: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        heard.append(message["type"])
        if message["type"] == "one":
            client.freeze()
            asyncio.get_running_loop().call_later(0.05, again)

    def again() -> None:
        client.thaw()
        client.freeze()
        asyncio.get_running_loop().call_later(0.05, client.thaw)

    async with connected(server, on_message=hear) as client:
        server.seats[0].say_together("one", "other")
        await eventually(lambda: heard == ["hello", "one", "other"])
        assert client.counters.opens == 1


async def test_what_on_message_raises_comes_out_of_the_async_with(server: TinyServer) -> None:
    def fail(message: Any) -> None:
        raise LookupError("mine")

    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        async with MitraClient(server.url, "t", on_message=fail, random=Steady()):
            await asyncio.Event().wait()


async def test_what_the_body_raises_comes_out_as_it_is(server: TinyServer) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with connected(server):
            raise LookupError("mine")
    await eventually(lambda: server.seats[0].closed_with == 1006)


def ended(told: list[Event]) -> list[tuple[int, str, Verdict]]:
    return [(each.code, each.by, each.verdict) for each in told if isinstance(each, Ended)]


async def test_it_tells_what_it_did_and_what_it_made_of_it(server: TinyServer) -> None:
    told: list[Event] = []
    server.refusals = [(429, {"code": "too_many"}, {})]
    async with connected(server, on_event=told.append) as client:
        await client.set_status(True)
        await server.seats[0].socket.close(1012)
        await eventually(lambda: len(server.seats) == 2 and client.connected)
        client.drop()
        await eventually(lambda: len(server.seats) == 3 and client.connected)
        await client.goodbye()
    failed = next(each for each in told if isinstance(each, Failed))
    assert (failed.status, failed.problem, failed.close_code, failed.stops) == (429, "too_many", None, None)
    assert [each.connection_id for each in told if isinstance(each, Opened)] == ["A1", "A2", "A3"]
    assert [each.kind for each in told if isinstance(each, Replied)] == ["status"]
    assert ended(told) == [
        (1012, "server", Verdict.AGAIN),
        (1006, "network", Verdict.AGAIN),
        (1000, "client", Verdict.OWN),
    ]


async def test_it_tells_of_a_final_code_and_of_an_older_connections_end() -> None:
    told: list[Event] = []
    async with TinyServer("A") as a, TinyServer("B") as b:
        async with connected(a, b, on_event=told.append) as client:
            await a.seats[0].say("reconnect", after_ms=0, reason="drain")
            await eventually(lambda: len(ended(told)) == 1)
            await b.seats[0].socket.close(4502)
            await eventually(lambda: client.stopped_because == "deactivated")
    assert ended(told) == [(1001, "client", Verdict.SUCCEEDED), (4502, "server", Verdict.STOPPED)]


async def test_it_tells_how_old_its_last_answered_beat_was_and_of_freezes(server: TinyServer) -> None:
    server.interval_s = 0.25
    told: list[Event] = []
    async with connected(server, on_event=told.append) as client:
        await eventually(lambda: client.counters.pongs > 3)
        await server.seats[0].socket.close(1012)
        await eventually(lambda: client.counters.opens == 2)
        client.freeze()
        client.thaw()
        await server.seats[1].socket.close(1012)
        await eventually(lambda: len(ended(told)) == 2)
    first, second, *_ = (each for each in told if isinstance(each, Ended))
    assert first.sent > 3
    assert first.beat_age_s < first.lived_s
    assert (first.froze, second.froze) == (False, True)


async def test_what_on_event_raises_comes_out_of_the_async_with(server: TinyServer) -> None:
    def fail(event: Event) -> None:
        raise LookupError("mine")

    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        async with MitraClient(server.url, "t", on_event=fail, random=Steady()):
            await asyncio.Event().wait()
    await eventually(lambda: server.seats[0].closed_with is not None)


def test_it_knows_the_close_codes_of_the_protocol_and_no_others() -> None:
    assert {code.value: code.text for code in CloseCode} == LISTED
    table = Path("docs/protocol.md").read_text().partition("### Close codes")[2].partition("###")[0]
    known = {int(code) for code in re.findall(r"\b(?:1\d{3}|4\d{3})\b", table)}
    assert set(LISTED) - known <= {1009}, "1009 stands where frames are described"
    assert {code for code in known if code >= 4500} == set(FINAL)


BODY = {"available": 12, "online": 15, "as_of": "2026-11-23T20:00:00Z", "max_age_s": 10, "state": "live"}


async def test_the_beacon_is_fetched_and_revalidated(server: TinyServer) -> None:
    url = server.url.replace("ws:", "http:") + "/api/beacon"
    fresh = {"ETag": '"e1"', "Cache-Control": "public, max-age=7"}
    server.refusals = [(200, BODY, fresh), (304, {}, {"Cache-Control": "max-age=3"}), (503, {}, {})]
    first = await fetch_beacon(url)
    assert (first.available, first.online, first.state, first.etag) == (12, 15, "live", '"e1"')
    assert (first.fresh_for_s, first.unchanged) == (7, False)
    again = await fetch_beacon(url, first)
    assert (again.available, again.fresh_for_s, again.unchanged) == (12, 3, True)
    with pytest.raises(BeaconUnavailable) as caught:
        await fetch_beacon(url, again)
    assert caught.value.status == 503


@pytest.mark.parametrize(
    "body", [[], {}, {**BODY, "available": "12"}, {**BODY, "online": True}, {**BODY, "as_of": None}]
)
async def test_a_beacon_that_is_none_says_what_is_wrong(server: TinyServer, body: Any) -> None:
    server.refusals = [(200, body, {})]
    with pytest.raises(BeaconMalformed, match="not of the protocol"):
        await fetch_beacon(server.url.replace("ws:", "http:"))


async def test_a_beacon_that_is_not_there_is_an_os_error() -> None:
    async with TinyServer() as gone:
        url = gone.url.replace("ws:", "http:")
    with pytest.raises(ConnectionRefusedError):
        await fetch_beacon(url)


async def test_an_offer_is_answered_and_what_became_of_it_is_returned(server: TinyServer) -> None:
    server.answers = {
        "offer.accept": ("offer.result", {"pairing_id": "p", "result": "won", "session": {"id": "s"}}),
        "offer.decline": ("ack", {}),
        "offer.seen": ("ack", {}),
    }
    async with connected(server) as client:
        await client.seen("p")
        assert await client.accept("p") == OfferResult("won", {"id": "s"})
        assert await client.decline("p") == OfferResult("declined")
        server.answers["offer.decline"] = ("offer.result", {"pairing_id": "p", "result": "taken"})
        assert await client.decline("p") == OfferResult("taken")
        assert [m["pairing_id"] for m in server.seats[0].heard] == ["p"] * 4


@pytest.mark.parametrize("request_of", [MitraClient.accept, MitraClient.decline, MitraClient.end_session])
async def test_a_request_that_fails_raises_the_servers_code(server: TinyServer, request_of: Any) -> None:
    for kind in ("offer.accept", "offer.decline", "session.end"):
        server.answers[kind] = ("error", {"code": "wrong_state", "message": "too late"})
    async with connected(server) as client:
        with pytest.raises(Answered, match="too late") as caught:
            await request_of(client, "x")
        assert caught.value.code == "wrong_state"


async def test_an_accept_is_repeated_on_the_next_connection(server: TinyServer) -> None:
    async with connected(server) as client:
        accepting = asyncio.create_task(client.accept("p"))
        await eventually(lambda: bool(server.seats[0].heard))
        server.answers["offer.accept"] = ("offer.result", {"pairing_id": "p", "result": "won", "session": {}})
        client.drop()
        assert (await asyncio.wait_for(accepting, 5)).result == "won"


@pytest.mark.parametrize(("kind", "path"), [(MitraClient, "/ws/mitra"), (CustomerClient, "/ws/customer")])
async def test_a_message_keeps_its_client_id_over_a_reconnect(server: TinyServer, kind: Any, path: str) -> None:
    async with kind(server.url, "t", random=Steady()) as client:
        await client.opened()
        assert server.seats[0].path == path
        sending = asyncio.create_task(client.send_message("s", "halo"))
        await eventually(lambda: bool(server.seats[0].heard))
        server.answers = {"chat.send": ("ack", {"message": {"seq": 1}}), "session.end": ("ack", {})}
        client.drop()
        assert await asyncio.wait_for(sending, 5) == {"seq": 1}
        first, again = server.seats[0].heard[0], server.seats[1].heard[0]
        assert (first["client_id"], first["body"]) == (again["client_id"], "halo")
        await client.send_message("s", "halo", client_id=first["client_id"])
        assert server.seats[1].heard[1]["client_id"] == first["client_id"]
        await client.end_session("s")
        assert server.seats[1].heard[2]["session_id"] == "s"


async def test_a_customer_is_told_and_comes_back(server: TinyServer) -> None:
    heard: list[str] = []
    options: dict[str, Any] = {"random": Steady(), "on_message": lambda message: heard.append(message["type"])}
    async with CustomerClient(server.url, "t", **options) as client:
        await client.opened()
        await server.seats[0].say("pairing.updated", pairing={"id": "p"})
        await eventually(lambda: heard == ["hello", "pairing.updated"])
        client.drop()
        await eventually(lambda: client.counters.reconnects == 1)
        assert heard == ["hello", "pairing.updated", "hello"]
        assert client.state == {"online": True, "pending": False}
        await client.goodbye()
        assert client.stopped_because == "goodbye"


@dataclass
class TinyApi:
    """An HTTP server that keeps what it was asked and gives the next answer of its list."""

    answers: list[tuple[int, Any]]
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append((lines[0].removesuffix(" HTTP/1.0"), headers, body))
        status, answer = self.answers.pop(0)
        writer.write(f"HTTP/1.1 {status} X\r\n\r\n".encode() + orjson.dumps(answer))
        writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[CustomerApi]:
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            yield CustomerApi(f"http://127.0.0.1:{port}/", handing_out(*(["t"] * 20)))


async def test_a_customer_asks_over_http() -> None:
    api = TinyApi([(201, {"id": "p"})] + [(200, {"n": n}) for n in range(10)])
    async with api.running() as customer:
        assert await customer.create_pairing("k1", note="gate 2") == {"id": "p"}
        assert await customer.pairing("p", wait_s=25) == {"n": 0}
        for asking in (
            customer.pairing("p"),
            customer.cancel("p"),
            customer.sessions(limit=5, cursor="c"),
            customer.session("s"),
            customer.end("s"),
            customer.extend("s"),
            customer.reroute("s"),
            customer.messages("s", after=3),
            customer.send_message("s", "halo", client_id="c1"),
        ):
            await asking
    assert [line for line, _, _ in api.asked] == [
        "POST /api/pairings",
        "GET /api/pairings/p?wait=25",
        "GET /api/pairings/p",
        "DELETE /api/pairings/p",
        "GET /api/sessions?limit=5&cursor=c",
        "GET /api/sessions/s",
        "POST /api/sessions/s/end",
        "POST /api/sessions/s/extend",
        "POST /api/sessions/s/reroute",
        "GET /api/sessions/s/messages?after=3",
        "POST /api/sessions/s/messages",
    ]
    _, headers, body = api.asked[0]
    assert (headers["idempotency-key"], headers["authorization"]) == ("k1", "bearer t")
    assert orjson.loads(body) == {"note": "gate 2"}
    assert orjson.loads(api.asked[-1][2]) == {"client_id": "c1", "body": "halo"}


async def test_a_refusal_over_http_has_its_status_code_and_members() -> None:
    api = TinyApi([(409, {"code": "pairing_open", "detail": "one is open", "pairing_id": "p"}), (502, [])])
    async with api.running() as customer:
        with pytest.raises(Problem, match="409 pairing_open: one is open") as caught:
            await customer.create_pairing("k")
        assert (caught.value.status, caught.value.code, caught.value.members["pairing_id"]) == (
            409,
            "pairing_open",
            "p",
        )
        with pytest.raises(Problem, match="answered 502") as caught:
            await customer.cancel("p")
        assert caught.value.code is None


async def test_no_answer_over_http_is_an_os_error() -> None:
    async with TinyServer() as gone:
        url = gone.url.replace("ws:", "http:")
    with pytest.raises(ConnectionRefusedError):
        await CustomerApi(url, "t").pairing("p")

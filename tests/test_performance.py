"""The benchmark's load generator counts right, and its page says what was missed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from benchmarks.load import HADIR, Dialect, Load, build
from benchmarks.performance.__main__ import OTHERS, SUBJECTS, measured
from benchmarks.performance.goals import FASTIFY, NODE, STARLETTE, goals
from benchmarks.performance.measure import FULL
from benchmarks.performance.report import SOCKETS, Goal, ratio, table

Serve = Callable[[ServerConnection], Awaitable[None]]
LONG = "x" * 70_000


@asynccontextmanager
async def load_on(
    handler: Serve, folder: Path, tokens: str = "a\nb\nc\n", dialect: Dialect = HADIR
) -> AsyncIterator[Load]:
    """A load on a server of the websockets library that takes the tokens a, b and c."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler: apt-get install gcc libc6-dev")
    build()

    async def only_known(connection: ServerConnection, request: Request) -> Response | None:
        known = request.headers["Authorization"] in ("Bearer a", "Bearer b", "Bearer c")
        return None if known else connection.respond(HTTPStatus.UNAUTHORIZED, "unknown\n")

    (folder / "tokens").write_text(tokens)
    async with serve(handler, "127.0.0.1", 0, process_request=only_known, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with Load(port, folder / "tokens", dialect) as load:
            yield load


async def echoing(connection: ServerConnection) -> None:
    """Says hello behind a long message, answers each ping in between two others."""
    await connection.send(LONG)
    await connection.send('{"type":"hello"}')
    async for _ in connection:
        for text in ("y" * 200, '{"type":"pong"}', ["in ", "parts"], ""):
            await connection.send(text)


async def test_every_answer_is_counted_whatever_comes_between(tmp_path: Path) -> None:
    async with load_on(echoing, tmp_path) as load:
        opened = await load("open 3 1000")
        assert (opened["opened"], opened["failed"]) == (3, 0)
        beaten = await load("beat 300 2")
        assert beaten["answered"] == beaten["sent"] >= 400
        assert 0 < beaten["p50_ms"] <= beaten["p99_ms"] <= beaten["max_ms"] < 5_000
        assert beaten["lost"] == 0


async def test_an_answer_that_does_not_come_is_missed(tmp_path: Path) -> None:
    async def forgets(connection: ServerConnection) -> None:
        await connection.send('{"type":"hello"}')
        await connection.recv()
        await connection.wait_closed()

    async with load_on(forgets, tmp_path) as load:
        await load("open 3 1000")
        beaten = await load("beat 300 0.5")
        assert (beaten["sent"], beaten["answered"]) == (3, 0), "one after the other, and none is sent before an answer"


async def test_a_refused_handshake_is_named_and_a_lost_socket_counted(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def leaves(connection: ServerConnection) -> None:
        await connection.send('{"type":"hello"}')
        await ended.wait()

    async with load_on(leaves, tmp_path, "a\nwrong\nb\n") as load:
        opened = await load("open 3 1000")
        ended.set()
        assert (opened["opened"], opened["failed"]) == (2, 1)
        assert "401" in opened["error"]
        assert (await load("beat 10 0.5"))["lost"] == 2


async def test_a_message_to_all_is_seen_as_often_as_it_came(tmp_path: Path) -> None:
    told = asyncio.Event()

    async def tells(connection: ServerConnection) -> None:
        await connection.send('{"type":"hello"}')
        await told.wait()
        for text in ("x", '{"type":"news"}', "y"):
            await connection.send(text)
        await connection.wait_closed()

    async with load_on(tells, tmp_path) as load:
        await load("open 3 1000")
        told.set()
        seen = await load("watch news 3 5")
        assert seen["seen"] == 3
        assert seen["began_s"] <= seen["first_s"] <= seen["last_s"]


async def test_other_words_are_said_to_other_servers(tmp_path: Path) -> None:
    said: list[str] = []

    async def other(connection: ServerConnection) -> None:
        said.append(str(await connection.recv()))
        await connection.send("welcome")
        async for message in connection:
            said.append(str(message))
            await connection.send("answer")

    dialect = Dialect("/other", opening="40", greeting="welcome", beat="beat", pong="answer")
    async with load_on(other, tmp_path, "a\n", dialect) as load:
        assert (await load("open 1 1000"))["opened"] == 1
        beaten = await load("beat 20 0.2")
        assert beaten["answered"] == beaten["sent"] >= 2
    assert said == ["40", *["beat"] * beaten["sent"]]


async def test_a_server_that_greets_nobody_has_a_socket_after_the_upgrade(tmp_path: Path) -> None:
    async def silent(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with load_on(silent, tmp_path, dialect=Dialect("/ws", greeting="")) as load:
        assert (await load("open 3 1000"))["opened"] == 3


async def test_pings_of_the_server_are_answered(tmp_path: Path) -> None:
    answered = asyncio.Event()

    async def asks(connection: ServerConnection) -> None:
        await connection.send('{"type":"hello"}')
        for data in (b"1234", b""):
            await (await connection.ping(data))
        answered.set()
        await connection.send('{"type":"news"}')
        await connection.wait_closed()

    async with load_on(asks, tmp_path, "a\n") as load:
        await load("open 1 1000")
        assert (await load("watch news 1 5"))["seen"] == 1
        assert answered.is_set()


async def test_an_answer_is_timed_from_when_its_beat_was_due(tmp_path: Path) -> None:
    """The one socket is answered after 0.2 s: the beats that were due meanwhile waited for it."""

    async def slow(connection: ServerConnection) -> None:
        await connection.send('{"type":"hello"}')
        async for _ in connection:
            await asyncio.sleep(0.2)
            await connection.send('{"type":"pong"}')

    async with load_on(slow, tmp_path, "a\n") as load:
        await load("open 1 1000")
        assert (await load("beat 20 0.9"))["max_ms"] > 400


def test_what_was_missed_is_marked_by_how_much() -> None:
    rows = [
        Goal("speed", (50.0, 60.0, 70.0), "a second", least=80).row(),
        Goal("time", (3.0, 2.0, 9.0), "s", most=2).row(),
        Goal("time", (1.0,), "s", most=2).row(),
    ]
    assert rows[0] == "| speed | ≥ 80 a second | 60 (50 to 70) | **missed** by 25% |"
    assert rows[1] == "| time | ≤ 2 s | 3 (2 to 9) | **missed** by 50% |"
    assert rows[2].endswith("| 1 | reached |")


def test_a_goal_says_so_where_nothing_was_measured() -> None:
    runs: dict[str, list[dict[str, float]]] = {name: [{}] for name in SUBJECTS}
    assert {goal.verdict for goal in goals(runs, FULL)} == {"not measured"}
    assert {NODE, STARLETTE, FASTIFY} <= OTHERS.keys(), "a server of another name would never be measured"


async def test_a_subject_that_fails_leaves_the_others_their_figures() -> None:
    runs, failures = await measured(["no such subject", "another"], FULL, 2)
    assert runs == {"no such subject": [{}, {}], "another": [{}, {}]}
    assert "no such subject" in failures["no such subject"]


def test_ratios_are_of_one_repeat_each_and_tables_of_who_was_measured() -> None:
    runs = {"Hadir": [{"beats_per_cpu_s": 60.0}, {"beats_per_cpu_s": 40.0}], "other": [{"beats_per_cpu_s": 30.0}]}
    assert ratio(runs, "Hadir", "other", "beats_per_cpu_s") == (2.0,)
    assert ratio(runs, "Hadir", "nobody", "beats_per_cpu_s") == ()
    assert len(table({"Hadir": [dict.fromkeys(("kb_per_socket", "x"), 1.0)], "other": [{}]}, SOCKETS).splitlines()) == 3

"""Frames on the short way: whatever comes, cut wherever, is what the websockets library makes of it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from hadir.dev.embedded import EmbeddedValkey
from hadir.http.protocol import HttpProtocol, SocketProtocol
from hadir.http.wire import Wire, past, payload_of
from hadir.realtime.dialogue import Dialogue
from hadir.realtime.messages import MITRA_SENDS, CloseCode
from hadir.realtime.peer import Login, Peer
from tests.support import eventually
from tests.support.system import System

STREAMS = int(os.environ.get("HADIR_TEST_STREAMS", "2000"))
BEAT = b'{"type":"ping"}'


class Line(asyncio.Transport):
    """A transport to nowhere that keeps what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = ""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.ended:
            self.written += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)


class Recorder(Peer):
    """What a peer is told, and the real dialogue's answers."""

    kind = "mitra"

    def __init__(self) -> None:
        super().__init__(Login("m", "mitra", "s", 1e6), Dialogue(0.0, takes=MITRA_SENDS, **ENDLESS), no_token)
        self.heard: list[object] = []

    def hello(self) -> str:
        return '{"type":"hello"}'

    def send_state(self, re: str | None) -> None:
        self.heard.append(("sync", re))

    def change_status(self, online: bool, re: str | None) -> None:
        self.heard.append(("status", online, re))

    def carry_out(self, command: object) -> None:
        self.heard.append(command)

    def beat(self, kind: str) -> None:
        self.heard.append(kind)

    def ended(self, code: int | None) -> None:
        if not self.gone:
            self.heard.append(("ended", code))
        super().ended(code)


ENDLESS = {"stale_s": 1e9, "token_ends": 1e9, "rotate_at": 1e9}


def no_token(token: str) -> Login:
    raise AssertionError("no stream has a token")


class Plain(Wire):
    """Everything through one parser of the websockets library."""

    __slots__ = ()

    def _is_beat(self, data: bytes) -> bool:
        self._held().left = 1 << 60  # never idle
        return False


def outcome(kind: type[Wire], chunks: list[bytes]) -> tuple[list[object], bytes, str]:
    """What the peer was told, what was written, and how the connection ended."""
    line, peer = Line(), Recorder()
    wire = kind(line, peer, set())
    peer.start(wire)
    for chunk in chunks:
        if not line.ended:
            wire.data_received(chunk)
    wire._stop_timer()
    return peer.heard, re.sub(rb'"server_time":"[^"]*"', b"", line.written), line.ended


def stream(rng: random.Random) -> list[bytes]:
    """Frames as clients send them, and as they must not; of some, more than are allowed."""
    return [frame(rng) for _ in range(rng.choice((1, 3, 9, 60)))]


def frame(rng: random.Random) -> bytes:
    if rng.random() < 0.04:
        return Frame(Opcode.CLOSE, rng.choice((b"", b"\x03\xe8", b"\x03\xe9bye", b"\x00\x01", b"\x03"))).serialize(
            mask=True
        )
    opcode = rng.choice((*[Opcode.TEXT] * 6, Opcode.PING, Opcode.PING, Opcode.PONG, Opcode.BINARY, Opcode.CONT))
    long = opcode not in (Opcode.PING, Opcode.PONG)
    data = rng.choice((*[BEAT] * 4, *TEXTS, rng.randbytes(rng.randrange(125)), *LONG_TEXTS * long))
    made = bytearray(Frame(opcode, data, rng.random() < 0.85 or not long).serialize(mask=rng.random() > 0.02))
    if rng.random() < 0.03:
        made[0] |= rng.choice((0x10, 0x20, 0x40, 0x03))
    return bytes(made)


TEXTS = (b'{"type": "ping"}', b'{"type":"ping","id":"1"}', b'{"type":"sync"}', b"", "Hal\u00f3".encode(), b"\xff")
LONG_TEXTS = (b"x" * 126, b"y" * 200, b"z" * 70_000)


def cut(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """As they may arrive: each by itself, or cut at any bytes."""
    if rng.random() < 0.5:
        return frames
    data = b"".join(frames)
    at = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 1, 2, 5, 12))))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True) if a < b]


async def test_any_stream_cut_anywhere_is_what_the_parser_makes_of_it() -> None:
    rng = random.Random(seed := random.randrange(2**32))
    for n in range(STREAMS):
        chunks = cut(rng, stream(rng))
        assert outcome(Wire, chunks) == outcome(Plain, chunks), f"seed {seed}, stream {n}: {len(chunks)} chunks"


async def test_a_lone_beat_needs_no_parser_and_everything_else_leaves_none_behind() -> None:
    peer = Recorder()
    wire = Wire(Line(), peer, set())
    peer.start(wire)
    for data in (Frame(Opcode.TEXT, BEAT).serialize(mask=True), Frame(Opcode.PING, b"12").serialize(mask=True)):
        wire.data_received(data)
        assert wire._parsing is None
    sync = Frame(Opcode.TEXT, b'{"type":"sync"}').serialize(mask=True)
    wire.data_received(sync[:9])
    assert wire._parsing is not None
    wire.data_received(sync[9:])
    assert wire._parsing is None
    part = Frame(Opcode.TEXT, b'{"type":', fin=False).serialize(mask=True)
    wire.data_received(part)
    assert wire._parsing is not None, "a message is half there"
    wire.data_received(Frame(Opcode.CONT, b'"sync"}').serialize(mask=True))
    assert wire._parsing is None
    assert peer.heard == ["text", "control", "text", ("sync", None), "text", ("sync", None)]


@given(st.lists(st.tuples(st.sampled_from((0, 5, 125, 126, 65_535, 65_536)), st.booleans()), max_size=4), st.data())
@settings(deadline=None, max_examples=200)
def test_where_a_stream_stands_does_not_depend_on_how_it_is_cut(
    sizes: list[tuple[int, bool]], data: st.DataObject
) -> None:
    frames = [Frame(Opcode.TEXT, b"x" * size).serialize(mask=masked) for size, masked in sizes]
    stream, ends = b"".join(frames), [0]
    for frame in frames:
        ends.append(ends[-1] + len(frame))
    at = data.draw(st.integers(0, len(stream)))
    first = data.draw(st.integers(0, at))
    assert past(*past(b"", 0, stream[:first]), stream[first:at]) == past(b"", 0, stream[:at])
    assert (past(b"", 0, stream[:at]) == (b"", 0)) == (at in ends)


@given(st.binary(max_size=125))
def test_a_short_frames_payload_is_unmasked(payload: bytes) -> None:
    assert payload_of(Frame(Opcode.TEXT, payload).serialize(mask=True)) == payload


async def test_a_close_of_ours_is_sent_once_and_nothing_after_it() -> None:
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    peer.close(CloseCode.DEACTIVATED)
    peer.close(CloseCode.RESTARTING)
    wire.send("late")
    wire.data_received(Frame(Opcode.TEXT, BEAT).serialize(mask=True))
    farewell = Frame(Opcode.CLOSE, b"\x11\x96deactivated").serialize(mask=False)
    assert not line.ended, "the peer's own close frame is waited for"
    wire.data_received(Frame(Opcode.CLOSE, b"\x11\x96").serialize(mask=True))
    assert (line.ended, peer.heard) == ("closed", [("ended", None)])
    assert line.written.endswith(farewell)
    wire._stop_timer()


async def test_a_socket_that_has_ended_is_gone_without_a_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for last in (b"", Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True), BEAT[:3]):
            peer = Recorder()
            wire = Wire(Line(), peer, set())
            peer.start(wire)
            wire.data_received(Frame(Opcode.TEXT, b'{"type":"sync"}').serialize(mask=True) + last)
            wire.connection_lost(None)
            del peer, wire
        left = [each for each in gc.get_objects() if isinstance(each, Wire | Recorder | ServerProtocol)]
        assert left == []
    finally:
        gc.enable()


async def test_a_handshake_and_a_request_leave_nothing_to_a_collector(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served, mitra = await system.instance(), await system.account()
        gc.collect()
        gc.disable()
        try:
            phone = await system.phone(served, mitra)
            await phone.ask(type="ping")
            answer = await system.http.get(f"{served.url}/health", headers={"Connection": "close"})
            assert answer.status_code == 200

            def left() -> list[object]:
                kinds = (HttpProtocol, SocketProtocol, ServerProtocol)
                return [each for each in gc.get_objects() if isinstance(each, kinds)]

            await eventually(lambda: not left())
        finally:
            gc.enable()


async def test_who_does_not_read_our_close_frame_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hadir.http.wire.CLOSE_S", 0.01)
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    wire.pause_writing()
    peer.close(CloseCode.SUPERSEDED)
    await eventually(lambda: line.ended == "aborted")
    wire.connection_lost(None)


@pytest.mark.parametrize("end", [b"\x88\x80mask", b"\xff\xff"], ids=["a close frame", "no frame"])
async def test_a_close_of_ours_for_what_came_with_the_peers_own_end_is_one_end(end: bytes) -> None:
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    wire.data_received(b"".join(Frame(Opcode.TEXT, b"x").serialize(mask=True) for _ in range(10)) + end)
    assert peer.gone
    assert line.ended == "closed"
    wire.connection_lost(None)


@pytest.mark.parametrize("beat", [BEAT, b'{"type":"ping","id":"7"}'])
async def test_a_beat_is_answered_the_same_on_both_ways(beat: bytes) -> None:
    _, written, _ = outcome(Wire, [Frame(Opcode.TEXT, beat).serialize(mask=True)])
    pong = json.loads(written[written.rindex(b'{"type":"pong"') :].replace(b",,", b",").replace(b",}", b"}"))
    assert pong == {"type": "pong"} | ({"re": "7"} if b"id" in beat else {})

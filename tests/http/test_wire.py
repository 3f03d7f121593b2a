"""Frames on the short way: whatever comes, cut wherever, is what the websockets library makes of it."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from hadir.dev.embedded import EmbeddedValkey
from hadir.http.protocol import HttpProtocol, SocketProtocol
from hadir.http.wire import LATE_MAX, SLICE, UNREAD_MAX, Wire, past
from hadir.realtime import dialogue
from hadir.realtime.dialogue import Dialogue
from hadir.realtime.messages import MESSAGE_MAX, MITRA_SENDS, CloseCode
from hadir.realtime.peer import Login, Peer
from tests.support import eventually
from tests.support.system import System

STREAMS = int(os.environ.get("HADIR_TEST_STREAMS", "2000"))
BEAT = b'{"type":"ping"}'
BEATS = (
    b'{"type": "ping"}',
    b'{"type":"ping","id":"1"}',
    b'{"type": "ping", "id": "%s"}' % (b"x" * 36),
    b'{"type": "ping", "id": "%s"}' % (b"x" * 37),
    b'{"type":"ping","id":""}',
    b'{"type":"ping","id":"\\n"}',
    b'{"type":"ping","id":"\n"}',
    b'{"type":"ping","id":1}',
)


class Line(asyncio.Transport):
    """A transport to nowhere that keeps what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = ""
        self.unread = 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.ended:
            self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unread

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


class Reference:
    """One parser of the websockets library for a whole connection, and the plainest reading of its events."""

    busy = False

    def __init__(self, line: Line, peer: Peer, connections: set[object]) -> None:
        self.line, self.peer = line, peer
        self.conn = ServerProtocol(state=OPEN, max_size=MESSAGE_MAX)
        self.kind, self.message = Opcode.TEXT, b""
        self.hung_up = False

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            if self.line.ended:
                return
            self.conn.receive_data(data[start : start + SLICE])
            for event in self.conn.events_received():
                assert isinstance(event, Frame)
                self.take(event)
            if self.conn.parser_exc is not None:
                self.end(None)
            self.flush()
            if self.conn.close_rcvd is not None or self.conn.parser_exc is not None:
                self.line.close()

    def take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            assert self.conn.close_rcvd is not None
            code = self.conn.close_rcvd.code
            self.end(code)
        elif self.hung_up:
            pass
        elif frame.opcode is Opcode.PING:
            self.peer.ping()
        elif frame.opcode is Opcode.PONG:
            self.peer.frame()
        else:
            if frame.opcode is not Opcode.CONT:
                self.kind, self.message = frame.opcode, b""
            self.message += bytes(frame.data)
            if not frame.fin:
                self.peer.frame()
            elif self.kind is Opcode.BINARY:
                self.peer.binary()
            else:
                self.text()

    def text(self) -> None:
        try:
            text = self.message.decode()
        except UnicodeDecodeError:
            self.conn.fail(1007)
            self.end(None)
            self.flush()
            self.line.close()
        else:
            self.peer.text(text)

    def end(self, code: int | None) -> None:
        self.hung_up = True
        self.peer.ended(code)

    def flush(self) -> None:
        self.line.write(b"".join(self.conn.data_to_send()))

    def send(self, text: str) -> None:
        if self.conn.state is OPEN:
            self.conn.send_text(text.encode())

    def close(self, code: CloseCode) -> None:
        self.hung_up = True
        if self.conn.state is OPEN:
            self.conn.send_close(code, code.text)

    def _stop_timer(self) -> None: ...


def outcome(kind: type[Wire] | type[Reference], chunks: list[bytes]) -> tuple[object, ...]:
    """What the peer was told, what was written, and how the connection ended.

    Written are texts, pongs and close frames, each kind in its order: pongs may overtake texts of the same packet.
    """
    line, peer = Line(), Recorder()
    wire = kind(line, peer, set())
    peer.start(wire)
    for chunk in chunks:
        if not line.ended:
            wire.data_received(chunk)
    wire._stop_timer()
    frames = frames_of(line.written)
    said = [opcode for opcode, _ in frames]
    last = said[said.index(Opcode.CLOSE) + 1 :] if Opcode.CLOSE in said else []
    assert set(last) <= {Opcode.PONG}, "behind a close frame a ping is still answered, and that is all (RFC 6455, 5.5)"
    kinds = [[data for opcode, data in frames if opcode is each] for each in (Opcode.TEXT, Opcode.PONG, Opcode.CLOSE)]
    return peer.heard, *kinds, line.ended


def frames_of(written: bytes) -> list[tuple[Opcode, bytes]]:
    """Of a server's stream; times are left out."""
    found, at = [], 0
    while at < len(written):
        length, start = written[at + 1], at + 2
        if length == 126:
            length, start = int.from_bytes(written[start : start + 2]), start + 2
        data = re.sub(rb'"server_time":"[^"]*"', b"", written[start : start + length])
        found.append((Opcode(written[at] & 0x0F), data))
        at = start + length
    return found


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
    data = rng.choice((*[BEAT] * 4, *TEXTS, rng.randbytes(rng.randrange(126)), *LONG_TEXTS * long))
    made = bytearray(Frame(opcode, data, rng.random() < 0.85 or not long).serialize(mask=rng.random() > 0.02))
    if rng.random() < 0.03:
        made[0] |= rng.choice((0x10, 0x20, 0x40, 0x03))
    return bytes(made)


TEXTS = (*BEATS, b'{"type":"sync"}', b"", "Hal\u00f3".encode(), b"\xff")
LONG_TEXTS = (b"x" * 126, b"y" * 200, b"z" * 70_000)


def cut(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """As they may arrive: each by itself, or cut at any bytes."""
    if rng.random() < 0.5:
        return frames
    data = b"".join(frames)
    at = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 1, 2, 5, 12))))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True) if a < b]


async def test_any_stream_cut_anywhere_is_what_the_parser_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "FRAMES_PER_S", 0.0)  # a machine that stands still meanwhile earns no frame
    rng = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    for n in range(STREAMS):
        chunks = cut(rng, stream(rng))
        assert outcome(Wire, chunks) == outcome(Reference, chunks), f"stream {n}: {len(chunks)} chunks"


async def test_what_is_longer_than_its_head_says_is_no_lone_frame() -> None:
    for first in (b"\x89\xfe" + bytes(130), b"\x89\x80" + bytes(132), b"\x81\xfe" + bytes(130)):
        assert outcome(Wire, [first]) == outcome(Reference, [first])


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


async def test_a_close_of_ours_is_sent_once_and_no_message_after_it() -> None:
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    peer.close(CloseCode.DEACTIVATED)
    peer.close(CloseCode.RESTARTING)
    wire.send("late")
    wire.data_received(Frame(Opcode.TEXT, BEAT).serialize(mask=True))
    farewell = Frame(Opcode.CLOSE, b"\x11\x96deactivated").serialize(mask=False)
    wire.data_received(Frame(Opcode.PING, b"up").serialize(mask=True))
    assert not line.ended, "the peer's own close frame is waited for"
    wire.data_received(Frame(Opcode.CLOSE, b"\x11\x96").serialize(mask=True))
    assert (line.ended, peer.heard) == ("closed", [("ended", None)])
    assert line.written.endswith(farewell + b"\x8a\x02up"), (
        "whoever has not said goodbye may still ask (RFC 6455, 5.5.2)"
    )
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


@pytest.mark.parametrize("beat", [BEAT, *BEATS])
async def test_a_beat_is_answered_the_same_on_both_ways(beat: bytes) -> None:
    chunks = [Frame(Opcode.TEXT, beat).serialize(mask=True)]
    assert outcome(Wire, chunks) == outcome(Reference, chunks)


async def test_a_beat_with_an_id_needs_no_parser() -> None:
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    wire.data_received(Frame(Opcode.TEXT, b'{"type": "ping", "id": "a-1"}').serialize(mask=True))
    assert wire._parsing is None
    assert frames_of(line.written)[-1] == (Opcode.TEXT, b'{"type":"pong",,"re":"a-1"}')


async def test_nothing_is_said_behind_the_close_frame_that_answers_the_peers() -> None:
    frames = (
        Frame(Opcode.PING, b"1"),
        Frame(Opcode.TEXT, b'{"type":"ping","id":"9\\u0031"}'),
        Frame(Opcode.CLOSE, b""),
    )
    chunk = b"".join(frame.serialize(mask=True) for frame in frames)
    assert outcome(Wire, [chunk]) == outcome(Reference, [chunk])


async def test_who_only_stops_sending_is_lost_at_once() -> None:
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    assert wire.eof_received(), "what was written is still sent"
    assert (peer.heard, line.ended) == ([("ended", None)], "closed")
    wire.connection_lost(None)
    assert peer.heard == [("ended", None)]


async def test_who_sends_on_and_on_behind_our_close_frame_is_cut_off() -> None:
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    peer.close(CloseCode.DEACTIVATED)
    frame = Frame(Opcode.TEXT, b"x" * 1_000).serialize(mask=True)
    for _ in range(LATE_MAX // len(frame)):
        wire.data_received(frame)
        assert not line.is_closing()
    wire.data_received(frame)
    assert line.ended == "aborted"
    wire.connection_lost(None)


@pytest.mark.parametrize(("unread", "closing"), [(UNREAD_MAX, None), (UNREAD_MAX + 1, CloseCode.SLOW)])
async def test_more_than_may_wait_for_a_reader_ends_it(unread: int, closing: CloseCode | None) -> None:
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    wire.pause_writing()
    line.unread = unread
    peer.send("a")
    assert (peer.session.closing, line.ended) == (closing, "aborted" if closing else "")
    wire.connection_lost(None)


async def test_who_reads_nothing_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hadir.http.wire.DEAF_S", 0.01)
    line, peer = Line(), Recorder()
    wire = Wire(line, peer, set())
    peer.start(wire)
    wire.pause_writing()
    await eventually(lambda: line.ended == "aborted")
    assert peer.session.closing is CloseCode.SLOW
    wire.connection_lost(None)


@pytest.mark.parametrize(
    "frame",
    [Frame(Opcode.PONG, b""), Frame(Opcode.CONT, b"", fin=False), Frame(Opcode.PING, b"")],
    ids=["pongs", "fragments", "pings"],
)
async def test_frames_without_a_message_are_counted(frame: Frame) -> None:
    peer = Recorder()
    wire = Wire(Line(), peer, set())
    peer.start(wire)
    wire.data_received(Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True))
    for _ in range(40):
        wire.data_received(frame.serialize(mask=True))
    assert peer.session.closing is CloseCode.TOO_FAST
    wire.connection_lost(None)

"""A WebSocket without a task: frames go from the transport to the peer, and from the peer to the transport.

uvicorn makes the handshake; then the connection is handed over to a `Wire`, and nothing of uvicorn's is left of it.
A frame that is nothing but a heartbeat is answered where it arrives. Everything else goes through the parser of the
websockets library, which lives only as long as it has something half done.
"""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import Any

from websockets.frames import Frame, Opcode, apply_mask  # type: ignore[attr-defined]  # in C, where that is there
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from hadir.realtime.messages import MESSAGE_MAX, CloseCode, encode
from hadir.realtime.peer import Peer, utc_now

SLICE = 4 * 1024
"""What is parsed before it is asked again whether the connection still stands."""
LATE_MAX = 32 * 1024
"""Bytes that are still read after our close frame, for the peer's."""
CLOSE_S = 10.0
DEAF_S = 10.0
UNREAD_MAX = 256 * 1024
"""Bytes that may wait for a peer to read; a quarter of that already stops the reading of what it sends."""
INVALID_TEXT = 1007

SHORT_MAX = 125
"""The payload of a frame whose head is one length byte and a mask."""
MASKED = 0x80
FIN_TEXT, FIN_PING, PONG = 0x81, 0x89, 0x8A
BEATS = frozenset({b'{"type":"ping"}', b'{"type": "ping"}'})
BEAT_WITH_ID = re.compile(rb'\{"type": ?"ping", ?"id": ?"([\w.:-]{1,36})"\}', re.ASCII)
"""Heartbeats as encoders of JSON write them, without an id or with a plain one; any other goes the long way."""
BEAT_SIZES = range(len('{"type":"ping"}'), len('{"type": "ping", "id": ""}') + 36 + 1)


def past(head: bytes, left: int, data: bytes) -> tuple[bytes, int]:
    """Where a stream of frames stands behind `data`: what came of a frame's head, and what its payload still lacks.

    `(b"", 0)` is between two frames. `head` and `left` are where it stood before (RFC 6455, 5.2; all frames masked).
    """
    at = 0
    data, left_at = head + data, left
    while True:
        if left_at >= len(data) - at:
            return b"", left_at - (len(data) - at)
        at += left_at
        start = data[at : at + 14]
        length = start[1] & 0x7F if len(start) > 1 else 0
        wide = {126: 2, 127: 8}.get(length, 0)
        size = 2 + wide + (4 if len(start) > 1 and start[1] & MASKED else 0)
        if len(start) < max(2, size):
            return start, 0
        left_at = int.from_bytes(start[2 : 2 + wide]) if wide else length
        at += size


@lru_cache(maxsize=32)
def framed(text: str) -> bytes:
    """A text frame; what goes to many is framed once."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


class _Pongs:
    """The frame that answers a beat: but for the beat's id, the same for all that come within a millisecond."""

    def __init__(self) -> None:
        self._at = 0.0
        self._frame = self._opening = b""

    def frame(self, now: float, beat_id: bytes | None) -> bytes:
        if now - self._at >= 0.001:
            self._at, text = now, encode("pong", server_time=utc_now()).encode()
            self._frame = bytes((FIN_TEXT, len(text))) + text
            self._opening = text[:-1] + b',"re":"'
        if beat_id is None:
            return self._frame
        text = self._opening + beat_id + b'"}'
        return bytes((FIN_TEXT, len(text))) + text


pongs = _Pongs()


class Parsing:
    """The websockets library's parser while a connection has something half done, and where its stream stands."""

    __slots__ = ("conn", "head", "is_text", "left", "parts", "size")

    def __init__(self) -> None:
        self.conn = ServerProtocol(state=OPEN, max_size=MESSAGE_MAX)
        self.head, self.left = b"", 0
        self.parts: list[bytes] = []
        self.is_text = False

    def take(self, data: bytes) -> list[Frame]:
        self.head, self.left = past(self.head, self.left, data)
        self.conn.receive_data(data)
        return self.conn.events_received()  # type: ignore[return-value]

    @property
    def is_idle(self) -> bool:
        """Whether a new one would do as well."""
        return not self.head and not self.left and self.conn.current_size is None and self.conn.state is OPEN


def let_go(conn: ServerProtocol) -> None:
    """Of cycles, which nobody would collect for long: the parser with its frame, an error with its traceback."""
    conn.parser.close()
    conn.parser_exc = None


class Wire(asyncio.Protocol):
    """One connection from its handshake on. As a `Link` it never waits: what cannot be read in time ends as `slow`.

    `connections` are the listener's, which ends them by `shutdown` when it stops.
    """

    __slots__ = ("_closing", "_connections", "_late", "_parsing", "_paused", "_peer", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, peer: Peer, connections: set[Any]) -> None:
        self._transport = transport
        self._peer = peer
        self._connections = connections
        self._parsing: Parsing | None = None
        self._paused = False
        self._closing = False
        """Our close frame is on its way, or the peer's was answered."""
        self._late = 0
        self._timer: asyncio.TimerHandle | None = None
        connections.add(self)
        transport.set_protocol(self)

    # from the transport

    def data_received(self, data: bytes) -> None:
        if self._parsing is None and self._is_beat(data):
            return
        for start in range(0, len(data), SLICE):
            part = data[start : start + SLICE]
            if self._closing:
                self._late += len(part)
                if self._late > LATE_MAX:
                    self._transport.abort()
            if self._transport.is_closing():
                return
            self._parse(part)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._stop_timer()
        self._closing = True
        self._peer.ended(None)
        self._done()

    def eof_received(self) -> bool:
        """The peer sends nothing more, and said no goodbye: that is known now, not once it has read everything."""
        if not self._closing:
            self._closing = True
            self._peer.ended(None)
        self._end()
        return True

    def pause_writing(self) -> None:
        """The peer does not read: it is not read from either, and given up on if that lasts."""
        self._paused = True
        self._transport.pause_reading()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DEAF_S, self._give_up)

    def resume_writing(self) -> None:
        self._paused = False
        self._transport.resume_reading()
        if not self._closing:
            self._stop_timer()
            self._peer.sent()

    def shutdown(self) -> None:
        """The listener stops."""
        self._peer.close(CloseCode.RESTARTING)
        self._transport.close()

    # the link

    @property
    def busy(self) -> bool:
        return self._paused

    def send(self, text: str) -> None:
        if self._closing or (self._parsing is not None and self._parsing.conn.state is not OPEN):
            return  # the parser may have answered a close frame that came with what this answers
        self._transport.write(framed(text))
        if self._paused and self._transport.get_write_buffer_size() > UNREAD_MAX:
            self._give_up()

    def close(self, code: CloseCode) -> None:
        if self._closing:
            return
        self._closing = True
        parsing = self._held()
        if parsing.conn.state is OPEN:  # else the peer's close frame was read with what we close for
            parsing.conn.send_close(code, code.text)
        self._flush(parsing)
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

    # frames

    def _is_beat(self, data: bytes) -> bool:
        """Takes a whole, lone heartbeat: a `ping` message, or a Ping frame."""
        size = len(data) - 6
        if size < 0 or data[1] != MASKED | size or size > SHORT_MAX:
            return False
        if data[0] == FIN_TEXT:
            if size not in BEAT_SIZES:
                return False
            text, beat_id = apply_mask(data[6:], data[2:6]), None
            if text not in BEATS:
                if (beat := BEAT_WITH_ID.fullmatch(text)) is None:
                    return False
                beat_id = beat[1]
            if (now := self._peer.beaten("text")) is not None:
                self._transport.write(pongs.frame(now, beat_id))
            return True
        if data[0] == FIN_PING:
            self._transport.write(bytes((PONG, size)) + apply_mask(data[6:], data[2:6]))
            self._peer.beaten("control")
            return True
        return False

    def _parse(self, data: bytes) -> None:
        parsing = self._held()
        for frame in parsing.take(data):
            self._take(frame, parsing)
        self._flush(parsing)
        if parsing.conn.parser_exc is not None:
            self._closing = True
            self._peer.ended(None)
            self._end()
        elif parsing.is_idle:
            self._done()

    def _held(self) -> Parsing:
        if self._parsing is None:
            self._parsing = Parsing()
        return self._parsing

    def _flush(self, parsing: Parsing) -> None:
        self._transport.write(b"".join(parsing.conn.data_to_send()))

    def _take(self, frame: Frame, parsing: Parsing) -> None:
        match frame.opcode:
            case Opcode.CLOSE:
                self._hung_up(parsing)
            case _ if self._closing:
                pass  # what comes behind the end is no sign of life; the parser still answers a ping (RFC 6455, 5.5.2)
            case Opcode.PING:
                self._flush(parsing)
                self._peer.ping()
            case Opcode.PONG:
                self._peer.frame()
            case _:
                self._take_part(frame, parsing)

    def _take_part(self, frame: Frame, parsing: Parsing) -> None:
        """A message, or a part of one."""
        if frame.opcode is not Opcode.CONT:
            parsing.parts, parsing.is_text = [], frame.opcode is Opcode.TEXT
        parsing.parts.append(bytes(frame.data))
        if not frame.fin:
            self._peer.frame()
            return
        whole, parsing.parts = b"".join(parsing.parts), []
        if not parsing.is_text:
            self._peer.binary()
            return
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            parsing.conn.fail(INVALID_TEXT)
            self._closing = True
            self._flush(parsing)
            self._peer.ended(None)
            self._end()
            return
        self._peer.text(text)

    def _hung_up(self, parsing: Parsing) -> None:
        """The peer's close frame: the first one, which the parser has answered, or the answer to ours."""
        self._flush(parsing)
        if not self._closing:
            self._closing = True
            received = parsing.conn.close_rcvd
            self._peer.ended(received.code if received is not None else None)
        self._end()

    def _end(self) -> None:
        """What was written is still sent, to whoever reads it in time."""
        self._transport.close()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

    def _done(self) -> None:
        if self._parsing is not None:
            let_go(self._parsing.conn)
            self._parsing = None

    def _give_up(self) -> None:
        self._closing = True
        self._peer.close(CloseCode.SLOW)
        self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

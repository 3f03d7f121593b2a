"""The least that Python can do: an asyncio protocol on uvloop that answers pings and knows nobody.

No token is checked, nothing is written to Valkey, no limit holds; what is published goes straight to every socket.
It is what the others are measured against where there is no time for more.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
BODY = b'{"available":1,"online":1}'


def frame(text: bytes) -> bytes:
    size = len(text)
    return (bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")) + text


HELLO, PONG = frame(b'{"type":"hello"}'), frame(b'{"type":"pong"}')
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


TOLD = b"HTTP/1.1 204 No Content\r\n\r\n"
sockets: set[Floor] = set()


class Floor(asyncio.Protocol):
    __slots__ = ("is_open", "transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.is_open = False

    def data_received(self, data: bytes) -> None:
        if self.is_open:
            self.transport.write(PONG)
            return
        if data.startswith(b"POST"):
            event = frame(data.partition(b"\r\n\r\n")[2])
            for each in sockets:
                each.transport.write(event)
            self.transport.write(TOLD)
            return
        _, upgrade, rest = data.partition(b"Sec-WebSocket-Key: ")
        if not upgrade:
            self.transport.write(ANSWER)
            return
        key = rest.partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.transport.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + HELLO)
        self.is_open = True
        sockets.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        sockets.discard(self)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

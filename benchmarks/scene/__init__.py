"""What benchmarks are made of: real stores, instances as processes of their own, mitras on bare asyncio protocols."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import asyncpg

from hadir.config import Config
from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey, dies_with_parent, free_port
from hadir.http.auth import mint

PING = b'{"type":"ping"}'
CONNECTS_PER_S = 400


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder, which the user that PostgreSQL runs as may pass through."""
    with TemporaryDirectory(prefix="hadir-bench-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@asynccontextmanager
async def stores() -> AsyncIterator[tuple[EmbeddedPostgres, EmbeddedValkey]]:
    """New ones, with the schema."""
    with folder() as place:
        async with EmbeddedPostgres(place / "postgres") as postgres, EmbeddedValkey(place / "valkey") as valkey:
            await migrate(postgres.url)
            yield postgres, valkey


@asynccontextmanager
async def serving(
    environment: Mapping[str, str], prepare: Callable[[], None], stderr: int | None = None
) -> AsyncIterator[int]:
    """`hadir serve` as a process of its own, which `prepare` makes ready; its pid. It is killed: its stores go, too."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hadir",
        "serve",
        env={**environment, "PATH": os.environ["PATH"]},
        stderr=stderr,
        preexec_fn=prepare,
    )
    try:
        yield process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def instance(environment: dict[str, str], stack: AsyncExitStack) -> dict[str, str]:
    """A running `hadir serve`, which keeps what it says to itself; answers its environment."""
    own = environment | {"PORT": str(free_port()), "INTERNAL_PORT": str(free_port())}
    await stack.enter_async_context(serving(own, dies_with_parent(), asyncio.subprocess.DEVNULL))
    return own


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame (payload under 126 bytes)."""
    assert len(payload) < 126
    key = secrets.token_bytes(4)
    body = bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + key + body


class Socket(asyncio.Protocol):
    """One mitra: counts what comes back, knows nothing else of the protocol."""

    def __init__(self, handshake: bytes, opened: asyncio.Future[None]) -> None:
        self._handshake, self._opened = handshake, opened
        self._upgraded = False
        self.received = 0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        if not self._opened.done():
            self._upgraded = self._upgraded or data.startswith(b"HTTP/1.1 101")
            if not self._upgraded:
                self._opened.set_exception(ConnectionError(data[:200].decode(errors="replace")))
            elif b'"hello"' in data:
                self._opened.set_result(None)
        self.received += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self._opened.done():
            self._opened.set_exception(exc or ConnectionError("closed"))


S = TypeVar("S", bound=Socket)


async def open_socket(host: str, port: int, token: str, kind: type[S]) -> S:
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    handshake = (
        f"GET /ws/mitra HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()
    _, socket = await loop.create_connection(lambda: kind(handshake.encode(), opened), host, port)
    await opened
    return socket


async def accounts(url: str, config: Config, count: int) -> list[str]:
    ids, sids = [str(uuid.uuid4()) for _ in range(count)], [str(uuid.uuid4()) for _ in range(count)]
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO mitras (id) SELECT unnest($1::uuid[])", ids)
    await connection.execute(
        "INSERT INTO auth_sessions (id, subject_id, role, expires_at) "
        "SELECT s, i, 'mitra', now() + interval '1 day' FROM unnest($1::uuid[], $2::uuid[]) AS t(s, i)",
        sids,
        ids,
    )
    await connection.close()
    return [mint(config, "mitra", sub, sid, 86_400) for sub, sid in zip(ids, sids, strict=True)]


async def beat_for(sockets: list[Socket], interval_s: float, seconds: float) -> int:
    """Every socket beats once an interval, spread evenly, until the time is over; answers how many beats."""
    frame, sent, started = masked(1, PING), 0, time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        due = int(elapsed / interval_s * len(sockets))
        for n in range(sent, due):
            socket = sockets[n % len(sockets)]
            if not socket.lost:
                socket.transport.write(frame)
        sent = due
        await asyncio.sleep(0.005)
    return sent

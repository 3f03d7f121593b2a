"""Sockets that stand and beat on one instance: memory a socket, CPU a beat, errors.

    python -m benchmarks.sockets --sockets 5000 --interval 5 --seconds 60

Starts its own PostgreSQL, Valkey and one `hadir serve`; the load is a bare asyncio protocol, so that the generator
is not the bottleneck. CPU is the server process's user + system time; memory is its resident set.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import secrets
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import TypeVar

import asyncpg
import httpx
import psutil
import uvloop

from hadir.config import Config, load, raise_descriptor_limit
from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey, dies_with_parent, free_port
from hadir.http.auth import mint

PING = b'{"type":"ping"}'
CONNECTS_PER_S = 400


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


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(sockets: int, interval_s: float, seconds: float) -> int:
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="hadir-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedValkey(folder / "valkey") as valkey:
            await migrate(postgres.url)
            port, inner = free_port(), free_port()
            environment = {
                "DATABASE_URL": postgres.url,
                "VALKEY_URL": valkey.url,
                "AUTH_JWT_SECRET": secrets.token_hex(32),
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "INTERNAL_PORT": str(inner),
                "LOG_LEVEL": "warning",
                "MITRA_HEARTBEAT_INTERVAL_SECONDS": str(interval_s),
            }
            config = load(environment)
            tokens = await accounts(postgres.url, config, sockets)
            server = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hadir", "serve", env={**os.environ, **environment}, preexec_fn=dies_with_parent()
            )
            try:
                return await report(psutil.Process(server.pid), port, inner, tokens, interval_s, seconds)
            finally:
                server.terminate()
                await server.wait()


async def report(
    process: psutil.Process, port: int, inner: int, tokens: list[str], interval_s: float, seconds: float
) -> int:
    async with httpx.AsyncClient() as http:
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/ready")).status_code == 200:
                    break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        empty, before, began = process.memory_info().rss, cpu_s(process), time.monotonic()
        sockets: list[Socket] = []
        for start in range(0, len(tokens), CONNECTS_PER_S // 10):
            batch = tokens[start : start + CONNECTS_PER_S // 10]
            due = began + start / CONNECTS_PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sockets += await asyncio.gather(*(open_socket("127.0.0.1", port, token, Socket) for token in batch))
        random.shuffle(sockets)
        connected = cpu_s(process)
        print(f"{len(sockets)} sockets in {time.monotonic() - began:.1f} s")
        print(f"connects per CPU second: {len(sockets) / (connected - before):.0f}")
        await beat_for(sockets, interval_s, interval_s)  # everything is warm once
        first, before, replies = process.memory_info().rss, cpu_s(process), sum(s.received for s in sockets)
        sent = await beat_for(sockets, interval_s, seconds)
        await asyncio.sleep(1)
        spent, last = cpu_s(process) - before, process.memory_info().rss
        answered = sum(s.received for s in sockets) - replies
        print(
            f"RSS per socket: {(first - empty) / len(sockets) / 1024:.1f} KB; after {seconds:g} s {last - first:+d} B"
        )
        print(f"beats: {sent} sent, {answered} answered; CPU per beat: {spent / sent * 1e6:.0f} µs, all work included")
        print(f"lost sockets: {sum(s.lost for s in sockets)}")
        beacon = (await http.get(f"http://127.0.0.1:{port}/api/beacon")).json()
        print(f"beacon: {beacon}")
        text = (await http.get(f"http://127.0.0.1:{inner}/metrics")).text
        closes = Counter(line for line in text.splitlines() if line.startswith("hadir_socket_closes_total"))
        print(f"closes: {list(closes) or 'none'}")
        for socket in sockets:
            socket.transport.abort()
        return 0 if answered == sent and beacon["available"] == len(sockets) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between a socket's beats")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure(asked.sockets, asked.interval, asked.seconds))


if __name__ == "__main__":
    sys.exit(main())

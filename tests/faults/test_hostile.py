"""Clients that are slow, deaf or silent: only they notice (R12)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import signal
import socket
from pathlib import Path

import psutil
import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.http import protocol
from tests.support import eventually
from tests.support.system import Account, Served, System


async def raw_socket(served: Served, account: Account) -> socket.socket:
    """A WebSocket by hand, which reads only when told to."""
    raw = socket.socket()
    try:
        await _shake_hands(raw, served, account)
    except BaseException:
        raw.close()
        raise
    return raw


async def _shake_hands(raw: socket.socket, served: Served, account: Account) -> None:
    loop = asyncio.get_running_loop()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", served.public_port))
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    headers = {
        "Host": "h",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
        **account.bearer,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    await loop.sock_sendall(raw, f"GET /ws/mitra HTTP/1.1\r\n{lines}\r\n".encode())
    received = b""
    while b'"hello"' not in received:
        received += await loop.sock_recv(raw, 4096)


async def flood(raw: socket.socket, frame: bytes) -> None:
    """Sends until the server ends the connection."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            await loop.sock_sendall(raw, frame * 500)
    except (ConnectionError, OSError):
        return


async def test_a_flood_of_pings_by_a_reader_that_does_not_read_is_ended_and_grows_nothing(
    database: str, valkey: EmbeddedValkey, carried: dict[str, str]
) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        mitra = await system.account()
        bystander = await system.phone(served, await system.account())
        raw = await raw_socket(served, mitra)
        before = psutil.Process().memory_info().rss
        ping = bytes((0x89, 0x80 | 125)) + b"\0\0\0\0" + b"x" * 125
        try:
            await asyncio.wait_for(flood(raw, ping), 15)
        finally:
            raw.close()
        assert psutil.Process().memory_info().rss - before < 30_000_000
        await system.becomes(mitra, "suspect")
        assert (await bystander.ask(type="ping"))["type"] == "pong"


async def test_a_deaf_reader_is_slow(database: str, valkey: EmbeddedValkey, carried: dict[str, str]) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance(MITRA_HEARTBEAT_STALE_SECONDS="60")
        mitra = await system.account()
        raw = await raw_socket(served, mitra)
        connection = served.node.registry.of(mitra.id)[0]  # type: ignore[union-attr]
        try:
            while not connection.gone:
                for _ in range(50):
                    connection.send("x" * 8_000)
                await asyncio.sleep(0)
        finally:
            raw.close()
        row = await system.becomes(mitra, "suspect")
        assert row["reason"] == "slow"


async def test_a_handshake_that_does_not_arrive_is_ended(database: str, valkey: EmbeddedValkey) -> None:
    before, protocol.REQUEST_S = protocol.REQUEST_S, 0.5
    try:
        async with System(database, valkey.url) as system:
            served = await system.instance()
            for half in (b"", b"GET /ws/mitra HTTP/1.1\r\nHost:"):
                reader, writer = await asyncio.open_connection("127.0.0.1", served.public_port)
                writer.write(half)
                assert await asyncio.wait_for(_until_end(reader), 5) == b""
                writer.close()
    finally:
        protocol.REQUEST_S = before


async def _until_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_a_client_that_goes_away_in_the_middle_of_its_handshake_leaves_nothing(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra = await system.account()
        await system.sql.execute("BEGIN")
        await system.sql.execute("SELECT FROM mitra_presence WHERE mitra_id = $1 FOR UPDATE", mitra.id)
        raw = asyncio.create_task(raw_socket(served, mitra))
        await eventually(lambda: served.node.registry.of(mitra.id))  # type: ignore[union-attr]
        raw.cancel()
        await asyncio.wait([raw])
        await system.sql.execute("COMMIT")
        await eventually(lambda: not served.node.registry.of(mitra.id))  # type: ignore[union-attr]
        await served.node.transitions.join()  # type: ignore[union-attr]
        row = await system.row(mitra)
        assert row["instance_id"] is None
        assert row["state"] in ("suspect", "offline")


async def test_connections_that_say_nothing_are_limited_and_take_nobodys_place(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        process = await system.process(prefix=("prlimit", "--nofile=250"))
        opened = [await asyncio.open_connection("127.0.0.1", process.served.public_port) for _ in range(300)]
        try:
            ends = [asyncio.create_task(reader.read()) for reader, _ in opened]
            ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=5)
            assert b'"code":"full"' in ended.pop().result()
            await system.phone(process.served, await system.account())
        finally:
            for _, writer in opened:
                writer.transport.abort()
            await asyncio.wait(ends)


@pytest.mark.parametrize("listener", ["public_port", "internal_port"])
async def test_a_head_without_end_is_refused(database: str, valkey: EmbeddedValkey, listener: str) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        reader, writer = await asyncio.open_connection("127.0.0.1", getattr(served, listener))
        writer.write(b"GET /api/beacon HTTP/1.1\r\nHost: h\r\nX-A: ")
        writer.write(b"a" * 20_000)
        answer = await asyncio.wait_for(_until_end(reader), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert b'"code":"too_large"' in answer
        assert (await system.http.get(f"{served.url}/health", headers={"X-A": "a" * 10_000})).status_code == 200


async def test_a_body_without_end_is_ended(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.public_port)
        writer.write(b"GET /api/beacon HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: ")
        answer = asyncio.create_task(_until_end(reader))
        with contextlib.suppress(OSError):
            for _ in range(30):
                writer.write(b"a" * 60_000)
                await writer.drain()
        assert await asyncio.wait_for(answer, 5) is not None
        writer.close()


async def test_what_is_not_http_gets_a_problem_document(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.public_port)
        writer.write(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        answer = await asyncio.wait_for(_until_end(reader), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"content-type: application/problem+json" in answer


@pytest.mark.parametrize(
    ("first", "frame"),
    [(b"", b"\x8a\x80\0\0\0\0"), (b"\x01\x80\0\0\0\0", b"\x00\x80\0\0\0\0")],
    ids=["pongs", "empty fragments"],
)
async def test_a_flood_of_frames_that_make_no_message_is_ended(
    database: str, valkey: EmbeddedValkey, carried: dict[str, str], first: bytes, frame: bytes
) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        mitra = await system.account()
        raw = await raw_socket(served, mitra)
        try:
            await asyncio.get_running_loop().sock_sendall(raw, first)
            await asyncio.wait_for(flood(raw, frame), 10)
        finally:
            raw.close()
        row = await system.becomes(mitra, "suspect")
        assert row["reason"] == "too_fast"


async def test_whoever_leaves_in_the_middle_of_a_request_is_no_defect_of_ours(
    database: str, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    log = tmp_path / "instance.log"
    async with System(database, valkey.url) as system:
        process = await system.process(log)
        customer = await system.account("customer")
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", process.served.public_port)
            head = (
                f"POST /api/pairings HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {customer.token}\r\n"
                "Idempotency-Key: one\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            )
            writer.write(head.encode() + b'{"note":')
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert (await system.http.get(f"{process.served.url}/health")).status_code == 200
        process.signal(signal.SIGTERM)
        assert await process.stopped() == 0  # every request has had its end by now
    assert "http.crashed" not in log.read_text()

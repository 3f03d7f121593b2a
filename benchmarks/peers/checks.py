"""Speaks to a peer that runs: what it is measured at, it must do."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import httpx
import jwt
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from benchmarks.peers.catalogue import Peer
from benchmarks.peers.programs import publish
from hadir.dev.embedded import free_port

MITRAS = 3
WITHIN_S = 5.0
MIRRORED_S = 1.0
BURST = 20


async def check(peer: Peer, valkey_url: str, secret: str) -> Sequence[str]:
    """Starts it and answers what was seen of it. Raises `AssertionError` with what it does not do."""
    port = free_port()
    async with Redis.from_url(valkey_url, decode_responses=True) as valkey:
        async with peer.serve(port, valkey_url, secret, None):
            if "beacon" in peer.does:
                return await _beacon(port, peer, valkey)
            seen = await _refusals(port, peer, secret) if "sockets" in peer.does else []
            ids = [str(uuid.uuid4()) for _ in range(MITRAS)]
            async with AsyncExitStack() as stack:
                sockets = [await stack.enter_async_context(_mitra(port, peer, secret, one)) for one in ids]
                if "sockets" in peer.does:
                    seen += await _beats(sockets, ids, peer, valkey)
                seen += await _fanout(sockets, port)
                if "sockets" in peer.does:
                    seen += await _budget(sockets[0], peer)
                return seen


def token(secret: str, mitra_id: str, **other: object) -> str:
    now = int(time.time())
    claims = {"sub": mitra_id, "role": "mitra", "sid": str(uuid.uuid4()), "iat": now, "exp": now + 600}
    return jwt.encode(claims | other, secret, algorithm="HS256")


@asynccontextmanager
async def _open(port: int, peer: Peer, bearer: str) -> AsyncIterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {bearer}"} if "sockets" in peer.does else {}
    url = f"ws://127.0.0.1:{port}{peer.dialect.path}"
    async with connect(
        url, additional_headers=headers, compression=None, close_timeout=1, ping_interval=None
    ) as socket:
        assert not socket.protocol.extensions, f"no compression, as ours; {socket.protocol.extensions} was agreed on"
        yield socket


@asynccontextmanager
async def _mitra(port: int, peer: Peer, secret: str, mitra_id: str) -> AsyncIterator[ClientConnection]:
    """A socket that was greeted."""
    async with _open(port, peer, token(secret, mitra_id)) as socket:
        if peer.dialect.opening:
            await socket.send(peer.dialect.opening)
        if peer.dialect.greeting:
            await _hears(socket, peer.dialect.greeting)
        yield socket


async def _hears(socket: ClientConnection, text: str) -> str:
    """The next frame that contains the text."""
    async with asyncio.timeout(WITHIN_S):
        while text not in (frame := str(await socket.recv())):
            pass
    return frame


async def _refusals(port: int, peer: Peer, secret: str) -> list[str]:
    mitra_id = str(uuid.uuid4())
    wrong = {
        "another secret": token("x" * 64, mitra_id),
        "an expired token": token(secret, mitra_id, exp=int(time.time()) - 60),
        "another role": token(secret, mitra_id, role="customer"),
        "no token": "",
    }
    for why, bearer in wrong.items():
        try:
            async with _open(port, peer, bearer):
                raise AssertionError(f"{why} was let in")
        except InvalidStatus as refusal:
            status = refusal.response.status_code
        assert 400 <= status < 500, f"{why} was answered by {status}"
    return [f"refuses {', '.join(wrong)}"]


async def _beats(sockets: Sequence[ClientConnection], ids: Sequence[str], peer: Peer, valkey: Redis) -> list[str]:
    keys = [f"mitra:heartbeat:{mitra_id}" for mitra_id in ids]
    assert not await valkey.exists(*keys), "nobody has beaten yet"
    for socket in sockets:
        await socket.send(peer.dialect.beat)
    answers = [await _hears(socket, peer.dialect.pong) for socket in sockets]
    assert all("server_time" in answer for answer in answers), answers
    answered = time.monotonic()
    while await valkey.exists(*keys) < len(keys):
        assert time.monotonic() - answered < MIRRORED_S, "the beats are not in Valkey after a second"
        await asyncio.sleep(0.01)
    mirrored = time.monotonic() - answered
    for key in keys:
        beaten = datetime.fromisoformat(str(await valkey.get(key)).replace("Z", "+00:00"))
        assert abs((datetime.now(UTC) - beaten).total_seconds()) < WITHIN_S, f"{key} says {beaten}"
        assert 0 < await valkey.ttl(key) <= 60, f"{key} must expire"
    return [f"greets, answers beats, which are in Valkey {mirrored * 1000:.0f} ms later"]


async def _fanout(sockets: Sequence[ClientConnection], port: int) -> list[str]:
    """Told again until all have heard: who has no greeting cannot know when it may be told."""
    mark = uuid.uuid4().hex
    event = json.dumps({"type": "config.updated", "mark": mark}).encode()
    hearing = asyncio.gather(*(_hears(socket, mark) for socket in sockets))
    told = 0
    while not hearing.done():
        await publish(port, event)
        told += 1
        await asyncio.wait([hearing], timeout=0.5)
    await hearing
    return [f"tells all sockets ({told} published)"]


async def _budget(socket: ClientConnection, peer: Peer) -> list[str]:
    for _ in range(BURST + 5):
        await socket.send(peer.dialect.beat)
    await _hears(socket, "too_fast")
    return ["bounds frames"]


async def _beacon(port: int, peer: Peer, valkey: Redis) -> list[str]:
    """Of four online: one has no beat, one has no capacity, one is deactivated."""
    free, silent, busy, out = (str(uuid.uuid4()) for _ in range(4))
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    await valkey.delete("mitras:online", "mitras:deactivated", "availability:snapshot")
    await valkey.sadd("mitras:online", free, silent, busy, out)
    await valkey.sadd("mitras:deactivated", out)
    await valkey.mset({f"mitra:heartbeat:{one}": now for one in (free, busy, out)} | {f"mitra:capacity:{busy}": 1})
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        first = await client.get(peer.dialect.path)
        assert first.status_code == 200, first
        assert (first.json()["available"], first.json()["online"]) == (1, 4), first.text
        await valkey.delete("mitras:online")
        again = await client.get(peer.dialect.path)
        assert again.text == first.text, "kept for ten seconds"
        assert 0 < await valkey.ttl("availability:snapshot") <= 10, "shared with other processes"
        unchanged = await client.get(peer.dialect.path, headers={"If-None-Match": first.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b""), unchanged
    return ["counts who is available, keeps the answer, answers 304"]

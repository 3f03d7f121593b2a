"""What every peer in Python does for a mitra's socket, whatever library carries it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

import jwt

CLAIMS = ["sub", "role", "sid", "exp", "iat"]
LEEWAY_S = 10
FRAMES_PER_S, FRAMES_BURST = 5.0, 20.0
STALE_S = 60
FLUSH_S = 0.2
CHUNK = 1000
"""Beats in one call: some 2 ms of Valkey."""


class Mitra:
    """The state of one socket: what Hadir keeps of it too."""

    __slots__ = ("connection_id", "frames_at", "frames_left", "last_beat", "mitra_id", "session_id", "token_ends")

    def __init__(self, claims: dict[str, Any]) -> None:
        now = time.monotonic()
        self.mitra_id: str = claims["sub"]
        self.session_id: str = claims["sid"]
        self.connection_id = str(uuid.uuid4())
        self.token_ends = now + claims["exp"] - time.time()
        self.last_beat = self.frames_at = now
        self.frames_left = FRAMES_BURST

    def beats(self) -> bool:
        """Takes one frame from the budget; whether there was one left."""
        now = time.monotonic()
        self.frames_left = min(FRAMES_BURST, self.frames_left + (now - self.frames_at) * FRAMES_PER_S) - 1.0
        self.frames_at = now
        if self.frames_left < 0.0:
            self.frames_left = 0.0
            return False
        self.last_beat = now
        return True

    def hello(self) -> dict[str, object]:
        return {
            "type": "hello",
            "connection_id": self.connection_id,
            "heartbeat_interval_s": 20,
            "stale_after_s": STALE_S,
            "reconnect_window_s": 7.5,
            "server_time": utc_now(),
            "token_ttl_s": round(self.token_ends - time.monotonic()),
            "limits": {"frame_bytes": 16_384, "frames_per_s": FRAMES_PER_S, "frames_burst": FRAMES_BURST},
            "state": {"online": True, "pending": False, "offers": [], "sessions": [], "config": {}},
        }


def pong() -> dict[str, object]:
    return {"type": "pong", "server_time": utc_now()}


TOO_FAST: dict[str, object] = {
    "type": "error",
    "code": "too_fast",
    "message": "At most 5 frames a second, 20 at once, are allowed.",
}


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def heartbeat_key(mitra_id: str) -> str:
    return f"mitra:heartbeat:{mitra_id}"


def verified(headers: Iterable[tuple[bytes, bytes]], secret: str) -> Mitra | None:
    """Whose handshake this is; None for a bad token or none."""
    bearer = next((value for name, value in headers if name == b"authorization"), b"").decode("latin-1")
    scheme, _, token = bearer.partition(" ")
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"], leeway=LEEWAY_S, options={"require": CLAIMS})
    except jwt.PyJWTError:
        return None
    return Mitra(claims) if scheme.lower() == "bearer" and claims["role"] == "mitra" else None


class Commands(Protocol):
    """What the beats need of redis-py."""

    async def execute_command(self, *words: Any) -> Any: ...


class Beats:
    """Write-behind, as ours is: the beats of 200 ms go to Valkey in one command a thousand of them."""

    def __init__(self, valkey: Commands) -> None:
        self._valkey = valkey
        self._beaten: set[str] = set()
        self._flushing: asyncio.Task[None] | None = None

    def add(self, mitra_id: str) -> None:
        self._beaten.add(mitra_id)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        """Until nobody beats any more. Valkey's errors end the peer: it is measured, not run."""
        while self._beaten:
            await asyncio.sleep(FLUSH_S)
            ids, self._beaten = list(self._beaten), set()
            now = utc_now()
            for start in range(0, len(ids), CHUNK):
                part = ids[start : start + CHUNK]
                words = [word for mitra_id in part for word in (heartbeat_key(mitra_id), now)]
                await self._valkey.execute_command("MSETEX", len(part), *words, "EX", STALE_S)
        self._flushing = None

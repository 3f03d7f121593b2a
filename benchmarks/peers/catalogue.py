"""Every peer: what it does, how it is spoken to, how it is started."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions, version
from pathlib import Path

from benchmarks.load import HADIR, SOCKET_IO, Dialect
from benchmarks.peers import nchan, programs

FOLDER = Path(__file__).parent
MODULES = FOLDER / "node_modules"
VENV = FOLDER.parents[1] / ".venv" / "peers"
SOCKETS = frozenset({"sockets", "fanout"})
ABSENT = "{} is not installed: `make peers` brings it."


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    does: frozenset[str]
    """Of sockets, fanout and beacon: what it can be measured at."""
    dialect: Dialect
    serve: Callable[[int, str, str, int | None], AbstractAsyncContextManager[list[int]]]
    """(port, valkey_url, secret, core): it listens on the port of 127.0.0.1, on that core alone, until the block ends.

    Yields the processes whose CPU and memory are the peer's.
    """
    versions: Callable[[], str]
    missing: Callable[[], str | None]
    """One sentence: why it cannot run here; None when it can."""


def _on_node(name: str, program: str, does: frozenset[str], dialect: Dialect, *packages: str) -> Peer:
    def missing() -> str | None:
        if shutil.which("node") is None:
            return "Node is not installed."
        absent = [package for package in packages if not (MODULES / package / "package.json").is_file()]
        return ABSENT.format(f"npm's {absent[0]}") if absent else None

    def versions() -> str:
        return ", ".join([programs.said("node", "--version").replace("v", "Node ", 1), *map(_of_npm, packages)])

    command = ("node", str(FOLDER / "node" / program))
    return Peer(name, does, dialect, partial(programs.serve, command), versions, missing)


def _of_npm(package: str) -> str:
    return f"{package} {programs.version_of(MODULES / package / 'package.json')}"


def _in_python(name: str, module: str, dialect: Dialect, python: Path, *packages: str) -> Peer:
    def installed() -> dict[str, str]:
        paths = [str(path) for path in python.parents[1].glob("lib/python*/site-packages")]
        return {found.name.lower().replace("_", "-"): found.version for found in distributions(path=paths)}

    def missing() -> str | None:
        absent = [package for package in packages if package not in installed()]
        return ABSENT.format(f"Python's {absent[0]}") if absent else None

    def versions() -> str:
        found = installed()
        return ", ".join([f"Python {sys.version.split()[0]}", *(f"{package} {found[package]}" for package in packages)])

    command = (str(python), "-m", f"asgi.{module}")
    return Peer(name, SOCKETS, dialect, partial(programs.serve, command), versions, missing)


_OURS, _THEIRS = Path(sys.executable), VENV / "bin" / "python"

FLOOR = Peer(
    "bare asyncio protocol",
    SOCKETS | {"beacon"},
    HADIR,
    partial(programs.serve, (str(_OURS), "-m", "floor")),
    lambda: f"Python {sys.version.split()[0]}, uvloop {version('uvloop')}",
    lambda: None,
)
"""What nobody in Python can be faster than; no peer, since it does not do the work."""
PEERS: Sequence[Peer] = (
    _in_python("Starlette, a SET per ping", "plain", HADIR, _OURS, "starlette", "uvicorn", "uvloop", "redis"),
    _on_node("Node ws + ioredis", "ws.mjs", SOCKETS, HADIR, "ws", "ioredis", "fast-jwt"),
    _on_node("Socket.IO", "socketio.mjs", SOCKETS, SOCKET_IO, "socket.io", "@socket.io/redis-adapter", "ioredis"),
    _in_python("python-socketio", "with_socketio", SOCKET_IO, _THEIRS, "python-socketio", "uvicorn", "uvloop", "redis"),
    _in_python("Channels + Daphne", "with_channels", HADIR, _THEIRS, "channels", "channels-redis", "daphne", "uvloop"),
    Peer("nchan", frozenset({"fanout"}), Dialect("/ws/mitra", greeting=""), nchan.serve, nchan.versions, nchan.missing),
    _on_node("Fastify", "fastify.mjs", frozenset({"beacon"}), Dialect("/api/beacon"), "fastify", "ioredis"),
)

"""Servers that do the same work with the libraries that their users use: small, honest, and without Postgres."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent
MODULES = FOLDER / "node_modules"


@dataclass(frozen=True, slots=True)
class Peer:
    """`command` is followed by port, Valkey's URL and the tokens' secret; `packages` are the libraries it stands on."""

    name: str
    command: tuple[str, ...]
    packages: tuple[str, ...]
    does: frozenset[str]
    """`sockets`, `beacon`, or both."""
    records: bool = True
    """Whether beats reach Valkey."""

    @property
    def is_node(self) -> bool:
        return self.command[0] == "node"

    def missing(self) -> str | None:
        """Why it cannot run here."""
        absent = [each for each in self.packages if self.is_node and not (MODULES / each).is_dir()]
        return f"{', '.join(absent)}: not installed; `make peers` does." if absent else None

    def versions(self) -> str:
        if not self.is_node:
            return ", ".join(f"{each} {version(each)}" for each in self.packages)
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        found = {each: json.loads((MODULES / each / "package.json").read_text())["version"] for each in self.packages}
        return ", ".join([f"Node {node}", *(f"{each} {number}" for each, number in found.items())])


SOCKETS, BEACON = frozenset({"sockets"}), frozenset({"beacon"})
FLOOR = Peer(
    "bare asyncio protocol",
    (sys.executable, "-m", "benchmarks.peers.floor"),
    ("uvloop",),
    SOCKETS | BEACON,
    records=False,
)
PEERS = (
    Peer(
        "Starlette, a SET per ping",
        (sys.executable, "-m", "benchmarks.peers.plain"),
        ("starlette", "uvicorn", "websockets", "redis"),
        SOCKETS,
    ),
    Peer("Node ws + ioredis", ("node", str(FOLDER / "ws.js")), ("ws", "ioredis", "jsonwebtoken"), SOCKETS),
    Peer("Fastify, the ancestor's count", ("node", str(FOLDER / "fastify.js")), ("fastify", "ioredis"), BEACON),
    FLOOR,
)

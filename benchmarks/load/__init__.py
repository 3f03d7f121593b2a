"""The load generator `load.c`, built when it is first wanted, and the words in which it speaks to a server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.document import ROOT
from hadir.dev.embedded import dies_with_parent

SOURCE = Path(__file__).parent / "load.c"
BINARY = ROOT / ".data" / "load"
ANSWER_S = 300.0


def build() -> Path:
    """The binary, compiled where the source is newer. Raises `CalledProcessError`, `FileNotFoundError` (no `cc`)."""
    if not BINARY.exists() or BINARY.stat().st_mtime < SOURCE.stat().st_mtime:
        BINARY.parent.mkdir(exist_ok=True)
        made = BINARY.with_name(f"load-{os.getpid()}")  # several processes may build at once
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", made, SOURCE], check=True)
        made.replace(BINARY)
    return BINARY


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs from one library to the next."""

    path: str
    opening: str = ""
    """A text frame that the client sends after the 101, before the greeting comes."""
    greeting: str = '"hello"'
    """What the first frame that means "you are in" contains; empty: there is none."""
    beat: str = '{"type":"ping"}'
    pong: str = '"pong"'
    """What the answer to a beat contains."""


HADIR = Dialect("/ws/mitra")
SOCKET_IO = Dialect(
    "/socket.io/?EIO=4&transport=websocket", opening="40", greeting='42["hello"', beat='420["ping"]', pong="430["
)


class Load:
    """WebSockets of one server, as `load.c` describes; `async with`."""

    def __init__(self, port: int, tokens: Path, dialect: Dialect = HADIR) -> None:
        self._words = ("ws", str(port), dialect.path, str(tokens))
        self._dialect = dialect

    async def __aenter__(self) -> Self:
        self._process = await _started(self._words, stdin=asyncio.subprocess.PIPE)
        speaks = self._dialect
        for word, text in (
            ("opening", speaks.opening),
            ("said", speaks.greeting),
            ("ping", speaks.beat),
            ("pong", speaks.pong),
        ):
            await self(f"{word} {text}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def __call__(self, command: str) -> dict[str, Any]:
        """What came of a command. Raises `RuntimeError` with the generator's sentence."""
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        return await _answer(self._process, command)


async def http(port: int, path: str, connections: int, seconds: float, header: str = "") -> dict[str, Any]:
    """Requests over connections that are kept, each with one after the other. Raises `RuntimeError`."""
    words = ("http", str(port), path, str(connections), str(seconds), header)
    process = await _started(words)
    answer = await _answer(process, " ".join(words))
    await process.wait()
    return answer


async def _started(words: Sequence[str], stdin: int | None = None) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        BINARY, *words, stdin=stdin, stdout=pipe, stderr=pipe, preexec_fn=dies_with_parent()
    )


async def _answer(process: asyncio.subprocess.Process, asked: str) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stdout.readline(), ANSWER_S)
    if not line:
        why = (await process.stderr.read()).decode().strip()
        raise RuntimeError(f"{asked}: {why or 'the load generator ended'}")
    return dict(json.loads(line))

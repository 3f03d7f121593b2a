"""A peer's process: started on its core, waited for, ended."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hadir.config import raise_descriptor_limit
from hadir.dev.embedded import dies_with_parent
from hadir.errors import HadirError

FOLDER = Path(__file__).parent
READY_S = 30.0


class PeerFailed(HadirError):
    """A peer did not start; the text carries the end of what it said."""


@asynccontextmanager
async def serve(
    command: Sequence[str], port: int, valkey_url: str, secret: str, core: int | None
) -> AsyncIterator[list[int]]:
    """`command PORT VALKEY_URL SECRET`, listening."""
    async with running([*command, str(port), valkey_url, secret], port, core) as pid:
        yield [pid]


@asynccontextmanager
async def running(command: Sequence[str], port: int, core: int | None) -> AsyncIterator[int]:
    """A process that listens on the port, from the folder of the peers; what it says is kept for its failure.

    It is killed in the end: to part from thousands of sockets in good order would take it long.
    """
    raise_descriptor_limit()  # it inherits ours
    tie = dies_with_parent()

    def prepare() -> None:
        tie()
        if core is not None:  # before it starts threads of its own
            os.sched_setaffinity(0, {core})

    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=prepare
        )
        try:
            await _listening(process, port, command[0])
            yield process.pid
        except PeerFailed as failure:
            said.seek(0)
            raise PeerFailed(f"{failure} {said.read()[-800:].decode(errors='replace')}") from None
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _listening(process: asyncio.subprocess.Process, port: int, name: str) -> None:
    try:
        async with asyncio.timeout(READY_S):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return
    except TimeoutError:
        raise PeerFailed(f"{name} does not listen on port {port} after {READY_S:g} s.") from None
    raise PeerFailed(f"{name} ended with {process.returncode} before it listened on port {port}.")


async def publish(port: int, event: bytes) -> None:
    """Lets the peer on this port tell all its sockets; `event` is a JSON object. Returns when it has said yes.

    What Hadir's `PUT /api/internal/config/{key}` is to Hadir: a request, then Valkey, then every socket.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /publish HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(event)}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + event)
        status = (await reader.readline()).decode("latin-1")
        if status.split()[1:2] not in (["200"], ["201"], ["202"], ["204"]):
            raise ConnectionError(f"The peer refused what was to be published: {status.strip()!r}.")
    finally:
        writer.close()


def said(*command: str) -> str:
    """What a command prints, on either stream."""
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return run.stdout.strip()


def version_of(manifest: Path) -> str:
    """The version that a package.json states."""
    return str(json.loads(manifest.read_text())["version"])

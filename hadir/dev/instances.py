"""Instances of Hadir as processes of their own, for `hadir dev`."""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import hadir
from hadir.dev.embedded import dies_with_parent
from hadir.errors import HadirError

HOST = "127.0.0.1"
READY_S = 15.0
STOP_SLACK_S = 10.0
POLL_S = 0.05
TAIL_LINES = 15
PACKAGE_ROOT = Path(hadir.__file__).parent.parent


class InstanceFailed(HadirError):
    """An instance ended, or did not become ready; the text carries the end of its log."""


def check_ports(ports: Sequence[int]) -> None:
    """Raises `HadirError` naming the ports that somebody else listens on."""
    taken = [str(port) for port in ports if _is_taken(port)]
    if len(taken) == 1:
        raise HadirError(f"Port {taken[0]} is taken; choose another with --port.")
    if taken:
        raise HadirError(f"The ports {', '.join(taken)} are taken; choose others with --port.")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


class Instance:
    """`hadir serve` with its public listener at `port` and its internal one at `port + 1`.

    Entering the block starts it, `ready` waits for it, leaving the block drains and ends it.
    """

    def __init__(self, name: str, port: int, environment: Mapping[str, str], log: Path, *, drain_s: float) -> None:
        self.name = name
        self.url = f"http://{HOST}:{port}"
        self.internal_url = f"http://{HOST}:{port + 1}"
        self._port = port
        self._log = log
        self._stop_s = drain_s + STOP_SLACK_S
        self._environment = {
            **environment,
            "HADIR_INSTANCE_ID": name,
            "HOST": HOST,
            "PORT": str(port),
            "INTERNAL_HOST": HOST,
            "INTERNAL_PORT": str(port + 1),
            "LOG_FORMAT": "text",
            "LOG_LEVEL": "warning",
            "PYTHONPATH": str(PACKAGE_ROOT),
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C on the terminal is for the parent, which ends everything in order.
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it forks in milliseconds, from this very thread
                [sys.executable, "-m", "hadir", "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_parent(),
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (process := self._process) is None:
            return
        try:
            await self._end(process)
        finally:
            process.kill()
            process.wait()

    async def ready(self) -> None:
        """Waits until it can take connections. Raises `InstanceFailed`."""
        deadline = time.monotonic() + READY_S
        while not await asyncio.to_thread(self._is_ready):
            if not self.alive:
                raise InstanceFailed(self.obituary())
            if time.monotonic() > deadline:
                raise InstanceFailed(f"{self.name} was not ready within {READY_S:g} s.{self._tail()}")
            await asyncio.sleep(POLL_S)

    async def died(self) -> None:
        """Waits until the process has ended."""
        while self.alive:
            await asyncio.sleep(POLL_S)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise InstanceFailed(f"{self.name} was not started.")
        return self._process.pid

    def obituary(self) -> str:
        """How the process ended, and its last words."""
        code = None if self._process is None else self._process.returncode
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        return f"{self.name} ended {how}.{self._tail()}"

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        deadline = time.monotonic() + self._stop_s
        while process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=1)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        if not lines:
            return " It logged nothing."
        return " The end of its log:\n" + "\n".join(f"    {line}" for line in lines)

"""A TCP relay between any two parties that can be told to fail as networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from types import TracebackType
from typing import Self

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of nothing: closing then sends RST, whatever was still to be sent."""


class Proxy:
    """Relays loopback connections to `port`. `async with` opens it; `heal` ends every fault but those of the dead.

    What goes through it is delivered in order and whole, or, while `blackhole` lasts, kept: as TCP does that resends.
    An end of one side is passed on to the other; under `blackhole` and `half_open` it is not, as when no FIN arrives.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self._links: set[_Link] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for link in list(self._links):
            link.reset()
        self.heal()  # those that a blackhole has kept waiting find out
        await asyncio.gather(*(link.ended.wait() for link in list(self._links)))
        await self._server.wait_closed()

    def __len__(self) -> int:
        """Connections that stand."""
        return len(self._links)

    def reset(self) -> None:
        """Every connection is reset, on both sides; new ones pass."""
        for link in list(self._links):
            link.reset()

    def cut(self) -> None:
        """Every connection is reset, and new ones are, until `heal`."""
        self._refuses = True
        self.reset()

    def blackhole(self) -> None:
        """Nothing passes, not even an end; new connections are taken and hear nothing. Until `heal`."""
        self._flows.clear()

    def half_open(self) -> None:
        """The far side is reset; the near side is told nothing, and may talk on to nobody. New connections pass."""
        for link in list(self._links):
            link.half_open()

    def delay(self, seconds: float) -> None:
        """Everything arrives so much later, each way."""
        self.delay_s = seconds

    def throttle(self, bytes_per_s: float) -> None:
        """No connection carries more than that, each way."""
        self.bytes_per_s = bytes_per_s

    def retarget(self, port: int) -> None:
        """New connections go to another server, as after a failover; those that stand are reset."""
        self.target = port
        self.reset()

    def heal(self) -> None:
        self._refuses, self.delay_s, self.bytes_per_s = False, 0.0, None
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        if self._refuses:
            link.reset()
            return
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def flows(self) -> None:
        await self._flows.wait()


class _Link:
    """One connection: the near side came to us, the far side is where it goes."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._near = (reader, writer)
        self._far: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._orphaned = False
        self._done = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        try:
            await self._proxy.flows()
            if self._done.is_set():
                return
            try:
                self._far = await asyncio.open_connection("127.0.0.1", self._proxy.target, limit=CHUNK)
            except OSError:
                return
            async with asyncio.TaskGroup() as tasks:
                pumps = [tasks.create_task(self._pump(*way)) for way in self._ways()]
                await self._done.wait()
                for pump in pumps:
                    pump.cancel()
        finally:
            self._close()
            self.ended.set()

    def _ways(self) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        assert self._far is not None
        return [(self._near[0], self._far[1]), (self._far[0], self._near[1])]

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        proxy = self._proxy
        try:
            while data := await source.read(CHUNK if proxy.bytes_per_s is None else 1024):
                arrived = time.monotonic()
                await proxy.flows()
                late_s = proxy.delay_s + (len(data) / proxy.bytes_per_s if proxy.bytes_per_s else 0.0)
                await asyncio.sleep(max(0.0, arrived + late_s - time.monotonic()))
                if self._orphaned:
                    continue  # nobody is there any more; it is only not said
                sink.write(data)
                await sink.drain()
        except (OSError, RuntimeError):
            pass  # a reset is an end, too; RuntimeError is uvloop's word for a write to what has just been reset
        await proxy.flows()
        if self._orphaned and source is not self._near[0]:
            return  # the near side hears nothing of it
        self._done.set()

    def reset(self) -> None:
        """RST to both sides."""
        for _, writer in filter(None, (self._near, self._far)):
            _reset(writer)
        self._done.set()

    def half_open(self) -> None:
        self._orphaned = True
        if self._far is not None:
            _reset(self._far[1])

    def _close(self) -> None:
        for _, writer in filter(None, (self._near, self._far)):
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    if found is not None and not writer.transport.is_closing():
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()

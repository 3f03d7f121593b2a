"""The proxy fails as it is told to, and only so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import Proxy
from tests.support import eventually


class Peer:
    """A connection through the proxy to a server that echoes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def echo(self, text: bytes) -> bytes:
        self._writer.write(text)
        await self._writer.drain()
        async with asyncio.timeout(5):
            return await self._reader.readexactly(len(text))

    async def end(self) -> str:
        """How it ends: `fin` or `reset`."""
        try:
            async with asyncio.timeout(5):
                while await self._reader.read(100):
                    pass
        except ConnectionResetError:
            return "reset"
        return "fin"

    def say(self, text: bytes) -> None:
        self._writer.write(text)

    def hears_nothing(self) -> bool:
        return not self._reader.at_eof() and not self._reader._buffer  # type: ignore[attr-defined]


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Proxy, list[asyncio.StreamWriter]]]:
    """A proxy to a server that echoes, and that server's connections."""
    taken: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
            yield proxy, taken
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def joined(proxy: Proxy) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


async def test_it_relays_whole_and_in_order_and_passes_an_end_on() -> None:
    text = bytes(range(256)) * 4096
    async with echoing() as (proxy, taken), joined(proxy) as peer:
        assert await peer.echo(text) == text
        taken[0].close()
        assert await peer.end() == "fin"
        await eventually(lambda: len(proxy) == 0)


async def test_a_reset_reaches_both_sides_and_new_connections_pass() -> None:
    async with echoing() as (proxy, taken), joined(proxy) as peer:
        await peer.echo(b"1")
        proxy.reset()
        assert await peer.end() == "reset"
        await eventually(lambda: taken[0].transport.is_closing())
        async with joined(proxy) as another:
            assert await another.echo(b"2") == b"2"


async def test_a_cut_lasts_until_it_is_healed() -> None:
    async with echoing() as (proxy, _), joined(proxy) as peer:
        await peer.echo(b"1")
        proxy.cut()
        assert await peer.end() == "reset"
        async with joined(proxy) as refused:
            assert await refused.end() == "reset"
        proxy.heal()
        async with joined(proxy) as another:
            assert await another.echo(b"2") == b"2"


async def test_a_black_hole_loses_no_byte_and_says_no_end() -> None:
    async with echoing() as (proxy, taken), joined(proxy) as peer, joined(proxy) as other:
        await peer.echo(b"1")
        await other.echo(b"1")
        proxy.blackhole()
        peer.say(b"2")
        taken[1].transport.abort()
        async with joined(proxy) as late:
            late.say(b"3")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await asyncio.gather(peer.echo(b""), other.end())
            assert peer.hears_nothing()
            assert late.hears_nothing()
            proxy.heal()
            assert await late.echo(b"") == b""
            assert await other.end() in ("fin", "reset")
        assert await peer.echo(b"") == b""


async def test_it_can_be_closed_while_a_black_hole_keeps_connections_waiting() -> None:
    async with echoing() as (proxy, _), joined(proxy) as peer:
        await peer.echo(b"1")
        proxy.blackhole()
        try:
            async with joined(proxy), asyncio.timeout(10):
                await eventually(lambda: len(proxy) == 2)
                await proxy.__aexit__(None, None, None)
                assert len(proxy) == 0
        finally:
            proxy.heal()  # so that one that cannot be closed ends this test, too


async def test_a_half_open_connection_is_told_nothing() -> None:
    async with echoing() as (proxy, taken), joined(proxy) as peer:
        await peer.echo(b"1")
        proxy.half_open()
        await eventually(lambda: taken[0].transport.is_closing())
        peer.say(b"into nothing")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await peer.end()


TIMERS_S = 0.01
"""The loop's timers count whole milliseconds, from a time that it looked up before: each may be early by one or two."""


async def test_what_is_delayed_or_throttled_comes_later_and_whole() -> None:
    async with echoing() as (proxy, _), joined(proxy) as peer:
        await peer.echo(b"1")
        proxy.delay(0.2)
        started = time.monotonic()
        assert await peer.echo(b"2") == b"2"
        assert time.monotonic() - started >= 0.4 - TIMERS_S
        proxy.heal()
        proxy.throttle(20_000)
        started = time.monotonic()
        assert await peer.echo(b"3" * 8_000) == b"3" * 8_000
        assert time.monotonic() - started >= 0.4 - TIMERS_S


async def test_after_a_failover_connections_go_to_the_other_server() -> None:
    async with echoing() as (proxy, first), echoing() as (other, second), joined(proxy) as peer:
        await peer.echo(b"1")
        proxy.retarget(other.target)
        assert await peer.end() == "reset"
        async with joined(proxy) as again:
            await again.echo(b"2")
        assert (len(first), len(second)) == (1, 1)

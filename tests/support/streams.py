"""A stream of server-sent events, by httpx: what it received."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from tests.support import eventually
from tests.support.system import Account, Served, System

PATH = "/api/internal/live"


class Listening:
    """Reads from when it is made until it ends."""

    def __init__(self, http: httpx.AsyncClient, url: str, account: Account) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.comments: list[str] = []
        self.headers: httpx.Headers | None = None
        self._reader = asyncio.create_task(self._read(http, url, account))

    async def _read(self, http: httpx.AsyncClient, url: str, account: Account) -> None:
        async with http.stream("GET", url, headers=account.bearer) as answer:
            assert answer.status_code == 200, await answer.aread()
            self.headers = answer.headers
            name = ""
            async for line in answer.aiter_lines():
                field, _, value = line.partition(": ")
                match field:
                    case "event":
                        name = value
                    case "data":
                        self.events.append((name, json.loads(value)))
                    case "":
                        self.comments += [value] if value else []
                    case _:
                        raise AssertionError(f"no line of a stream: {line}")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for name, data in self.events if name == kind]

    async def event(self, kind: str) -> dict[str, Any]:
        """The first of a kind."""
        found: dict[str, Any] = await eventually(lambda: next(iter(self.of(kind)), None), 10)
        return found

    async def ended(self, within: float = 5.0) -> str:
        """The server's last comment."""
        await eventually(self._reader.done, within)
        self._reader.result()
        return self.comments[-1]

    async def leave(self) -> None:
        """The client goes away without a word."""
        self._reader.cancel()
        await asyncio.wait([self._reader])


async def listening(system: System, served: Served, account: Account) -> Listening:
    """After its `hello`."""
    stream = Listening(system.http, served.inner_url + PATH, account)
    await eventually(lambda: stream.of("hello") or stream._reader.done())
    if stream._reader.done():
        stream._reader.result()
    return stream

"""Drivers of clients that nobody here wrote: Node's `ws` and Chromium's `WebSocket`. Both speak the same events."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import websockets

from hadir.dev.embedded import dies_with_parent
from tests.support import eventually

HERE = Path(__file__).parent


class Foreign:
    """A client program; `happened` is what it told, in order."""

    def __init__(self) -> None:
        self.happened: list[dict[str, Any]] = []

    async def event(self, name: str, socket: int = 1, **fields: Any) -> dict[str, Any]:
        """The first event of a name on the n-th socket whose fields are these."""

        async def found() -> dict[str, Any]:
            await self.refresh()
            wanted = {"event": name, "socket": socket, **fields}
            event = next((e for e in self.happened if wanted.items() <= e.items()), None)
            assert event is not None, self.happened
            return event

        event: dict[str, Any] = await eventually(found, 10)
        return event

    async def message(self, kind: str, socket: int = 1) -> dict[str, Any]:
        """The first message of a type on the n-th socket."""

        async def found() -> dict[str, Any] | None:
            await self.refresh()
            of_socket = (e["message"] for e in self.happened if e["event"] == "message" and e["socket"] == socket)
            return next((m for m in of_socket if m["type"] == kind), None)

        message: dict[str, Any] = await eventually(found, 10)
        return message

    async def refresh(self) -> None:
        """Brings `happened` up to date."""

    async def connect(self, url: str, token: str) -> None:
        raise NotImplementedError

    async def send(self, **fields: Any) -> None:
        raise NotImplementedError

    async def close(self, code: int) -> None:
        raise NotImplementedError


class NodeClient(Foreign):
    """Node's `ws`, driven by lines."""

    async def __aenter__(self) -> Self:
        modules = HERE / "node_modules" / "ws"
        node = shutil.which("node")
        if node is None or not modules.exists():
            pytest.skip("Node with its ws package is not installed (npm install --prefix tests/foreign)")
        self._process = await asyncio.create_subprocess_exec(
            node,
            str(HERE / "ws_client.js"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=dies_with_parent(),
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.happened.append(json.loads(line))

    async def command(self, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(fields).encode() + b"\n")
        await self._process.stdin.drain()

    async def connect(self, url: str, token: str) -> None:
        await self.command(connect={"url": url, "token": token})

    async def send(self, **fields: Any) -> None:
        await self.command(send=json.dumps(fields))

    async def close(self, code: int) -> None:
        await self.command(close=code)


class Browser(Foreign):
    """Chromium without a window, driven over its DevTools protocol."""

    async def __aenter__(self) -> Self:
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("Chromium is not installed (apt-get install chromium)")
        self._profile = Path(tempfile.mkdtemp(prefix="hadir-chromium-"))
        flags = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        flags += ["--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-port=0"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = await asyncio.create_subprocess_exec(
            chromium,
            *flags,
            f"--user-data-dir={self._profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=dies_with_parent(),
            start_new_session=True,
        )
        port_file = self._profile / "DevToolsActivePort"
        lines = await eventually(lambda: port_file.exists() and port_file.read_text().split(), 20)
        self._numbers = itertools.count(1)
        self._devtools = await websockets.connect(f"ws://127.0.0.1:{lines[0]}{lines[1]}", max_size=None)
        targets = (await self._call("Target.getTargets"))["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = await self._call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._call("Browser.close")
        await self._devtools.close()
        await self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def _call(self, method: str, *, session: str | None = None, **params: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        await self._devtools.send(json.dumps(message))
        while True:
            answer = json.loads(await self._devtools.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    async def evaluate(self, expression: str) -> Any:
        answer = await self._call(
            "Runtime.evaluate", session=self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def visit(self, url: str) -> None:
        """Opens a page and puts the client into it."""
        await self._call("Page.navigate", session=self._session, url=url)
        await eventually(lambda: self._is_loaded(url), 10)
        await self.evaluate((HERE / "browser.js").read_text())

    async def _is_loaded(self, url: str) -> bool:
        return bool(await self.evaluate(f"location.href.startsWith({url!r}) && document.readyState === 'complete'"))

    async def refresh(self) -> None:
        self.happened = await self.evaluate("window.happened")

    async def connect(self, url: str, token: str) -> None:
        await self.evaluate(f"window.connect({url!r}, {token!r})")

    async def send(self, **fields: Any) -> None:
        await self.evaluate(f"window.sockets.at(-1).send({json.dumps(json.dumps(fields))})")

    async def close(self, code: int) -> None:
        await self.evaluate(f"window.sockets.at(-1).close({code})")

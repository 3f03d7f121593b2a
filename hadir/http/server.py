"""Runs one instance: the node, its listeners, and a stop that nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette

from hadir import metrics
from hadir.config import Config, descriptors_for_sockets, raise_descriptor_limit
from hadir.errors import HadirError
from hadir.http import app
from hadir.http.auth import Verifier
from hadir.http.beacon import ShortWay
from hadir.http.protocol import Answers, HttpProtocol, ListenerConfig, SocketProtocol, nobody_answers
from hadir.realtime.messages import MESSAGE_MAX
from hadir.realtime.node import Node

log = logging.getLogger(__name__)

BACKLOG = 4096
BESIDE_SOCKETS = 100
"""Connections that are no sockets, when there are as many sockets as there may be; ours to the stores come beside."""
GRACEFUL_S = 3
COLLECT = (20_000, 10, 10)
"""Thresholds of the collector. Of those who connect at the same time there are more objects than its usual first one,
700, and none of them are garbage: with that it looks at each again and again, a quarter of what a connect costs."""
FORCED_EXIT = 1


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us: its own way cuts every socket at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Instance:
    """A running instance; the ports are the real ones, also where any was asked for."""

    node: Node
    public_port: int | None
    internal_port: int | None


async def serve(config: Config) -> int:
    """Runs until SIGTERM or SIGINT, drains, and answers the exit code. A second signal exits at once."""
    raise_descriptor_limit()
    gc.freeze()  # what was imported stays
    gc.set_threshold(*COLLECT)
    stop = asyncio.Event()

    def asked() -> None:
        if stop.is_set():
            os._exit(FORCED_EXIT)
        stop.set()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(met_a_defect)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    async with running(config) as instance:
        await stop.wait()
        await instance.node.drain()
    return 0


def met_a_defect(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Something that the loop called, or a task that nobody waits for, failed: logged as ever, and counted."""
    metrics.ERRORS.labels("loop").inc()
    loop.default_exception_handler(context)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Instance]:
    """An instance with its listeners bound; they and the node are gone at the end of the block."""
    async with Node(config, Verifier(config)) as node:
        public = internal = None
        listeners: list[tuple[Listener, socket.socket]] = []
        if "public" in config.listeners:
            public = _bind(config.host, config.port, "PORT")
            short_way = ShortWay(node.availability, config.allowed_origins)
            listeners.append((_listener(app.public(node), config, short_way), public))
        if "internal" in config.listeners:
            internal = _bind(config.internal_host, config.internal_port, "INTERNAL_PORT")
            listeners.append((_listener(app.inner(node), config), internal))
        tasks = [asyncio.create_task(each.serve(sockets=[bound])) for each, bound in listeners]
        try:
            while not all(each.started for each, _ in listeners):
                for task in tasks:
                    if task.done():
                        task.result()
                        raise HadirError("A listener ended before it had begun.")
                await asyncio.sleep(0.01)
            yield Instance(node, _port(public), _port(internal))
        finally:
            for each, _ in listeners:
                each.should_exit = True
            await asyncio.gather(*tasks)


def _listener(application: Starlette, config: Config, answers: Answers = nobody_answers) -> Listener:
    return Listener(
        ListenerConfig(
            application,
            hands_over=config.sockets == "direct",
            answers=answers,
            http=HttpProtocol,
            ws=SocketProtocol,
            ws_max_size=MESSAGE_MAX,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level=logging.WARNING,
            backlog=BACKLOG,
            limit_concurrency=descriptors_for_sockets() + BESIDE_SOCKETS,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACEFUL_S,
        )
    )


def _bind(host: str, port: int, name: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise HadirError(f"{name}: {host}:{port} cannot be listened on: {error.strerror}.") from error
    bound.setblocking(False)
    return bound


def _port(bound: socket.socket | None) -> int | None:
    return None if bound is None else int(bound.getsockname()[1])

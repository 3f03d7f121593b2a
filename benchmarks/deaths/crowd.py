"""The mitras of a rig: those that live, those that die, and how each of them goes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from hadir.client import MitraClient
from hadir.client.events import Ended, Event, Opened
from tests.faults.proxy import Proxy
from tests.support import eventually
from tests.support.system import Account, Served, System

TOKEN_TTL_S = 7_200
CONNECTS_PER_S = 200
CONNECTED_S = 180.0

HANGS = ("frozen", "blackholed")
"""What may still open a connection after that, as nobody ends it."""


class Mitra:
    """An app: the client of the protocol, on a way of its own where its kind of death needs one."""

    def __init__(self, account: Account, kind: str | None, urls: Sequence[str], proxy: Proxy | None, turn: int) -> None:
        self.id = account.id
        self.kind = kind
        """How it dies; None: it lives."""
        self.died: float | None = None
        """Wall clock, before anything of it was done."""
        self.ends: Counter[str] = Counter()
        self._proxy = proxy
        self.client = MitraClient(
            urls,
            account.make_token(TOKEN_TTL_S),
            status=True,
            on_event=self._hear,
            beat="text" if turn % 2 else "control",
        )

    def _hear(self, event: Event) -> None:
        if isinstance(event, Ended) and self.died is None:
            self.ends[f"{event.code} by the {event.by}"] += 1
        if isinstance(event, Opened) and self.died is not None and self.kind not in HANGS:
            self.died = time.time()  # it was about to open a successor, and dies with that
            self.client.drop()

    @property
    def is_online(self) -> bool:
        return self.client.connected and not (self.client.state or {})["pending"]

    async def die(self) -> None:
        """Never to come back. What is no client's own death is a loss: the app crashes, its kernel ends the socket."""
        self.died = time.time()
        match self.kind:
            case "goodbye":
                await self.client.goodbye()
            case "frozen":
                self.client.freeze()
            case "blackholed":
                assert self._proxy is not None
                self._proxy.blackhole()
            case "reset":
                assert self._proxy is not None
                self.client.freeze()  # so that it does not come back
                self._proxy.reset()
            case _:
                self.client.freeze()
                self.client.drop()


class Mitras:
    """`async with` connects them all: `kinds` says how each that dies does, and `alive` how many live.

    They are dealt out to the instances in turn. `pinned`: those that die know of no other instance than theirs.
    """

    def __init__(
        self, system: System, instances: Sequence[Served], kinds: Sequence[str], alive: int, *, pinned: bool
    ) -> None:
        self._system = system
        self._urls = [f"ws://127.0.0.1:{served.public_port}" for served in instances]
        self._ports = [served.public_port for served in instances]
        self._kinds: list[str | None] = [*kinds, *[None] * alive]
        self._pinned = pinned
        self._stack = AsyncExitStack()
        self._running: list[asyncio.Task[None]] = []
        self.everyone: list[Mitra] = []

    async def __aenter__(self) -> Self:
        try:
            accounts = await self._system.accounts(len(self._kinds))
            for n, (account, kind) in enumerate(zip(accounts, self._kinds, strict=True)):
                self.everyone.append(await self._mitra(account, kind, n))
            for mitra in self.everyone:
                self._running.append(asyncio.create_task(_run(mitra.client)))
                await asyncio.sleep(1 / CONNECTS_PER_S)
            await eventually(self._all_online, CONNECTED_S)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def _all_online(self) -> bool:
        away = sum(not mitra.is_online for mitra in self.everyone)
        assert not away, f"{away} of {len(self.everyone)} are not online"
        return True

    async def _end(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._stack.aclose()

    async def _mitra(self, account: Account, kind: str | None, n: int) -> Mitra:
        at = n % len(self._urls)
        urls, proxy = self._urls[at:] + self._urls[:at], None
        if kind in ("reset", "blackholed"):
            proxy = await self._stack.enter_async_context(Proxy(self._ports[at]))
            urls = [f"ws://127.0.0.1:{proxy.port}"]
        elif kind is not None and self._pinned:
            urls = urls[:1]
        return Mitra(account, kind, urls, proxy, n)

    def check(self) -> None:
        """Raises what ended a client that was not told to end, if something did."""
        for task in self._running:
            if task.done():
                task.result()

    @property
    def living(self) -> list[Mitra]:
        return [mitra for mitra in self.everyone if mitra.kind is None]

    @property
    def dying(self) -> list[Mitra]:
        return [mitra for mitra in self.everyone if mitra.kind is not None]

    def dying_on(self, instance: int) -> list[Mitra]:
        """Those whose instance that is, by its number."""
        return [m for n, m in enumerate(self.everyone) if m.kind is not None and n % len(self._urls) == instance]

    def dead(self) -> dict[str, float]:
        """When each died, by id."""
        return {mitra.id: mitra.died for mitra in self.everyone if mitra.died is not None}


async def _run(client: MitraClient) -> None:
    async with client:
        await client.stopped()

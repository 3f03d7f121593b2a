"""Customers who are paired with a crowd's mitras, pay and chat, one session after the other, whatever fails."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx

from hadir.client import Answered, ClientStopped, CustomerApi, CustomerClient, MitraClient, Problem
from hadir.client.wire import Message
from tests.support import eventually
from tests.support.crowd import Crowd
from tests.support.market import TOKEN, invoice
from tests.support.system import Account, Served, System

MESSAGES = 4
TYPES_S = 0.8
"""A customer may ask for a mitra every three seconds."""
PATIENCE_S = 0.5
AT_LEAST = 2
WAIT_S = 2
Found = TypeVar("Found")


class Visitors:
    """`async with` starts `size` customers; the instances must know the webhook's `TOKEN`.

    They ask again until they are answered, at the next instance: what a store's outage costs them is time. Whatever
    else they are answered ends the test.
    """

    def __init__(self, system: System, instances: Sequence[Served], size: int) -> None:
        self._system, self._instances, self._size = system, list(instances), size
        self._apps: dict[str, MitraClient] = {}
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self.done = 0
        """Sessions that were searched, won, paid, talked through and ended."""
        self.refused: Counter[str] = Counter()
        """What customers were refused for the moment, by status and code."""
        self.sent: dict[str, float] = {}
        """When each message was said first, by its client_id."""
        self.acknowledged: set[str] = set()
        self.latencies_s: list[float] = []
        """From a customer's saying something until the mitra heard it."""

    async def __aenter__(self) -> Self:
        customers = await self._system.accounts(self._size, "customer")
        await self._tasks.__aenter__()
        self._running = [self._tasks.create_task(self._live(n, account)) for n, account in enumerate(customers)]
        return self

    async def __aexit__(self, *problem: Any) -> None:
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(*problem)

    def forget(self) -> None:
        self.refused.clear()
        self.latencies_s.clear()

    async def goes_on(self, within: float = 30.0) -> None:
        """Waits until a few more sessions have come to their end."""
        before = self.done

        def more() -> bool:
            for task in self._running:
                if task.done():
                    task.result()
            return self.done >= before + AT_LEAST

        await eventually(more, within)

    async def lost(self) -> list[str]:
        """Messages that were acknowledged and are not stored."""
        records = await self._system.sql.fetch("SELECT client_id FROM chat_messages")
        return sorted(self.acknowledged - {record["client_id"] for record in records})

    def with_mitras(self, crowd: Crowd) -> Self:
        """Those who answer; `hear` must be told what they hear."""
        self._apps = dict(zip([each.id for each in crowd.accounts], crowd.clients, strict=True))
        return self

    def hear(self, account: Account, message: Mapping[str, Any]) -> None:
        """For the crowd: what a mitra's app was told."""
        match message["type"]:
            case "offer" if account.id in self._apps:
                self._tasks.create_task(self._accept(self._apps[account.id], message["pairing_id"]))
            case "chat.message" if (name := message["message"]["client_id"]) in self.sent:
                self.latencies_s.append(time.monotonic() - self.sent[name])

    async def _accept(self, mitra: MitraClient, pairing_id: str) -> None:
        while True:
            try:
                await mitra.accept(pairing_id)
            except ClientStopped:
                return
            except Answered:
                await asyncio.sleep(PATIENCE_S)  # a store is away
            else:
                return

    async def _live(self, number: int, account: Account) -> None:
        served = self._instances[number % len(self._instances) :] + self._instances
        apis = itertools.cycle([CustomerApi(each.url, account.token) for each in served])
        urls = [f"ws://127.0.0.1:{each.public_port}" for each in served]
        async with CustomerClient(urls, account.token) as client:
            while True:
                await self._deal(client, apis, itertools.cycle(served))

    async def _deal(
        self, client: CustomerClient, apis: itertools.cycle[CustomerApi], instances: itertools.cycle[Served]
    ) -> None:
        async def api(ask: Callable[[CustomerApi], Awaitable[Message]]) -> Message:
            return await self._answered(lambda: ask(next(apis)))

        key = str(uuid.uuid4())
        pairing = await api(lambda each: each.create_pairing(key))
        pairing_id = pairing["id"]
        while pairing["status"] == "searching":
            pairing = await api(lambda each: each.pairing(pairing_id, wait_s=WAIT_S))
        if pairing["status"] != "accepted":
            return  # nobody could answer in time
        session: Message = pairing["session"]
        session_id: str = session["id"]
        paid = invoice(session_id)
        await self._answered(lambda: self._pay(next(instances), paid))
        while session["status"] == "pending_payment":
            await asyncio.sleep(PATIENCE_S / 5)
            session = await api(lambda each: each.session(session_id))
        for _ in range(MESSAGES):
            await asyncio.sleep(TYPES_S)
            name = uuid.uuid4().hex
            self.sent[name] = time.monotonic()
            await self._answered(lambda name=name: client.send_message(session_id, "Halo", client_id=name))  # type: ignore[misc]
            self.acknowledged.add(name)
        await self._answered(lambda: self._end(client, session_id))
        self.done += 1

    async def _end(self, client: CustomerClient, session_id: str) -> None:
        try:
            await client.end_session(session_id)
        except Answered as answered:
            if answered.code != "wrong_state":  # it was done, and the answer lost
                raise

    async def _pay(self, served: Served, body: dict[str, Any]) -> None:
        answer = await self._system.http.post(
            f"{served.url}/webhooks/xendit", json=body, headers={"x-callback-token": TOKEN}
        )
        if answer.status_code != 200:
            raise Problem(answer.status_code, answer.json())

    async def _answered(self, ask: Callable[[], Awaitable[Found]]) -> Found:
        """Asks until it is done."""
        while True:
            try:
                return await ask()
            except Problem as problem:
                if problem.status < 500 and problem.code != "too_many":
                    raise
                self.refused[f"{problem.status} {problem.code}"] += 1
            except Answered as answered:
                if answered.code != "unavailable":
                    raise
                self.refused[answered.code] += 1
            except (OSError, httpx.TransportError) as error:
                self.refused[type(error).__name__] += 1
            await asyncio.sleep(PATIENCE_S)

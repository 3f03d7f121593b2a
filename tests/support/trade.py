"""Customers who ask all the time, mitras of a crowd who answer, and whether anything of it was lost on the way."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Self

import asyncpg
import httpx

from hadir.client import MitraClient
from hadir.realtime.pairing import LATE_S
from tests.support import eventually
from tests.support.crowd import Crowd
from tests.support.system import Account, Served, System

AT_ONCE = 6
CUSTOMERS_MAX = 3_000
PAUSE_S = 0.5
ANSWER_S = 30.0
STOOD_S = 4.0
"""An offer that stood this long must have been told; one that was closed before may have been overtaken by that."""
ENDS = cycle(("nobody", "unpaid", "paid"))
"""How pairings and sessions end, in turn: nobody accepts, nobody pays, the time that was paid for is over."""


class Trade:
    """`async with` begins it; `closed` ends it and waits until every timer has done its work."""

    def __init__(self, system: System, instances: Sequence[Served]) -> None:
        self._system = system
        self.instances = list(instances)
        self._turn = 0
        self._tasks = asyncio.TaskGroup()
        self._asking: list[asyncio.Task[None]] = []
        self._open = True
        self._told: dict[tuple[str, str], float] = {}
        self._apps: dict[str, MitraClient] = {}
        self.deals = 0

    def hear(self, account: Account, message: Mapping[str, Any]) -> None:
        """For the crowd: what a mitra's app was told."""
        offers = [message] if message["type"] == "offer" else (message.get("state") or {}).get("offers", [])
        for offer in offers:
            self._told.setdefault((account.id, offer["pairing_id"]), time.time())

    def with_mitras(self, crowd: Crowd) -> Self:
        """Those who answer; `hear` must be told what they hear."""
        self._apps = dict(zip([each.id for each in crowd.accounts], crowd.clients, strict=True))
        return self

    async def __aenter__(self) -> Self:
        self._operator = await self._system.account("operator")
        self._customers = await self._system.accounts(CUSTOMERS_MAX, "customer")
        self._sql = await asyncpg.create_pool(self._system.database_url, min_size=1, max_size=4)
        await self._tasks.__aenter__()
        self._asking = [self._tasks.create_task(self._ask_all_the_time()) for _ in range(AT_ONCE)]
        return self

    async def __aexit__(self, *failure: Any) -> None:
        self._open = False
        try:
            await self._tasks.__aexit__(*failure)
        finally:
            self._sql.terminate()

    async def closed(self) -> None:
        """Nobody asks any more, everything that was begun has come to its end."""
        self._open = False
        await asyncio.wait(self._asking)
        await eventually(self._is_over, ANSWER_S)

    async def _is_over(self) -> bool:
        open_ones = await self._sql.fetchval(
            "SELECT (SELECT count(*) FROM pairings WHERE status = 'searching') + "
            "(SELECT count(*) FROM chat_sessions WHERE status IN ('pending_payment', 'active'))"
        )
        assert open_ones == 0, f"{open_ones} pairings and sessions"
        return True

    async def _ask_all_the_time(self) -> None:
        while self._open:
            await self._deal(next(ENDS))
            await asyncio.sleep(PAUSE_S)

    async def _deal(self, end: str) -> None:
        customer = self._customers.pop()
        self.deals += 1
        key = {"Idempotency-Key": str(uuid.uuid4())}
        pairing = await self._request(customer, "POST", "/api/pairings", headers=key, json={})
        waiting = self._tasks.create_task(self._hears(customer, pairing["id"], end))
        if end == "nobody":
            return
        mitra_id = await eventually(lambda: self._all_told(pairing["id"]), ANSWER_S)
        answer = await self._apps[mitra_id].accept(pairing["id"])
        assert answer.result == "won"
        assert answer.session is not None
        if end == "paid":
            path = f"/api/internal/sessions/{answer.session['id']}/paid"
            await self._request(self._operator, "POST", path, inner=True, json={"amount": 50_000})
        await waiting

    async def _all_told(self, pairing_id: str) -> str | None:
        """One of those who were offered it, once all of them have been told."""
        offered = await self._offers("WHERE pairing_id = $1", uuid.UUID(pairing_id))
        untold = [each for each in offered if (each["mitra"], pairing_id) not in self._told]
        assert not untold, f"{len(untold)} of {len(offered)} mitras have not been told of pairing {pairing_id}"
        return offered[0]["mitra"] if offered else None

    async def _offers(self, where: str, *arguments: object) -> list[dict[str, Any]]:
        statement = f"""
            SELECT o.mitra_id::text AS mitra, o.pairing_id::text AS pairing,
                   extract(epoch FROM o.offered_at)::float8 AS at,
                   extract(epoch FROM coalesce(p.decided_at, clock_timestamp()) - o.offered_at)::float8 AS stood
            FROM pairing_offers o JOIN pairings p ON p.id = o.pairing_id {where}"""
        return [dict(record) for record in await self._sql.fetch(statement, *arguments)]

    async def _hears(self, customer: Account, pairing_id: str, end: str) -> None:
        """The customer waits at whichever instance answers, and is told what became of it."""
        expected = "expired" if end == "nobody" else "accepted"
        found = {"status": "searching"}
        while found["status"] == "searching":
            found = await self._request(customer, "GET", f"/api/pairings/{pairing_id}?wait=25")
        assert found["status"] == expected

    async def _request(
        self, who: Account, method: str, path: str, *, inner: bool = False, **options: Any
    ) -> dict[str, Any]:
        """As often as it takes, at the next instance where one does not serve."""
        until = time.monotonic() + ANSWER_S
        headers = who.bearer | options.pop("headers", {})
        while True:
            self._turn += 1
            served = self.instances[self._turn % len(self.instances)]
            url = (served.inner_url if inner else served.url) + path
            answer: httpx.Response | None
            try:
                answer = await self._system.http.request(method, url, headers=headers, timeout=ANSWER_S, **options)
            except httpx.TransportError:
                answer = None
            if time.monotonic() < until and (answer is None or answer.status_code == 503):
                await asyncio.sleep(0.05)
                continue
            assert answer is not None, f"{method} {path}: nobody answers"
            assert answer.is_success, f"{method} {path}: {answer.text}"
            found: dict[str, Any] = answer.json()
            return found

    # what must be true in the end

    async def lost_offers(self) -> list[str]:
        """Offers that their mitra was never told of."""
        return [
            f"mitra {each['mitra']} of pairing {each['pairing']}, which stood for {each['stood']:.1f} s"
            for each in await self._offers("")
            if each["stood"] > STOOD_S and (each["mitra"], each["pairing"]) not in self._told
        ]

    async def delays_s(self) -> list[float]:
        """From making an offer to its mitra's hearing of it, in order."""
        offers = await self._offers("")
        keys = [((each["mitra"], each["pairing"]), each["at"]) for each in offers]
        return sorted(self._told[key] - at for key, at in keys if key in self._told)

    async def lateness_s(self) -> dict[str, list[float]]:
        """Of each kind of timer, in order: how late it was done."""
        statements = {
            "search": "SELECT extract(epoch FROM decided_at - expires_at) - $1::float8 AS late "
            "FROM pairings WHERE status = 'expired'",
            "payment": "SELECT extract(epoch FROM ended_at - payment_due_at) + 0 * $1::float8 AS late "
            "FROM chat_sessions WHERE status = 'expired'",
            "session": "SELECT extract(epoch FROM ended_at - expires_at) + 0 * $1::float8 AS late "
            "FROM chat_sessions WHERE status = 'ended'",
        }
        return {
            kind: sorted(float(record["late"]) for record in await self._sql.fetch(statement, LATE_S))
            for kind, statement in statements.items()
        }

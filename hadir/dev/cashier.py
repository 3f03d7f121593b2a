"""Pays for simulated customers: posts what the payment provider would post to the webhook."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import orjson

from hadir.client.exchange import exchange
from hadir.dev.dealings import Dealings
from hadir.dev.world import World

PATH = "/webhooks/xendit"
WITHIN_S = 5.0
RETRY_S = 2.0
TRIES = 5
AMOUNT = 50_000
TWICE, EXPIRES_AFTERWARDS = 0.1, 0.08
"""How often the provider says the same thing again, or that an invoice has expired after it was paid."""


class Cashier:
    """Without a token of the webhook nobody can pay."""

    def __init__(self, world: World, token: str | None) -> None:
        self._world = world
        self._token = token

    @property
    def works(self) -> bool:
        return self._token is not None

    @property
    def _dealings(self) -> Dealings:
        return self._world.witness.dealings

    async def pay(self, external_id: str) -> bool:
        """Whether the server has taken it down."""
        invoice = {"id": uuid4().hex, "external_id": external_id, "amount": AMOUNT, "paid_amount": AMOUNT}
        paid = {**invoice, "status": "PAID", "paid_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
        if not await self._post(paid):
            return False
        if self._world.happens(TWICE):
            await self._post(paid)
        if self._world.happens(EXPIRES_AFTERWARDS):
            await self._post({**invoice, "status": "EXPIRED"})
        return True

    async def _post(self, event: dict[str, object]) -> bool:
        """The provider tries again, as they do, a few times."""
        headers = {"x-callback-token": self._token or "", "Content-Type": "application/json"}
        for _ in range(TRIES):
            for url in self._world.shuffled():
                try:
                    answer = await exchange("POST", url + PATH, headers, orjson.dumps(event), timeout_s=WITHIN_S)
                except OSError:
                    continue
                if answer.status == 200:
                    self._dealings.payments[str(event["status"]).lower()] += 1
                    return True
                self._dealings.refused[f"webhook {answer.status}"] += 1
            await asyncio.sleep(RETRY_S)
        return False

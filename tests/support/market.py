"""What happens between customers, mitras and the payment provider, through the doors that they use."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import httpx

from hadir.realtime.session import SessionStatus
from tests.support import eventually
from tests.support.system import Account, Phone, Served, System

TOKEN = "a-token-of-the-provider"
CALM = {
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10",
    "MITRA_HEARTBEAT_STALE_SECONDS": "60",
    "MITRA_OFFLINE_GRACE_SECONDS": "10",
    "BEACON_CACHE_SECONDS": "0.1",
    "DRAIN_SECONDS": "1",
    "PAIRING_WAVE_SECONDS": "0.3",
    "XENDIT_CALLBACK_TOKEN": TOKEN,
}
"""Presence does not move by itself; waves follow one another quickly."""


class Market:
    """A system with calm presence, and who trades in it."""

    def __init__(self, system: System) -> None:
        self.system = system

    async def mitra(self, served: Served, **columns: int) -> tuple[Account, Phone]:
        """A mitra that is online and available, with its socket."""
        account = await self.system.account()
        if columns:
            await self.system.sql.execute(
                "UPDATE mitras SET max_sessions = $2 WHERE id = $1", account.id, columns["max_sessions"]
            )
        phone = await self.system.phone(served, account)
        await self.queued(account)
        return account, phone

    async def queued(self, *accounts: Account) -> None:
        """Waits until these can be offered something."""

        async def there() -> bool:
            return None not in await self.system.valkey.zmscore("mitras:queue", [each.id for each in accounts])

        await eventually(there)

    async def offered(self, served: Served, customer: Account, *phones: Phone) -> dict[str, Any]:
        """A pairing that all of these were told of."""
        pairing = await self.system.pair(served, customer)
        for phone in phones:
            await eventually(partial(of_pairing, phone, "offer", pairing["id"]))
        return pairing

    async def won(
        self, served: Served, customer: Account, phone: Phone, *, status: str = "pending_payment"
    ) -> dict[str, Any]:
        """A session of the customer with the phone's mitra, in a state."""
        pairing = await self.offered(served, customer, phone)
        answer = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
        assert answer["result"] == "won", answer
        session: dict[str, Any] = answer["session"]
        if status == "active":
            answered = await self.paid(served, session["id"])
            assert answered.status_code == 200, answered.text
            session = answered.json()
            await self.told(phone, session)
        return session

    async def told(self, phone: Phone, session: dict[str, Any], within: float = 5.0) -> dict[str, Any]:
        """Waits until a socket heard of a session in this version."""

        def heard() -> Any:
            return next((each for each in of_session(phone, session["id"]) if each["version"] >= session["version"]), 0)

        found: dict[str, Any] = await eventually(heard, within)
        return found

    async def operator(self, served: Served, method: str, path: str, **options: Any) -> httpx.Response:
        operator = await self.system.account("operator")
        return await self.system.http.request(method, served.inner_url + path, headers=operator.bearer, **options)

    async def paid(self, served: Served, session_id: str, **body: int) -> httpx.Response:
        """An operator says that it was paid."""
        return await self.operator(served, "POST", f"/api/internal/sessions/{session_id}/paid", json=body)

    async def webhook(self, served: Served, body: Any, token: str | None = TOKEN) -> httpx.Response:
        headers = {} if token is None else {"x-callback-token": token}
        return await self.system.http.post(f"{served.url}/webhooks/xendit", json=body, headers=headers)

    async def becomes(self, session_id: str, status: str, within: float = 5.0) -> dict[str, Any]:
        """Waits until a session is in a state; answers its row."""

        async def reached() -> dict[str, Any] | None:
            row = await self.row(session_id)
            return row if row["status"] == SessionStatus(status) else None

        found: dict[str, Any] = await eventually(reached, within)
        return found

    async def row(self, session_id: str) -> dict[str, Any]:
        record = await self.system.sql.fetchrow("SELECT * FROM chat_sessions WHERE id = $1", session_id)
        assert record is not None
        return dict(record)

    async def payment(self, invoice_id: str, within: float = 5.0) -> str:
        """Waits until an invoice is known; answers its state."""
        found: str = await eventually(
            lambda: self.system.sql.fetchval("SELECT state FROM payments WHERE invoice_id = $1", invoice_id), within
        )
        return found

    async def dealt_with(self, within: float = 5.0) -> list[str]:
        """Waits until no event waits; answers what came of each, in order."""
        await eventually(self._none_waits, within)
        records = await self.system.sql.fetch("SELECT outcome FROM webhook_events ORDER BY id")
        return [record["outcome"] for record in records]

    async def _none_waits(self) -> bool:
        waiting = await self.system.sql.fetchval("SELECT count(*) FROM webhook_events WHERE processed_at IS NULL")
        return not waiting


def invoice(session_id: str, status: str = "PAID", *, id: str | None = None, extension: int = 0) -> dict[str, Any]:
    named = f"{session_id}:{extension}" if extension else session_id
    return {"id": id or uuid.uuid4().hex, "external_id": named, "status": status, "amount": 50_000}


def of_pairing(phone: Phone, kind: str, pairing_id: str) -> dict[str, Any] | None:
    """What a socket was told of a pairing, of that type."""
    for message in phone.received:
        about = message["pairing"]["id"] if kind == "pairing.updated" else message.get("pairing_id")
        if message["type"] == kind and about == pairing_id:
            return message
    return None


def of_session(phone: Phone, session_id: str) -> list[dict[str, Any]]:
    """Every session that a socket was told of, with that id."""
    told = [message["session"] for message in phone.received if message["type"] == "session.updated"]
    return [session for session in told if session["id"] == session_id]

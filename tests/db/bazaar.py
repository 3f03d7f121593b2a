"""A marketplace in plain SQL: mitras that can take work, customers, and what the functions make of them."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg

from hadir.db.queries import sql as query
from hadir.realtime.pairing import LATE_S
from hadir.realtime.session import Event, steps
from tests.db.world import World

TIMEOUT_S, PAYMENT_S, SESSION_S = 60.0, 600.0, 1800.0


class Bazaar(World):
    """What is done takes a connection where it matters on which."""

    async def ready(self, *, max_sessions: int | None = None) -> str:
        """A mitra that can take work."""
        mitra = await self.mitra(max_sessions)
        await self.sql.execute("UPDATE mitra_presence SET is_online = true WHERE mitra_id = $1", mitra)
        return mitra

    async def customer(self) -> str:
        customer = str(uuid.uuid4())
        await self.sql.execute("INSERT INTO customers (id) VALUES ($1)", customer)
        return customer

    async def create(
        self, customer: str, key: str = "key", note: str = "", sql: asyncpg.Connection | None = None
    ) -> tuple[str, str]:
        """(outcome, pairing)"""
        asked = str(uuid.uuid4()), customer, key, f"hash of {note}", note, TIMEOUT_S
        return tuple(await (sql or self.sql).fetchrow(query("pairing_create"), *asked))

    async def pairing(self, *mitras: str, customer: str | None = None) -> str:
        """A pairing, offered to these."""
        _, pairing = await self.create(customer or await self.customer())
        if mitras:
            assert sorted(await self.wave(pairing, mitras, size=len(mitras))) == sorted(mitras)
        return pairing

    async def wave(self, pairing: str, candidates: Any, number: int | None = None, **limits: Any) -> list[str]:
        """Who was offered, of one wave."""
        (made,) = await self.waves({pairing: number}, candidates, **limits)
        return list(made["mitras"])

    async def waves(
        self,
        pairings: dict[str, int | None],
        candidates: Any,
        *,
        size: int = 50,
        seconds: float = 0.0,
        max_offers: int = 1000,
        max_open: int = 5,
        sql: asyncpg.Connection | None = None,
    ) -> list[asyncpg.Record]:
        """A pairing's number None: its next wave."""
        numbers = [number or (await self.pairing_row(each))["wave"] + 1 for each, number in pairings.items()]
        asked = list(pairings), numbers, list(candidates), size, seconds, max_offers, max_open
        found: list[asyncpg.Record] = await (sql or self.sql).fetch(query("pairing_waves"), *asked)
        return found

    async def accept(self, pairing: str, mitra: str, sql: asyncpg.Connection | None = None) -> str:
        return str((await self.accepted(pairing, mitra, sql))["result"])

    async def accepted(self, pairing: str, mitra: str, sql: asyncpg.Connection | None = None) -> asyncpg.Record:
        asked = pairing, mitra, PAYMENT_S, LATE_S
        return await (sql or self.sql).fetchrow(query("pairing_accept"), *asked)

    async def decline(self, pairing: str, mitra: str, sql: asyncpg.Connection | None = None) -> str:
        return str(await (sql or self.sql).fetchval(query("pairing_decline"), pairing, mitra))

    async def cancel(self, pairing: str, sql: asyncpg.Connection | None = None) -> bool:
        customer = (await self.pairing_row(pairing))["customer_id"]
        return bool(await (sql or self.sql).fetchval(query("pairing_cancel"), pairing, customer))

    async def expire(self, sql: asyncpg.Connection | None = None) -> list[str]:
        records = await (sql or self.sql).fetch(query("pairings_expire"), LATE_S, 200)
        return [record["id"] for record in records]

    async def past_deadline(self, pairing: str, seconds: float = LATE_S + 1) -> None:
        """The deadline that was shown is so long ago."""
        statement = "UPDATE pairings SET expires_at = clock_timestamp() - make_interval(secs => $2) WHERE id = $1"
        await self.sql.execute(statement, pairing, seconds)

    async def deactivate(self, mitra: str, sql: asyncpg.Connection | None = None) -> None:
        await (sql or self.sql).execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", mitra)

    # sessions

    async def won(self, mitra: str | None = None, *, status: str = "pending_payment") -> str:
        """A session that came from a pairing; answers its id."""
        mitra = mitra or await self.ready(max_sessions=9)
        accepted = await self.accepted(await self.pairing(mitra), mitra)
        assert accepted["result"] == "won"
        session = str(accepted["session_id"])
        if status != "pending_payment":
            await self.happens(session, Event.PAID)
        if status != "active" and status != "pending_payment":
            await self.sql.execute("UPDATE chat_sessions SET status = $2 WHERE id = $1", session, status)
        return session

    async def happens(
        self, session: str, event: Event, sql: asyncpg.Connection | None = None, *, party: str | None = None
    ) -> tuple[str, str]:
        """(outcome, state) of an event of a session."""
        possible, become = steps(event)
        seconds = SESSION_S if event in (Event.PAID, Event.EXTENDED) else 0.0
        extension = int(event is Event.EXTENDED)
        asked = session, party, possible, become, "customer", seconds, extension, None
        changed = await (sql or self.sql).fetchrow(query("session_change"), *asked)
        return changed["outcome"], changed["state"]

    async def reroute(
        self, session: str, customer: str | None = None, sql: asyncpg.Connection | None = None
    ) -> tuple[str, str]:
        """(outcome, pairing)"""
        possible, _ = steps(Event.REROUTED)
        asked = str(uuid.uuid4()), session, customer, possible, TIMEOUT_S, None
        return tuple(await (sql or self.sql).fetchrow(query("pairing_reroute"), *asked))

    async def due(self, sql: asyncpg.Connection | None = None) -> list[str]:
        """The sessions that time ends now."""
        return [record["id"] for record in await (sql or self.sql).fetch(query("sessions_due"), 500)]

    async def too_late_to_pay(self, session: str) -> None:
        await self.sql.execute(
            "UPDATE chat_sessions SET payment_due_at = clock_timestamp() - interval '1 s' WHERE id = $1", session
        )

    async def pay(
        self,
        session: str,
        invoice: str = "inv",
        *,
        extension: int = 0,
        paid: bool = True,
        external: str | None = None,
        sql: asyncpg.Connection | None = None,
    ) -> tuple[str, bool]:
        """(outcome, whether the session moved) of an invoice's event."""
        possible, become = steps(Event.EXTENDED if extension else Event.PAID)
        named = external or (f"{session}:{extension}" if extension else session)
        asked = named, invoice, session, extension, paid, 50_000, None, "test", possible, become, SESSION_S
        recorded = await (sql or self.sql).fetchrow(query("payment_record"), *asked)
        return recorded["outcome"], recorded["changed"]

    # what is true

    async def pairing_row(self, pairing: str) -> asyncpg.Record:
        record = await self.sql.fetchrow("SELECT * FROM pairings WHERE id = $1", pairing)
        assert record is not None
        return record

    async def status(self, pairing: str) -> str:
        return str((await self.pairing_row(pairing))["status"])

    async def offers(self, pairing: str) -> dict[str, str]:
        """What became of each mitra's offer."""
        return dict(await self.sql.fetch("SELECT mitra_id, status FROM pairing_offers WHERE pairing_id = $1", pairing))

    async def session_row(self, session: str) -> asyncpg.Record:
        record = await self.sql.fetchrow("SELECT * FROM chat_sessions WHERE id = $1", session)
        assert record is not None
        return record

    async def open_sessions(self, mitra: str) -> int:
        return int((await self.row(mitra))["open_sessions"])

    async def payments(self, session: str) -> dict[str, str]:
        """The state of each invoice that names the session."""
        statement = "SELECT invoice_id, state FROM payments WHERE external_id LIKE $1 || '%'"
        return dict(await self.sql.fetch(statement, session))

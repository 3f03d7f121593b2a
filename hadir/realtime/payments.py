"""Payments: what the provider says is stored and acknowledged first, and understood afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import CONFLICTS, GAVE_UP, Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused
from hadir.realtime.bell import Bell
from hadir.realtime.pairings import unknown_session, wrong_state
from hadir.realtime.payment import Invoice, NotOurs, external_id, invoice_of, session_named
from hadir.realtime.session import Event, steps

log = logging.getLogger(__name__)

SOURCE = "xendit"
UNFIT = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, TypeError, OverflowError)
"""What can be wrong with one event."""


class Payments:
    """`wake` is called when an event has been stored."""

    def __init__(self, config: Config, postgres: Postgres, bell: Bell, *, wake: Callable[[], None]) -> None:
        self._config = config
        self._postgres = postgres
        self._bell = bell
        self._wake = wake

    async def store(self, body: Mapping[str, Any]) -> None:
        """Keeps an event; whatever it says is dealt with afterwards.

        Raises `PostgresUnavailable`, and `Refused` (422) for what Postgres has no place for.
        """
        try:
            await self._postgres.execute(sql("webhook_store"), SOURCE, dict(body), session_named(body))
        except asyncpg.DataError as error:
            raise Refused(422, "bad_value", "The event cannot be kept: it has a NUL, or is too deep.") from error
        metrics.WEBHOOKS.labels("stored").inc()
        self._wake()

    async def process(self) -> int:
        """Deals with all events that nobody has dealt with; answers 0: none is left that could be dealt with now.

        One whose session somebody holds at the moment waits for the next time, with all others about that session; the
        rest do not wait for it. Raises `PostgresUnavailable`.
        """
        waited_s = await self._postgres.fetchval(sql("webhooks_waiting"))
        metrics.WEBHOOK_WAITING_SECONDS.set(max(0.0, waited_s or 0.0))
        if waited_s is None:
            return 0  # as nearly always: one statement, and no transaction
        held: list[asyncpg.Record] = []
        while (event := await self._process_next(held)) is not None:
            held += event
        return 0

    async def _process_next(self, held: list[asyncpg.Record]) -> list[asyncpg.Record] | None:
        """The event that has to wait, if it has to; None when there is none left.

        What it says and that it was dealt with are one transaction: however often it is begun, it happens once.
        """
        recorded, became = None, "recorded"
        sessions = [each["session_id"] for each in held if each["session_id"] is not None]
        async with self._postgres.transaction() as connection:
            event = await connection.fetchrow(sql("webhook_claim"), [each["id"] for each in held], sessions)
            if event is None:
                return None
            try:
                invoice = invoice_of(event["body"])
                async with connection.transaction():
                    recorded = await self._record(connection, invoice, SOURCE)
                outcome = recorded["outcome"]
            except NotOurs as why:
                became, outcome = "ignored", f"ignored: {why}"
                log.warning("payment.ignored", extra={"event": event["id"], "why": str(why)})
            except (*CONFLICTS, *GAVE_UP):
                return [event]
            except UNFIT as error:  # it must not hold up those behind it, and is on record
                became, outcome = "failed", f"failed: {error}"
                log.error("payment.failed", extra={"event": event["id"], "error": str(error)})
            await connection.execute(sql("webhook_done"), event["id"], outcome)
        metrics.WEBHOOKS.labels(became).inc()
        if recorded is not None:
            self._tell(recorded)
        return []

    async def mark_paid(self, session_id: str, extension: int, amount: int | None, actor: str) -> str:
        """An operator says that a session, or an extension, was paid for elsewhere, which is put on record.

        Answers the payment's state. Raises `Refused` (404, 409: then nothing is recorded) and `PostgresUnavailable`.
        """
        named = external_id(session_id, extension)
        invoice = Invoice(named, f"operator:{named}", session_id, extension, True, amount, None)
        try:
            async with self._postgres.transaction() as connection:
                recorded = await self._record(connection, invoice, actor)
                if recorded["outcome"] == "unmatched":
                    raise unknown_session()
                if not recorded["changed"]:
                    raise wrong_state("session", recorded["session_state"])
                details = {"extension": extension, "amount": amount}
                await connection.execute(sql("audit_write"), actor, "paid", session_id, details)
        except CONFLICTS as error:
            raise PostgresUnavailable("Others were changing the same session; nothing was changed.") from error
        self._tell(recorded)
        return str(recorded["outcome"])

    async def _record(
        self, connection: asyncpg.Connection[asyncpg.Record], invoice: Invoice, actor: str
    ) -> asyncpg.Record:
        possible, become = steps(Event.EXTENDED if invoice.extension else Event.PAID)
        recorded = await connection.fetchrow(
            sql("payment_record"),
            invoice.external_id,
            invoice.invoice_id,
            invoice.session_id,
            invoice.extension,
            invoice.paid,
            invoice.amount,
            invoice.paid_at,
            actor,
            possible,
            become,
            self._config.session_s,
        )
        assert recorded is not None
        return recorded

    def _tell(self, recorded: asyncpg.Record) -> None:
        metrics.PAYMENTS.labels(recorded["outcome"]).inc()
        if recorded["outcome"] in ("refund_due", "unmatched"):
            log.warning("payment.to_refund", extra={"state": recorded["outcome"]})
        if recorded["changed"]:
            mitras = [recorded["mitra_id"]]
            self._bell.ring(customers=[recorded["customer_id"]], mitras=mitras)

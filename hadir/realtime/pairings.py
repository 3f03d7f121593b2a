"""Pairings: asked for, offered in waves, accepted by one, or ended. Postgres decides; here is who is asked."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import Refused
from hadir.realtime.availability import Availability
from hadir.realtime.bell import Bell
from hadir.realtime.pairing import LATE_S, AcceptResult, DeclineResult, Pairing, PairingStatus
from hadir.realtime.session import Event, Session, steps
from hadir.realtime.work import read_pairing, read_session

WAVES_AT_ONCE = 20
EXPIRIES_AT_ONCE = 200
LOOK_MARGIN = 100
LOOK_MAX = 20_000
"""How far down the queue candidates are looked for, past those who have an offer already or too many."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What accepting came to; the session where it was won."""

    result: AcceptResult
    session: Session | None


class Pairings:
    """Every method raises `PostgresUnavailable`; then nothing was changed, or asking again finds what was."""

    def __init__(
        self,
        config: Config,
        postgres: Postgres,
        availability: Availability,
        bell: Bell,
        *,
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called when a first wave is due."""
        self._config = config
        self._postgres = postgres
        self._availability = availability
        self._bell = bell
        self._wake = wake

    # the customer's side

    async def create(self, customer_id: str, key: str, note: str) -> Pairing:
        """A searching pairing, or the one that this key made before.

        Raises `Refused`: 403 for an unknown customer, 409 while another one searches, 422 for a key of another body.
        """
        body_hash = hashlib.sha256(note.encode()).hexdigest()
        asked = str(uuid.uuid4()), customer_id, key, body_hash, note, self._config.pairing_timeout_s
        made = await self._postgres.fetchrow(sql("pairing_create"), *asked)
        assert made is not None
        match made["outcome"]:
            case "unknown":
                raise Refused(403, "unknown_subject", "The token's sub is no customer that is known here.")
            case "reused":
                raise Refused(422, "key_reused", "This Idempotency-Key was used with another body.")
            case "searching":
                raise _already_searching(made["pairing_id"])
        return await self._begun(made)

    async def reroute(self, session_id: str, customer_id: str | None, *, actor: str | None = None) -> Pairing:
        """A search for another mitra for a session, which stays with its mitra until another accepts.

        `customer_id` None: the operator `actor` asks, which is put on record. Raises `Refused`: 404, or 409 where the
        session is over.
        """
        possible, _ = steps(Event.REROUTED)
        asked = str(uuid.uuid4()), session_id, customer_id, possible, self._config.pairing_timeout_s, actor
        made = await self._postgres.fetchrow(sql("pairing_reroute"), *asked)
        assert made is not None
        match made["outcome"]:
            case "unknown":
                raise unknown_session()
            case "searching":
                raise _already_searching(made["pairing_id"])
            case "created" | "same":
                return await self._begun(made)
        raise wrong_state("session", made["outcome"])

    async def _begun(self, made: asyncpg.Record) -> Pairing:
        pairing = await read_pairing(self._postgres, made["pairing_id"])
        assert pairing is not None
        if made["outcome"] == "created":
            self._wake()
            self._bell.ring(customers=[pairing.customer_id])
        return pairing

    async def read(self, pairing_id: str, customer_id: str) -> Pairing:
        """Raises `Refused` (404)."""
        pairing = await read_pairing(self._postgres, pairing_id)
        if pairing is None or pairing.customer_id != customer_id:
            raise unknown_pairing()
        return pairing

    async def cancel(self, pairing_id: str, customer_id: str) -> Pairing:
        """Raises `Refused`: 404, or 409 where it was accepted or has expired."""
        if await self._postgres.fetchval(sql("pairing_cancel"), pairing_id, customer_id):
            metrics.PAIRINGS.labels(PairingStatus.CANCELLED).inc()
            self._bell.ring(customers=[customer_id], decided=[pairing_id])
        pairing = await self.read(pairing_id, customer_id)
        if pairing.status is not PairingStatus.CANCELLED:
            raise wrong_state("pairing", pairing.status)
        return pairing

    # the mitra's side

    async def accept(self, pairing_id: str, mitra_id: str) -> Accepted:
        """R7: won by one, once and for all; a retry of the winner wins again."""
        asked = pairing_id, mitra_id, self._config.payment_timeout_s, LATE_S
        answer = await self._postgres.fetchrow(sql("pairing_accept"), *asked)
        assert answer is not None
        result = AcceptResult(answer["result"])
        metrics.ACCEPTS.labels(result).inc()
        if answer["decided"]:
            if result is AcceptResult.WON:
                metrics.PAIRINGS.labels(PairingStatus.ACCEPTED).inc()
                metrics.PAIRING_ACCEPT_SECONDS.observe(answer["waited_s"])
            moved = answer["moved"]
            self._bell.ring(customers=[answer["customer_id"]], mitras=moved, decided=[pairing_id], moved=moved)
        won = result is AcceptResult.WON and answer["session_id"] is not None
        return Accepted(result, await read_session(self._postgres, answer["session_id"]) if won else None)

    async def decline(self, pairing_id: str, mitra_id: str) -> DeclineResult:
        result = DeclineResult(await self._postgres.fetchval(sql("pairing_decline"), pairing_id, mitra_id))
        self._bell.ring(mitras=[mitra_id])
        return result

    # what time brings

    async def next_waves(self) -> int:
        """Makes the waves that are due, but for pairings that are being decided; answers how many.

        An exhausted pool goes on being asked.
        """
        config = self._config
        due = await self._postgres.fetch(sql("pairings_next"), WAVES_AT_ONCE)
        if not due:
            return 0
        found_at = time.monotonic()
        waves = {record["id"]: record["wave"] for record in due}
        reached: set[str] = set()
        look = config.pairing_wave_size + max(record["offers"] for record in due) + LOOK_MARGIN
        while waves:
            candidates, _ = await self._availability.queue(min(look, LOOK_MAX))
            made = await self._make(waves, candidates)
            reached.update(record["pairing_id"] for record in made)
            if len(candidates) < look or look >= LOOK_MAX:
                break
            waves = {record["pairing_id"]: waves[record["pairing_id"]] for record in made if record["missing"] > 0}
            look *= 4
        took_s = time.monotonic() - found_at
        for record in due:
            if record["id"] in reached:
                metrics.TIMER_LATE_SECONDS.labels("wave").observe(max(0.0, record["late_s"]) + took_s)
        return len(reached)

    async def _make(self, waves: dict[str, int], candidates: Sequence[str]) -> list[asyncpg.Record]:
        config = self._config
        made = await self._postgres.fetch(
            sql("pairing_waves"),
            list(waves),
            list(waves.values()),
            candidates,
            config.pairing_wave_size,
            config.pairing_wave_s,
            config.pairing_max_offers,
            config.mitra_max_open_offers,
        )
        self._bell.ring(mitras=(mitra_id for record in made for mitra_id in record["mitras"]))
        for record in made:
            metrics.OFFERS.inc(len(record["mitras"]))
            if record["mitras"] and record["first_offer_s"] is not None:
                metrics.PAIRING_FIRST_OFFER_SECONDS.observe(record["first_offer_s"])
        return made

    async def expire(self) -> int:
        """Ends the searches whose deadline is past; answers how many."""
        ended = await self._postgres.fetch(sql("pairings_expire"), LATE_S, EXPIRIES_AT_ONCE)
        for record in ended:
            metrics.PAIRINGS.labels(PairingStatus.EXPIRED).inc()
            metrics.TIMER_LATE_SECONDS.labels("pairing_expiry").observe(max(0.0, record["late_s"]))
        customers = [record["customer_id"] for record in ended]
        self._bell.ring(customers=customers, decided=[record["id"] for record in ended])
        return len(ended)


def _already_searching(pairing_id: str) -> Refused:
    why = "Another pairing of this customer is searching; cancel it first."
    return Refused(409, "pairing_open", why, members={"pairing_id": pairing_id})


def unknown_pairing() -> Refused:
    return Refused(404, "unknown_pairing", "There is no such pairing of this customer.")


def unknown_session() -> Refused:
    return Refused(404, "unknown_session", "There is no such session of this side.")


def wrong_state(what: str, state: str) -> Refused:
    return Refused(409, "wrong_state", f"The {what} is {state}: nothing was changed.", members={"state": state})

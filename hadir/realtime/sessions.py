"""Sessions and their chat: what the two sides, operators and time do to them."""

from __future__ import annotations

import uuid

from hadir import metrics
from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import Refused
from hadir.realtime.bell import Bell
from hadir.realtime.pairings import unknown_session, wrong_state
from hadir.realtime.payment import external_id
from hadir.realtime.session import TRANSITIONS, Event, Message, Session, SessionStatus, steps
from hadir.realtime.work import message_of, read_session

DUE_AT_ONCE = 500


class Sessions:
    """Every method raises `PostgresUnavailable`; then nothing was changed, or asking again finds what was."""

    def __init__(self, config: Config, postgres: Postgres, bell: Bell) -> None:
        self._config = config
        self._postgres = postgres
        self._bell = bell

    async def read(self, session_id: str, party: str | None = None) -> Session:
        """One session, for its customer or mitra (None: anybody). Raises `Refused` (404)."""
        session = await read_session(self._postgres, session_id)
        if session is None or party not in (None, session.customer_id, session.mitra_id):
            raise unknown_session()
        return session

    async def end(self, session_id: str, party: str | None, by: str, *, actor: str | None = None) -> Session:
        """Ends it for its customer or mitra (None: for the operator `actor`, whose act is put on record).

        Raises `Refused`: 404, or 409 where it is over.
        """
        possible, become = steps(Event.END)
        asked = session_id, party, possible, become, by, 0.0, 0, actor
        changed = await self._postgres.fetchrow(sql("session_change"), *asked)
        assert changed is not None
        if changed["outcome"] == "unknown":
            raise unknown_session()
        if changed["outcome"] == "refused":
            raise wrong_state("session", changed["state"])
        metrics.SESSIONS.labels(changed["state"]).inc()
        mitras = [changed["mitra_id"]]
        self._bell.ring(customers=[changed["customer_id"]], mitras=mitras, moved=mitras, over=[session_id])
        return await self.read(session_id)

    async def extension(self, session_id: str, customer_id: str) -> tuple[str, Session]:
        """The `external_id` with which the next extension is to be paid; the same until it is.

        Raises `Refused`: 404, or 409 where the session cannot be extended.
        """
        session = await self.read(session_id)
        if session.customer_id != customer_id:
            raise unknown_session()
        if (session.status, Event.EXTENDED) not in TRANSITIONS:
            raise wrong_state("session", session.status)
        return external_id(session_id, session.extensions + 1), session

    async def end_due(self) -> int:
        """Ends the sessions that time has ended; answers how many."""
        ended = await self._postgres.fetch(sql("sessions_due"), DUE_AT_ONCE)
        for record in ended:
            metrics.SESSIONS.labels(record["status"]).inc()
            timer = "payment_timeout" if record["status"] == SessionStatus.EXPIRED else "session_end"
            metrics.TIMER_LATE_SECONDS.labels(timer).observe(max(0.0, record["late_s"]))
        mitras = [record["mitra_id"] for record in ended]
        customers, over = [record["customer_id"] for record in ended], [record["id"] for record in ended]
        self._bell.ring(customers=customers, mitras=mitras, moved=mitras, over=over)
        return len(ended)

    async def send(self, session_id: str, sender: str, client_id: str, body: str) -> Message:
        """Stores a message of one of the two sides, once for each `client_id`, and answers it.

        Raises `Refused`: 404, or 409 where the session is not active.
        """
        asked = str(uuid.uuid4()), session_id, sender, client_id, body
        stored = await self._postgres.fetchrow(sql("chat_send"), *asked)
        assert stored is not None
        match stored["outcome"]:
            case "unknown":
                raise unknown_session()
            case "refused":
                raise wrong_state("session", stored["state"])
            case "stored":
                metrics.CHAT_MESSAGES.inc()
                self._bell.ring(customers=[stored["customer_id"]], mitras=[stored["mitra_id"]])
        record = await self._postgres.fetchrow(sql("message_by_id"), stored["message_id"])
        if record is None:
            raise Refused(404, "unknown_session", "The session and its messages are gone.")
        return message_of(record)

    async def messages(self, session_id: str, party: str, after: int, limit: int) -> tuple[list[Message], bool]:
        """Messages after a number, in order, and whether there are more. Raises `Refused` (404)."""
        await self.read(session_id, party)
        records = await self._postgres.fetch(sql("messages_after"), [session_id], [after], limit + 1)
        return [message_of(record) for record in records[:limit]], len(records) > limit

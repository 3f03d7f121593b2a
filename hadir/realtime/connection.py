"""One mitra socket's life: claim, register, hello, frames, fenced close."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from hadir import metrics
from hadir.config import Config
from hadir.errors import HadirError, PostgresUnavailable, Refused, ValkeyUnavailable
from hadir.realtime.appconfig import AppConfig
from hadir.realtime.dialogue import Dialogue
from hadir.realtime.messages import MITRA_SENDS, CloseCode, Command, encode, ending, error
from hadir.realtime.mirror import Mirror
from hadir.realtime.pairing import OfferStatus
from hadir.realtime.party import Desk, Party
from hadir.realtime.peer import Login, Verify, greeting_of, new_dialogue
from hadir.realtime.presence import Claim, Close, Outcome, Reclaim, Row, SetStatus, Standing, standing
from hadir.realtime.registry import Registry
from hadir.realtime.told import Work
from hadir.realtime.transitions import Result, Transitions
from hadir.realtime.work import WorkReader

log = logging.getLogger(__name__)

CLAIM_WAIT_S = 3.0


class Connection(Party):
    """One socket of one mitra, and where it stands by the mitra's row."""

    __slots__ = ("_early", "connection_id", "owner", "reclaiming", "row", "sockets")

    kind = "mitra"
    lists = ("offers", "sessions")

    def __init__(self, sockets: MitraSockets, login: Login, session: Dialogue, desk: Desk) -> None:
        super().__init__(login, session, sockets.verify, desk)
        self.sockets = sockets
        self.connection_id = secrets.token_hex(8)
        self.owner = f"{sockets.instance_id} {self.connection_id}"
        self.row: Row | None = None
        """The newest row heard of since the claim; None while the claim is pending."""
        self.reclaiming = False
        self._early: Row | None = None

    @property
    def mitra_id(self) -> str:
        return self.subject_id

    def hello(self) -> str:
        common = greeting_of(self.sockets.config, self.session)
        return encode("hello", connection_id=self.connection_id, **common, state=self.state())

    def state(self) -> dict[str, Any]:
        row = self.row
        presence = {
            "online": row is not None and row.is_online,
            "wants_online": row is not None and row.wants_online,
            "pending": row is None,
        }
        return {**presence, **super().state(), "config": self.sockets.app_config.public()}

    def carry_out(self, command: Command) -> None:
        if self.row is None:
            self.send(error("unavailable", "Nobody could check this connection's login yet; ask again.", re=command.id))
        else:
            super().carry_out(command)

    def send_state(self, re: str | None) -> None:
        if self.row is None:
            self.tell_state(re)
        else:
            super().send_state(re)

    def hear_work(self, work: Work) -> None:
        if self.row is None:
            return  # its login is still to be checked; once it is, everything is read
        if not self.row.wants_online:
            work = replace(work, offers=[each for each in work.offers if each.status is not OfferStatus.OPEN])
        super().hear_work(work)

    def change_status(self, online: bool, re: str | None) -> None:
        self.sockets.change_status(self, online, re)

    def beat(self, kind: str) -> None:
        metrics.SOCKET_BEATS[kind].more += 1
        if self.row is not None and self.row.instance_id is None:
            self.sockets.reclaim([self])  # again: when it was heard of, it may not have been possible
        self.sockets.beaten(self)

    def ended(self, code: int | None) -> None:
        was_gone = self.gone
        super().ended(code)
        if not was_gone:
            self.sockets.ended(self, code)

    def claimed(self, row: Row) -> None:
        """The claim is committed and mirrored; what was heard of the mitra meanwhile counts where it is newer."""
        told_pending = self.row is None and self.started
        self._know(row)
        self._stand(standing(row, self.connection_id, self.sid))  # a claim that had to wait may have come too late
        if told_pending:
            self.send_state(None)
        self.sockets.beaten(self)
        if self._early is not None:
            self.hear(self._early)
            self._early = None

    def hear(self, row: Row) -> None:
        """A presence row of this mitra, from whichever way it came; older ones than the known change nothing."""
        known = self.row
        if known is None:
            if self._early is None or row.version > self._early.version:
                self._early = row
        elif row.version > known.version:
            self._know(row)
            self._stand(standing(row, self.connection_id, self.sid))
            if (row.is_online, row.wants_online) != (known.is_online, known.wants_online):
                self.send_state(None)
            elif row.open_sessions != known.open_sessions:
                self.desk.read_again(self)  # whoever moved them

    def learn(self, row: Row) -> None:
        """A row of which the app need not be told."""
        if self.row is None or row.version > self.row.version:
            wanted = self.row is not None and self.row.wants_online
            self._know(row)
            if row.wants_online and not wanted:
                self.desk.read_again(self)  # offers that are open all the same

    def _know(self, row: Row) -> None:
        self.row = row
        if (row.connection_id, row.instance_id, row.sid) == (self.connection_id, self.sockets.instance_id, self.sid):
            # What they have in common is kept once: there are tens of thousands of them.
            self.row = replace(
                row,
                mitra_id=self.mitra_id,
                sid=self.sid,
                connection_id=self.connection_id,
                instance_id=self.sockets.instance_id,
            )
        if not row.wants_online:
            self.told.withhold_offers()

    def answered(self, row: Row) -> None:
        """What Postgres had when this connection asked it for something."""
        if self.row is not None and row.version < self.row.version:
            # It has lost its last seconds, our claim among them: the app must come again.
            self.close(CloseCode.RESTARTING)
        else:
            self.hear(row)

    @property
    def wants_online(self) -> bool:
        """Whether its beats belong into the mirror."""
        return self.row is not None and self.row.wants_online and not self.gone

    def _stand(self, place: Standing) -> None:
        match place:
            case Standing.SUPERSEDED:
                self.close(CloseCode.SUPERSEDED)
            case Standing.DISPLACED:
                self.close(CloseCode.DISPLACED)
            case Standing.DEACTIVATED:
                self.close(CloseCode.DEACTIVATED)
            case Standing.ASLEEP:
                self.sockets.reclaim([self])
            case Standing.OWNER:
                pass


class MitraSockets:
    """Opens and ends mitra connections; `draining` refuses new ones."""

    def __init__(
        self,
        config: Config,
        instance_id: str,
        transitions: Transitions,
        mirror: Mirror,
        registry: Registry[Connection],
        work: WorkReader,
        app_config: AppConfig,
        *,
        postgres_available: Callable[[], bool],
        verify: Verify,
    ) -> None:
        self.config = config
        self.instance_id = instance_id
        self.verify = verify
        self.draining = False
        self._transitions = transitions
        self._mirror = mirror
        self._registry = registry
        self._work = work
        self.app_config = app_config
        self._postgres_available = postgres_available
        self._pending = 0
        self.beaten: Callable[[Connection], None] = lambda connection: None

    async def admit(self, login: Login, wants_online: bool | None, desk: Desk) -> Connection:
        """Claims the row for a new connection and registers it. Raises `Refused`, holding nothing.

        Registered before the claim: whatever is said of the mitra from now on is heard. The caller must call
        `Connection.ended` in the end, whatever happens.
        """
        now = time.monotonic()
        connection = Connection(self, login, new_dialogue(self.config, login, now, MITRA_SENDS), desk)
        after_outage = not self._postgres_available()
        claim = Claim(connection.connection_id, self.instance_id, login.sid, wants_online, after_outage)
        future = self._transitions.submit(login.subject_id, claim, at=now, durable=True)
        self._registry.add(connection)
        try:
            await asyncio.wait([future], timeout=0 if after_outage else CLAIM_WAIT_S)
            if future.done():
                self._settle(connection, future.result())
                await self._read_work(connection)
            else:
                await self._admit_pending(connection, future)
        except BaseException:
            connection.ended(None)
            raise
        return connection

    async def _read_work(self, connection: Connection) -> None:
        """Behind the claim, and heard of since before it: no offer falls between."""
        try:
            connection.hear_work(await self._work.submit("mitra", connection.told))
        except (PostgresUnavailable, Refused):
            connection.desk.read_again(connection)  # it is told as soon as it can be read

    async def _admit_pending(self, connection: Connection, future: asyncio.Future[Result]) -> None:
        """Postgres is away. A mitra that a warm mirror does not know as deactivated is let in, unclaimed."""
        try:
            deactivated = await self._mirror.is_deactivated(connection.mitra_id)
        except ValkeyUnavailable:
            deactivated = None
        if deactivated is None:
            raise Refused(503, "unavailable", "Nobody can be checked at the moment.", retry_after=2)
        if deactivated:
            raise Refused(403, "deactivated", "This mitra is deactivated.")
        self._pending += 1
        metrics.PENDING_CONNECTIONS.set(self._pending)
        future.add_done_callback(lambda done: self._claimed_late(connection, done))

    def _claimed_late(self, connection: Connection, future: asyncio.Future[Result]) -> None:
        self._pending -= 1
        metrics.PENDING_CONNECTIONS.set(self._pending)
        if future.cancelled():
            return
        if future.exception() is not None:
            connection.close(CloseCode.RESTARTING)
            return
        try:
            self._settle(connection, future.result())
        except Refused as refusal:
            known = {"deactivated": CloseCode.DEACTIVATED}
            connection.close(known.get(refusal.code, CloseCode.REVOKED))

    def _settle(self, connection: Connection, result: Result) -> None:
        match result.outcome:
            case Outcome.UNKNOWN_SUBJECT:
                raise Refused(403, "unknown_subject", "The token's sub is no mitra that is known here.")
            case Outcome.DEACTIVATED:
                raise Refused(403, "deactivated", "This mitra is deactivated.")
            case Outcome.REVOKED:
                raise Refused(401, "revoked", "The token's login (sid) is revoked, expired or unknown.")
        assert result.row is not None
        connection.claimed(result.row)

    def ended(self, connection: Connection, code: int | None) -> None:
        """Removes a connection and enqueues its fenced close: it changes only a row that it still owns."""
        self._registry.remove(connection)
        now = time.monotonic()
        closing = connection.session.closing
        offline, reason = ending(code if closing is None else closing, ours=closing is not None)
        beat_age = 0.0 if reason == "goodbye" else now - connection.session.last_beat
        close = Close(connection.connection_id, offline, reason, beat_age)
        future = self._transitions.submit(connection.mitra_id, close, at=now, durable=True, must=True)
        future.add_done_callback(_heed)

    def reclaim(self, connections: Iterable[Connection]) -> None:
        """Owners that were taken for gone take their rows back, if they still own them."""
        for connection in connections:
            # Never after its close was enqueued: a reclaim must not raise the dead.
            if connection.reclaiming or connection.row is None or connection.gone:
                continue
            if time.monotonic() - connection.session.last_beat >= self.config.heartbeat_stale_s:
                continue
            event = Reclaim(connection.connection_id, self.instance_id, connection.sid)
            try:
                at = connection.session.last_beat
                future = self._transitions.submit(connection.mitra_id, event, at=at, durable=True)
            except Refused:
                continue  # its next beat is a stranger's again, and asks again
            connection.reclaiming = True
            future.add_done_callback(partial(self._reclaimed, connection))

    def _reclaimed(self, connection: Connection, future: asyncio.Future[Result]) -> None:
        connection.reclaiming = False
        if future.cancelled() or future.exception() is not None:
            return
        result = future.result()
        metrics.RECLAIMS.labels(result.outcome.value).inc()
        if result.outcome is Outcome.REVOKED or result.row is None:
            connection.close(CloseCode.REVOKED)
        else:
            connection.answered(result.row)

    def change_status(self, connection: Connection, online: bool, re: str | None) -> None:
        event = SetStatus(connection.connection_id, online)
        try:
            future = self._transitions.submit(connection.mitra_id, event)
        except HadirError as refusal:
            connection.send(encode("error", code="unavailable", message=str(refusal), re=re))
            return
        future.add_done_callback(lambda done: self._status_changed(connection, done, re))

    def _status_changed(self, connection: Connection, future: asyncio.Future[Result], re: str | None) -> None:
        if future.cancelled():
            return
        problem = future.exception()
        if problem is not None:
            connection.send(encode("error", code="unavailable", message=str(problem), re=re))
            return
        result = future.result()
        if result.row is None:
            connection.close(CloseCode.REVOKED)
        elif result.outcome in (Outcome.DONE, Outcome.UNCHANGED):
            connection.learn(result.row)
            connection.send(encode("ack", re=re))
            self.beaten(connection)
        else:
            connection.answered(result.row)
            why = "The row was not this connection's at the moment; ask again."
            connection.send(encode("error", code="unavailable", message=why, re=re))


def _heed(future: asyncio.Future[Result]) -> None:
    """Nobody waits for a close; one that failed is logged where it failed."""
    if not future.cancelled():
        future.exception()

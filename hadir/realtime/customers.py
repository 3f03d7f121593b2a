"""Customers' sockets: the same events as their requests hear of, without a presence."""

from __future__ import annotations

import secrets
import time
from types import TracebackType
from typing import Any, Self

from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import Refused
from hadir.realtime.appconfig import AppConfig
from hadir.realtime.batcher import Batcher
from hadir.realtime.dialogue import Dialogue
from hadir.realtime.messages import CUSTOMER_SENDS, encode
from hadir.realtime.party import Desk, Party
from hadir.realtime.peer import Login, Verify, greeting_of, new_dialogue
from hadir.realtime.registry import Registry
from hadir.realtime.work import WorkReader

DEVICES_MAX = 8
CHECKED_AT_ONCE = 500
QUEUE_MAX = 50_000


class Customer(Party):
    """One socket of one customer, who may have several."""

    __slots__ = ("connection_id", "sockets")

    kind = "customer"
    lists = ("pairings", "sessions")

    def __init__(self, sockets: CustomerSockets, login: Login, session: Dialogue, desk: Desk) -> None:
        super().__init__(login, session, sockets.verify, desk)
        self.sockets = sockets
        self.connection_id = secrets.token_hex(8)

    def hello(self) -> str:
        common = greeting_of(self.sockets.config, self.session)
        return encode("hello", connection_id=self.connection_id, **common, state=self.state())

    def state(self) -> dict[str, Any]:
        return super().state() | {"config": self.sockets.app_config.public()}

    def ended(self, code: int | None) -> None:
        was_gone = self.gone
        super().ended(code)
        if not was_gone:
            self.sockets.registry.remove(self)


class CustomerSockets:
    """Opens customers' sockets. Logins are checked, and work is read, for all who connect at the moment at once."""

    def __init__(
        self,
        config: Config,
        postgres: Postgres,
        registry: Registry[Customer],
        work: WorkReader,
        app_config: AppConfig,
        *,
        verify: Verify,
    ) -> None:
        self.config = config
        self.registry = registry
        self.app_config = app_config
        self.verify = verify
        self._postgres = postgres
        self._work = work
        self._logins: Batcher[Login, bool | None] = Batcher(
            "logins", self._check, flush_max=CHECKED_AT_ONCE, queue_max=QUEUE_MAX
        )

    async def __aenter__(self) -> Self:
        await self._logins.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._logins.__aexit__(kind, error, trace)

    async def admit(self, login: Login, desk: Desk) -> Customer:
        """Registered before anything is read: whatever changes from now on is heard.

        Raises `Refused` and `PostgresUnavailable`, holding nothing. The caller must call `Peer.ended` in the end.
        """
        if len(self.registry.of(login.subject_id)) >= DEVICES_MAX:
            raise Refused(429, "too_many", f"A customer may have at most {DEVICES_MAX} sockets.", retry_after=5)
        customer = Customer(self, login, new_dialogue(self.config, login, time.monotonic(), CUSTOMER_SENDS), desk)
        self.registry.add(customer)
        try:
            known = await self._logins.submit(login, key=login)
            if known is None:
                raise Refused(401, "revoked", "The token's login (sid) is revoked, expired or unknown.")
            if not known:
                raise Refused(403, "unknown_subject", "The token's sub is no customer that is known here.")
            customer.hear_work(await self._work.submit("customer", customer.told))
        except BaseException:
            customer.ended(None)
            raise
        return customer

    async def _check(self, logins: list[Login]) -> list[bool | None]:
        """Whether the customer is known; None where the login is not good."""
        sids, subjects = [each.sid for each in logins], [each.subject_id for each in logins]
        records = await self._postgres.fetch(sql("customer_logins"), sids, subjects)
        found = {record["id"]: record["known"] for record in records}
        return [found.get(each.sid) for each in logins]

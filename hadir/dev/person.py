"""What simulated mitras and customers have in common: a login, an app, and ears."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, ClassVar

from hadir.client import Counters, Ended, Event, Failed
from hadir.client.app import App
from hadir.dev import rules
from hadir.dev.accounts import create_account
from hadir.dev.told import Over, Role, What, answer, read
from hadir.dev.world import World
from hadir.http import auth

TOKEN_TTL_S = 900.0
STALE_GUESS_S = 60.0


def total(many: Iterable[Counters]) -> Counters:
    listed = list(many)
    return Counters(**{each.name: sum(map(attrgetter(each.name), listed)) for each in fields(Counters)})


def stale_s(app: App) -> float:
    """After this long a silence the server takes the app for gone."""
    return STALE_GUESS_S if app.hello is None else float(app.hello["stale_after_s"])


class Person:
    """Somebody with an account, whose apps come one after the other."""

    ROLE: ClassVar[Role]

    def __init__(self, world: World, person_id: str) -> None:
        self._world = world
        self._sid: str | None = None
        self._app: App | None = None
        self._earlier = Counters()
        self.person_id = person_id

    async def log_in(self) -> None:
        """Makes the person and its login, where they are not there yet. Raises `PostgresUnavailable`."""
        if self._sid is None:
            async with self._world.postgres.acquire() as connection:
                self._sid = await create_account(connection, self.ROLE, self.person_id)

    @property
    def counters(self) -> tuple[Counters, ...]:
        """Of the earlier apps together, and of the present one."""
        return (self._earlier,) if self._app is None else (self._earlier, self._app.counters)

    def _opens(self, app: App) -> None:
        self._app = app

    def _closes(self, app: App) -> None:
        self._app = None
        self._earlier = total([self._earlier, app.counters])

    def _hears(self, message: Mapping[str, Any]) -> list[What]:
        """What a message of the socket tells; it is judged and counted."""
        return self._take_in(read(message), str(message.get("type")))

    def _reads(self, fields: Mapping[str, Any]) -> list[What]:
        """The same of an HTTP answer."""
        return self._take_in(answer(fields), "answer")

    def _take_in(self, told: Iterator[tuple[Over, What]], kind: str) -> list[What]:
        return self._world.witness.take_in(self.person_id, self.ROLE, told, kind, time.monotonic())

    def _happened(self, event: Event) -> None:
        self._world.tally.heard(event)
        wrong = None
        if isinstance(event, Ended) and self._app is not None:
            wrong = rules.ending(event, stale_s(self._app))
        elif isinstance(event, Failed) and event.close_code is not None:
            wrong = rules.close_code(event.close_code)
        if wrong is not None:
            self._world.tally.take_down(wrong, wrong.found)

    async def _token(self) -> str:
        return auth.mint(self._world.config, self.ROLE, self.person_id, self._sid or "", TOKEN_TTL_S)

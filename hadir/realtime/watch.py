"""Who watches: a dashboard's socket, or a stream of events; both are told the same, and know how far they were."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

from hadir.realtime.dialogue import Dialogue
from hadir.realtime.messages import CloseCode
from hadir.realtime.peer import Login, Peer, Verify


@dataclass(frozen=True, slots=True)
class Mark:
    """How much was told: readings of the counts, entries of the activity, changes of mitras."""

    counts: int = 0
    activity: int = 0
    changes: int = 0


class Source(Protocol):
    """What watchers hang on."""

    @property
    def mark(self) -> Mark:
        """What those who read have been told."""

    def hello(self, watcher: Watcher) -> str: ...

    def state(self, re: str | None) -> str: ...

    def wake(self) -> None:
        """Somebody may be told something now."""

    def remove(self, watcher: Watcher) -> None: ...


class Watcher(Peer):
    """A dashboard's socket. While it does not read, it is not sent anything: its mark stays behind."""

    __slots__ = ("_source", "asked", "checked", "not_before", "re", "recounted", "told")

    kind = "dashboard"

    def __init__(self, source: Source, login: Login, session: Dialogue, verify: Verify, *, checked: bool) -> None:
        super().__init__(login, session, verify)
        self._source = source
        self.checked = checked
        """Whether Postgres could be asked for its login; else it is asked as soon as it can be."""
        self.told = Mark()
        self.recounted = False
        """It missed changes, and was told the counts first."""
        self.not_before = -math.inf
        """When it may be sent its next frame (monotonic): `hello` is one as well."""
        self.asked = False
        """It said `sync`: its next frame is the answer, to the last `id` (`re`) of several."""
        self.re: str | None = None

    def hello(self) -> str:
        self.told = self._source.mark
        return self._source.hello(self)

    def send_state(self, re: str | None) -> None:
        self.asked, self.re = True, re
        self._source.wake()

    def answer(self) -> None:
        """What was asked for: all as it is, but for who changed, which is still to be told."""
        mark, self.asked = self._source.mark, False
        self.told, self.recounted = replace(mark, changes=self.told.changes), self.told.changes != mark.changes
        self.send(self._source.state(self.re))

    def sent(self) -> None:
        if self.told != self._source.mark:
            self._source.wake()

    def ended(self, code: int | None) -> None:
        super().ended(code)
        self._source.remove(self)


class Stream(Watcher):
    """One that only listens: it cannot beat, renew its token or be asked to go elsewhere."""

    __slots__ = ()

    def rotate(self, now: float, after_s: float, reason: str) -> None:
        self.close(CloseCode.RESTARTING)


def silent_dialogue(login: Login, now: float) -> Dialogue:
    """Of somebody who says nothing: only the token ends it."""
    token_ends = now + login.ends_in_s
    return Dialogue(now, takes=frozenset(), stale_s=math.inf, token_ends=token_ends, rotate_at=math.inf)

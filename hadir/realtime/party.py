"""What sockets of mitras and of customers share: what they were told of their work, and commands about it."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, ClassVar, Protocol

from hadir.realtime.dialogue import Dialogue
from hadir.realtime.messages import Command, encode, error
from hadir.realtime.peer import Link, Login, Peer, Verify, utc_now
from hadir.realtime.told import Told, Work

COMMANDS_MAX = 20
"""Commands of one socket that wait for those before them: the budget's burst."""


class Desk(Protocol):
    """What parties need of the house; all but `answer` return at once."""

    async def answer(self, party: Party, command: Command) -> Sequence[str]:
        """The frames that answer a command, once it is decided."""

    def spawn(self, work: Coroutine[None, None, None]) -> None: ...

    def delivered(self, mitra_id: str, pairing_ids: Iterable[str]) -> None:
        """These offers were sent to their mitra."""

    def read_again(self, party: Party) -> None:
        """Reads the party's work and has it heard."""

    def sync(self, party: Party, re: str | None) -> None:
        """The same; then the party tells its state, also where nothing could be read."""


class Party(Peer):
    """A socket whose commands are carried out one after the other, and which is told what concerns its work."""

    __slots__ = ("_commands", "_working", "desk", "told")

    lists: ClassVar[tuple[str, ...]]
    """What its state has of its work."""

    def __init__(self, login: Login, session: Dialogue, verify: Verify, desk: Desk) -> None:
        super().__init__(login, session, verify)
        self.desk = desk
        self.told = Told(login.subject_id)
        self._commands: deque[Command] | None = None
        self._working = False

    def state(self) -> dict[str, Any]:
        """The truth that an app rebuilds itself from, as it is known here."""
        return dict(self.told.state(self.lists))

    def start(self, link: Link) -> None:
        super().start(link)
        if self.told.offers:
            self.desk.delivered(self.subject_id, self.told.offers)

    def send_state(self, re: str | None) -> None:
        self.desk.sync(self, re)

    def tell_state(self, re: str | None) -> None:
        self.send(encode("sync", re=re, server_time=utc_now(), state=self.state()))

    def hear_work(self, work: Work) -> None:
        """A reading of this party's work, from whichever way it came. Before `hello` there is nothing to send."""
        news = self.told.hear(work)
        for frame in news.frames:
            self.send(frame)
        if news.offered and self.started:
            self.desk.delivered(self.subject_id, news.offered)
        if news.behind:
            self.desk.read_again(self)

    def carry_out(self, command: Command) -> None:
        if self._commands is None:
            self._commands = deque()
        if len(self._commands) >= COMMANDS_MAX:
            why = f"At most {COMMANDS_MAX} messages may wait for those before them."
            self.send(error("overloaded", why, re=command.id))
            return
        self._commands.append(command)
        if not self._working:
            self._working = True
            self.desk.spawn(self._work(self._commands))

    async def _work(self, commands: deque[Command]) -> None:
        """Goes on when the socket is gone: what an app has said, it has said."""
        try:
            while commands:
                for frame in await self.desk.answer(self, commands.popleft()):
                    self.send(frame)
        finally:
            self._working = False

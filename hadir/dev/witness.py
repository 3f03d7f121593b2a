"""Whatever simulated people are told passes here: it is judged, counted, and kept where somebody wants it."""

from __future__ import annotations

from collections.abc import Iterator

from hadir.dev.dealings import Dealings
from hadir.dev.history import History
from hadir.dev.ledger import Ledger
from hadir.dev.rules import Wrong
from hadir.dev.tally import Tally
from hadir.dev.told import Over, Role, Told, What


class Witness:
    """`history`: where to keep all of it."""

    def __init__(self, tally: Tally, dealings: Dealings, history: History | None = None) -> None:
        self._tally = tally
        self._ledger = Ledger()
        self._history = history
        self.dealings = dealings

    def take_in(self, who: str, role: Role, told: Iterator[tuple[Over, What]], kind: str, now: float) -> list[What]:
        """Answers what it was, one by one; nothing where it was not of the protocol."""
        try:
            parts = list(told)
        except (KeyError, TypeError, ValueError) as error:
            wrong = Wrong(f"the server's {kind} is not of the protocol: {error!r}", "what docs/protocol.md says")
            self._tally.take_down(wrong, wrong.found)
            return []
        for over, what in parts:
            self._note(Told(now, who, role, over, what))
        return [what for _, what in parts]

    def _note(self, told: Told) -> None:
        if self._history is not None:
            self._history.record(told)
        self.dealings.hear(told)
        for wrong in self._ledger.hear(told):
            self._tally.take_down(wrong, wrong.found)

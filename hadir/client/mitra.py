"""A mitra's app: online or not, offers, sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from hadir.client.app import App
from hadir.client.dialer import Token
from hadir.client.events import Event
from hadir.client.wire import Message


@dataclass(frozen=True, slots=True)
class OfferResult:
    """What became of an offer: `won`, `taken`, `expired`, `busy`, `withdrawn`, or `declined` by this mitra."""

    result: str
    session: Message | None = None
    """Where it was won."""


class MitraClient(App):
    """Keeps one mitra connected; for the other arguments see `App`.

    `status`: the command sent with the first connection; None leaves the intent that the server has stored.
    A `goodbye` takes the mitra offline at once; leaving without one, it is lost, and offline after the grace.
    """

    PATH = "/ws/mitra"

    def __init__(
        self,
        urls: str | Sequence[str],
        token: Token,
        *,
        status: bool | None = None,
        on_message: Callable[[Message], None] | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        beat: Literal["text", "control"] = "text",
        random: Random | None = None,
    ) -> None:
        super().__init__(urls, token, on_message=on_message, on_event=on_event, beat=beat, random=random)
        if status is not None:
            self._command = {"status": "online" if status else "offline"}

    async def set_status(self, online: bool) -> None:
        """Sets the intent; returns once the server has stored it."""
        self._command = {}
        await self._call("status", online=online)

    async def accept(self, pairing_id: str) -> OfferResult:
        """Wants the pairing. Asked again, the winner is told `won` again."""
        reply = await self._call("offer.accept", pairing_id=pairing_id)
        return OfferResult(str(reply["result"]), reply.get("session"))

    async def decline(self, pairing_id: str) -> OfferResult:
        """Does not want it: `declined`, or what had been decided before."""
        reply = await self._call("offer.decline", pairing_id=pairing_id)
        if reply["type"] == "ack":
            return OfferResult("declined")
        return OfferResult(str(reply["result"]), reply.get("session"))

    async def seen(self, pairing_id: str) -> None:
        """The offer has been shown to the mitra."""
        await self._call("offer.seen", pairing_id=pairing_id)

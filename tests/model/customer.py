"""Customers: they ask to be paired, again where they were not answered, cancel, pay, end, and want another mitra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hadir.errors import HadirError, StoreUnavailable
from hadir.realtime.pairing import Pairing
from tests.model.market import Work

if TYPE_CHECKING:
    from tests.model.world import Host, World

TRIES = 5


class Customer:
    """Requests go to any instance that is up."""

    def __init__(self, world: World, n: int) -> None:
        self.world = world
        self.id = f"{n:08x}-0000-4000-8000-00000000000c"
        world.truth.bazaar.customers.add(self.id)
        self._asked = 0

    def ask(self) -> None:
        self._asked += 1
        self._request("ask", str(self._asked), TRIES)

    def cancel(self) -> None:
        for search in self.world.truth.bazaar.searching.values():
            if search.customer_id == self.id:
                self._request("cancel", search.id, TRIES)

    def end(self) -> None:
        for work in self._open():
            self._request("end", work.id, TRIES)

    def reroute(self) -> None:
        for work in self._open():
            self._request("reroute", work.id, TRIES)

    def pay(self) -> None:
        for work in self._open():
            if work.status == "pending_payment":
                self.world.truth.pay(work, self.world.config.session_s)

    def _open(self) -> list[Work]:
        return [work for work in self.world.truth.bazaar.open.values() if work.customer_id == self.id]

    def _request(self, what: str, about: str, tries: int) -> None:
        host = self.world.some_host(self)
        if host is not None:
            host.spawn(self.world.moment(), self._send, host, what, about, tries)
        elif tries:
            self.world.after(2.0, self._request, what, about, tries - 1)

    async def _send(self, host: Host, what: str, about: str, tries: int) -> None:
        try:
            made = await self._do(host, what, about)
        except StoreUnavailable:
            if tries:
                self.world.after(2.0, self._request, what, about, tries - 1)
        except HadirError as refusal:
            self.world.note("customer", self.id, what, about, str(refusal))
        else:
            self.world.note("customer", self.id, what, about, made and made.id)

    async def _do(self, host: Host, what: str, about: str) -> Pairing | None:
        if host.node is None or host.node.state != "ready":
            raise StoreUnavailable("It does not serve.")
        market = host.node.market
        match what:
            case "ask":
                return await market.pairings.create(self.id, about, "")
            case "cancel":
                return await market.pairings.cancel(about, self.id)
            case "reroute":
                return await market.pairings.reroute(about, self.id)
        await market.sessions.end(about, self.id, "customer")
        return None

"""A pairing's life on real instances: offered, accepted by one, told to everybody."""

from __future__ import annotations

from hadir.dev.embedded import EmbeddedValkey
from tests.support.system import System


async def test_a_pairing_is_offered_accepted_paid_and_chatted_in(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        mitra, other, customer = await system.account(), await system.account(), await system.account("customer")
        phone, loser = await system.phone(first, mitra), await system.phone(second, other)
        app = await system.customer(second, customer)
        await system.available(first, 2)
        pairing = await system.pair(second, customer, "Kucing saya sakit")
        assert (await phone.message("offer"))["note"] == "Kucing saya sakit"
        await loser.message("offer")
        won = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
        assert (won["type"], won["result"], won["session"]["status"]) == ("offer.result", "won", "pending_payment")
        assert (await loser.message("offer.closed"))["reason"] == "taken"
        assert (await loser.ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "taken"
        assert (await phone.ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "won"
        assert (await app.message("pairing.updated"))["pairing"]["status"] == "searching"

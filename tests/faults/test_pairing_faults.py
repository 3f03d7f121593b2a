"""Pairings and sessions while a store or an instance is away: late, never lost, never half done."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.support import eventually
from tests.support.barriers import stopped
from tests.support.system import FAST, Account, Phone, Served, System

CALM = {"MITRA_HEARTBEAT_STALE_SECONDS": "60", "PAIRING_WAVE_SECONDS": "1"}
TOKEN = {"XENDIT_CALLBACK_TOKEN": "a-token-of-the-tests"}


async def test_with_valkey_frozen_an_offer_arrives_elsewhere_and_its_accept_wins(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        here, there = await system.instance(**CALM), await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone, app = await system.phone(there, mitra), await system.customer(here, customer)
        await system.available(here, 1)
        valkey.freeze()
        try:
            pairing = await system.pair(here, customer)
            waiting = asyncio.create_task(
                system.ask(here, customer, "GET", f"/api/pairings/{pairing['id']}?wait=25", timeout=30)
            )
            await phone.message("offer", within=10)
            won = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
            assert won["result"] == "won"
            told = (await waiting).json()
            assert (told["status"], told["mitra_id"]) == ("accepted", mitra.id)
            await eventually(lambda: [m for m in app.received if m["type"] == "session.updated"], 5)
            await pay(system, told["session_id"])
            await session_of(phone, "active")
            await app.send(type="chat.send", session_id=told["session_id"], client_id="1", body="Halo")
            assert (await phone.message("chat.message"))["message"]["body"] == "Halo"
        finally:
            valkey.thaw()
        await eventually(lambda: not here.node.degraded(), 10)  # type: ignore[union-attr]
        await system.available(here, 0)


async def test_with_postgres_away_everything_is_refused_and_nothing_half_done(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url) as system:
        served = await system.instance(**CALM, **TOKEN)
        mitra, customer, stranger = (
            await system.account(),
            await system.account("customer"),
            await system.account("customer"),
        )
        phone = await system.phone(served, mitra)
        await system.available(served, 1)
        pairing = await system.pair(served, customer)
        await phone.message("offer")
        await own_postgres.stop()
        await eventually(lambda: not served.node.postgres.available)  # type: ignore[union-attr]
        for method, path, headers in (
            ("POST", "/api/pairings", {"Idempotency-Key": "1"}),
            ("DELETE", f"/api/pairings/{pairing['id']}", {}),
            ("GET", "/api/sessions", {}),
        ):
            answer = await system.ask(served, stranger, method, path, headers=headers)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), path
        event = {"id": "1", "external_id": str(uuid.uuid4()), "status": "PAID", "amount": 1}
        answer = await system.http.post(f"{served.url}/webhooks/xendit", headers=token(), json=event)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), "the provider comes again"
        refused = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
        assert (refused["type"], refused["code"]) == ("error", "unavailable")
        await own_postgres.start()
        await eventually(lambda: served.node.postgres.available, 10)  # type: ignore[union-attr]
        won = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
        assert won["result"] == "won"
        async with System(own_postgres.url, valkey.url) as after:
            assert await after.sql.fetchval("SELECT count(*) FROM pairings") == 1
            assert await after.sql.fetchval("SELECT count(*) FROM chat_sessions") == 1
            assert await after.sql.fetchval("SELECT count(*) FROM webhook_events") == 0


async def test_a_killed_instances_pairing_goes_on_at_the_others(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, {**FAST, **CALM}) as system:
        survivor, doomed = await system.instance(), await system.process()
        mitra, customer = await system.account(), await system.account("customer")
        pairing = await system.pair(doomed.served, customer)
        await doomed.kill()
        phone = await system.phone(survivor, mitra)
        await phone.message("offer", within=10)
        assert (await phone.ask(type="offer.accept", pairing_id=pairing["id"]))["result"] == "won"


async def test_what_another_program_writes_is_told_within_seconds(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone, app = await system.phone(served, mitra), await system.customer(served, customer)
        await system.available(served, 1)
        pairing_id = str(uuid.uuid4())
        await system.sql.execute(
            "INSERT INTO pairings (id, customer_id, expires_at, next_wave_at) "
            "VALUES ($1, $2, now() + interval '1 minute', now() + interval '1 minute')",
            pairing_id,
            customer.id,
        )
        await system.sql.execute(
            "INSERT INTO pairing_offers (pairing_id, mitra_id, wave) VALUES ($1, $2, 1)", pairing_id, mitra.id
        )
        assert (await phone.message("offer"))["pairing_id"] == pairing_id
        assert (await app.message("pairing.updated"))["pairing"]["id"] == pairing_id
        won = await phone.ask(type="offer.accept", pairing_id=pairing_id)
        await session_of(app, "pending_payment")
        await system.sql.execute("UPDATE chat_sessions SET status = 'ended' WHERE id = $1", won["session"]["id"])
        for side in (phone, app):
            assert (await session_of(side, "ended"))["end_reason"] == "external"
        await system.available(served, 1)


async def session_of(side: Phone, status: str) -> dict[str, object]:
    """The session as a socket was told of it in this state."""

    def told() -> dict[str, object] | None:
        updates = (m["session"] for m in side.received if m["type"] == "session.updated")
        return next((each for each in updates if each["status"] == status), None)

    found: dict[str, object] = await eventually(told)
    return found


async def pay(system: System, session_id: str) -> None:
    """As another program would that takes payments."""
    await system.sql.execute(
        "UPDATE chat_sessions SET status = 'active', expires_at = now() + interval '1 hour' WHERE id = $1", session_id
    )


def token() -> dict[str, str]:
    return {"x-callback-token": TOKEN["XENDIT_CALLBACK_TOKEN"]}


async def test_a_statement_that_postgres_stops_is_answered_and_ends_nobody_else(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        name = database.rpartition("/")[2]
        await system.sql.execute(f"ALTER DATABASE {name} SET statement_timeout = '1s'")
        served = await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone, app = await system.phone(served, mitra), await system.customer(served, customer)
        session = await won(system, served, customer, phone)
        await pay(system, session)
        await session_of(app, "active")
        async with system.sql.transaction():
            await system.sql.execute("SELECT FROM chat_sessions WHERE id = $1 FOR UPDATE", session)
            refused = await app.ask(type="chat.send", session_id=session, client_id="1", body="Halo")
            assert (refused["type"], refused["code"]) == ("error", "unavailable")
        answered = await app.ask(type="chat.send", session_id=session, client_id="1", body="Halo")
        assert answered["message"]["seq"] == 1
        assert (await phone.ask(type="ping"))["type"] == "pong"


async def test_a_defect_met_by_one_message_is_told_and_ends_nobody(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone = await system.phone(served, mitra)
        session = await won(system, served, customer, phone)
        await pay(system, session)
        await system.sql.execute("ALTER TABLE chat_messages RENAME COLUMN body TO text")
        refused = await phone.ask(type="chat.send", session_id=session, client_id="1", body="Halo")
        assert (refused["type"], refused["code"]) == ("error", "internal")
        await system.sql.execute("ALTER TABLE chat_messages RENAME COLUMN text TO body")
        assert (await phone.ask(type="chat.send", session_id=session, client_id="1", body="Halo"))["type"] == "ack"


async def test_whose_login_could_not_be_checked_yet_neither_hears_nor_does_anything(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url) as system:
        served = await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone = await system.phone(served, mitra)
        session = await won(system, served, customer, phone)
        await pay(system, session)
        await phone.goodbye()
        await system.becomes(mitra, "offline")
        async with system.sql.transaction():  # whoever holds the row keeps the claim waiting
            await system.sql.execute("SELECT FROM mitra_presence WHERE mitra_id = $1 FOR UPDATE", mitra.id)
            pending = await system.phone(served, mitra)
            assert (pending.hello["state"]["pending"], pending.hello["state"]["sessions"]) == (True, [])
            refused = await pending.ask(type="chat.send", session_id=session, client_id="1", body="Halo")
            assert (refused["type"], refused["code"]) == ("error", "unavailable")
            assert (await pending.ask(type="sync"))["state"]["sessions"] == []
        told = await pending.message("sync")
        await eventually(lambda: [m for m in pending.received if m["type"] == "sync" and not m["state"]["pending"]], 10)
        assert told["state"]["pending"]
        assert [each["id"] for each in (await pending.ask(type="sync"))["state"]["sessions"]] == [session]


async def test_who_handed_a_session_over_hears_nothing_that_is_said_afterwards(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        mitra, other, customer = await system.account(), await system.account(), await system.account("customer")
        phone = await system.phone(served, mitra)
        session = await won(system, served, customer, phone)
        await pay(system, session)
        await session_of(phone, "active")
        # In one transaction, as the events of both may arrive at once.
        async with system.sql.transaction():
            await system.sql.execute("UPDATE chat_sessions SET mitra_id = $2 WHERE id = $1", session, other.id)
            message = str(uuid.uuid4())
            stored = "SELECT outcome FROM chat_send($1, $2, $3, '1', 'Rahasia')"
            assert await system.sql.fetchval(stored, message, session, customer.id) == "stored"

        def handed_over() -> bool:
            updates = [m["session"] for m in phone.received if m["type"] == "session.updated"]
            return bool(updates[-1]["mitra_id"] == other.id)

        await eventually(handed_over, 10)
        assert [m for m in phone.received if m["type"] == "chat.message"] == []
        assert (await phone.ask(type="sync"))["state"]["sessions"] == []


async def test_what_is_deleted_is_in_no_state_any_more(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone, app = await system.phone(served, mitra), await system.customer(served, customer)
        session = await won(system, served, customer, phone)
        await session_of(app, "pending_payment")
        await system.sql.execute("DELETE FROM chat_sessions WHERE id = $1", session)
        assert (await app.ask(type="sync"))["state"]["sessions"] == []


async def test_a_message_that_somebody_deleted_keeps_nobody_reading(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone, app = await system.phone(served, mitra), await system.customer(served, customer)
        session = await won(system, served, customer, phone)
        await pay(system, session)
        await session_of(app, "active")
        await system.sql.execute("UPDATE chat_sessions SET last_seq = 3 WHERE id = $1", session)
        await eventually(lambda: app.ask(type="sync"))
        sent = await phone.ask(type="chat.send", session_id=session, client_id="1", body="Halo")
        assert sent["message"]["seq"] == 4
        assert (await app.message("chat.message"))["message"]["seq"] == 4
        assert not served.node.feed._work_of["customer"]  # type: ignore[union-attr]


async def test_payments_and_ends_of_others_do_not_wait_for_a_session_that_somebody_holds(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM, **TOKEN)
        mitra, customer, other = (
            await system.account(),
            await system.account("customer"),
            await system.account("customer"),
        )
        await system.sql.execute("UPDATE mitras SET max_sessions = 2")
        phone = await system.phone(served, mitra)
        held = await won(system, served, customer, phone)
        pairing = await system.pair(served, other)
        await eventually(lambda: [m for m in phone.received if m.get("pairing_id") == pairing["id"]])
        free = (await phone.ask(type="offer.accept", pairing_id=pairing["id"]))["session"]["id"]
        async with system.sql.transaction():
            await system.sql.execute("SELECT FROM chat_sessions WHERE id = $1 FOR UPDATE", held)
            for number, session in enumerate([held, held, free]):
                event = {"id": str(number), "external_id": session, "status": "PAID", "amount": 1}
                answer = await system.http.post(f"{served.url}/webhooks/xendit", headers=token(), json=event)
                assert answer.status_code == 200
            await eventually(lambda: [m for m in phone.received if m["type"] == "session.updated"][-1:], 5)
            assert (await session_of(phone, "active"))["id"] == free
        await eventually(lambda: held in [m["session"]["id"] for m in phone.received if is_active(m)], 5)


def is_active(message: dict[str, Any]) -> bool:
    return bool(message["type"] == "session.updated" and message["session"]["status"] == "active")


async def test_what_could_not_be_read_when_it_was_rung_is_told_when_it_can(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        name = database.rpartition("/")[2]
        await system.sql.execute(f"ALTER DATABASE {name} SET statement_timeout = '500ms'")
        served = await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone, app = await system.phone(served, mitra), await system.customer(served, customer)
        session = await won(system, served, customer, phone)
        await session_of(app, "pending_payment")
        # Readings for sockets meet this table, what finds changes does not.
        async with system.sql.transaction():
            await system.sql.execute("LOCK TABLE mitras IN ACCESS EXCLUSIVE MODE")
            async with System(database, valkey.url) as another:
                await another.sql.execute("UPDATE chat_sessions SET status = 'ended' WHERE id = $1", session)
            feed = served.node.feed  # type: ignore[union-attr]
            await eventually(lambda: feed._work_of["customer"], 10)
        assert (await session_of(app, "ended"))["id"] == session


async def test_a_receipt_of_an_offer_that_somebody_holds_waits_and_the_others_do_not(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        one, two = await system.account(), await system.account()
        phones = [await system.phone(served, each) for each in (one, two)]
        await system.available(served, 2)
        pairing = await system.pair(served, await system.account("customer"))
        for phone in phones:
            await phone.message("offer")

        async def seen(mitra: Account) -> bool:
            asked = "SELECT seen_at IS NOT NULL FROM pairing_offers WHERE mitra_id = $1"
            return bool(await system.sql.fetchval(asked, mitra.id))

        async with system.sql.transaction():
            await system.sql.execute("SELECT FROM pairing_offers WHERE mitra_id = $1 FOR UPDATE", one.id)
            waiting = asyncio.create_task(phones[0].ask(type="offer.seen", pairing_id=pairing["id"]))
            assert (await phones[1].ask(type="offer.seen", pairing_id=pairing["id"]))["type"] == "ack"
            assert await seen(two)
            assert not waiting.done(), "what is acknowledged is written"
        assert (await waiting)["type"] == "ack"
        assert await seen(one)


async def test_who_wants_offers_again_is_told_those_that_are_open_whoever_said_so_first(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        mitra, customer = await system.account(), await system.account("customer")
        phone, pairing_id = await system.phone(served, mitra), str(uuid.uuid4())
        await system.sql.execute(
            "INSERT INTO pairings (id, customer_id, expires_at, next_wave_at) "
            "VALUES ($1, $2, now() + interval '1 hour', now() + interval '1 hour')",
            *(pairing_id, customer.id),
        )
        offered = "INSERT INTO pairing_offers (pairing_id, mitra_id, wave) VALUES ($1, $2, 1)"
        await system.sql.execute(offered, pairing_id, mitra.id)
        await phone.message("offer", within=10)
        assert (await phone.ask(type="status", online=False))["type"] == "ack"
        assert served.node is not None
        async with stopped(served.node.feed, "_poll") as polling:
            await polling.reached()
            # Another instance was told so before; here nobody has heard of it.
            await system.sql.execute(
                "UPDATE mitra_presence SET version = version + 1, wants_online = true, is_online = true, "
                "reason = 'http' WHERE mitra_id = $1",
                mitra.id,
            )
            assert (await phone.ask(type="status", online=True))["type"] == "ack"
        await eventually(lambda: len([m for m in phone.received if m["type"] == "offer"]) == 2, 10)


async def won(system: System, served: Served, customer: Account, phone: Phone) -> str:
    """The id of a session that waits for its payment."""
    await system.available(served, 1)
    pairing = await system.pair(served, customer)
    await phone.message("offer")
    answer = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
    assert answer["result"] == "won"
    return str(answer["session"]["id"])

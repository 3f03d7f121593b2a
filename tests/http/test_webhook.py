"""`POST /webhooks/xendit`: whatever is said, it is kept or refused, and never in the way of what is said after it."""

from __future__ import annotations

import json

from hadir.dev.embedded import EmbeddedValkey
from hadir.metrics import REGISTRY
from tests.support import eventually
from tests.support.system import System

AGREED = "what was agreed with the provider"
STRANGE = [
    {"id": "1"},
    {"id": "1", "external_id": "00000000-0000-0000-0000-000000000000", "status": ["PAID"]},
    {"id": "1", "external_id": "00000000-0000-0000-0000-000000000000", "status": "PAID", "amount": 1e300},
    {"id": "1", "external_id": "00000000-0000-0000-0000-000000000000:9999", "status": "PAID", "paid_at": "2024"},
    {
        "id": "1",
        "external_id": "00000000-0000-0000-0000-000000000001",
        "status": "PAID",
        "paid_at": "0001-01-01T00:00:00+14:00",
    },
]
OF_NO_SESSION = {
    "id": "1",
    "external_id": "00000000-0000-0000-0000-000000000002",
    "status": "PAID",
    "amount": 50_000,
}


async def test_strange_events_are_dealt_with_and_hold_nothing_up(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(XENDIT_CALLBACK_TOKEN=AGREED)
        url, token = f"{served.url}/webhooks/xendit", {"X-Callback-Token": AGREED}
        for event in STRANGE:
            assert (await system.http.post(url, json=event, headers=token)).json() == {"stored": True}

        async def dealt_with() -> bool:
            left = await system.sql.fetchval("SELECT count(*) FROM webhook_events WHERE processed_at IS NULL")
            return bool(left == 0)

        await eventually(dealt_with)
        assert await system.sql.fetchval("SELECT count(*) FROM webhook_events") == len(STRANGE)


async def test_events_and_how_long_they_wait_are_counted(database: str, valkey: EmbeddedValkey) -> None:
    def counted() -> dict[str, float]:
        names = ("stored", "recorded", "ignored", "failed")
        return {name: REGISTRY.get_sample_value("hadir_webhooks_total", {"outcome": name}) or 0 for name in names}

    def waited_s() -> float:
        return REGISTRY.get_sample_value("hadir_webhook_waiting_seconds") or 0

    async with System(database, valkey.url) as system:
        served = await system.instance(XENDIT_CALLBACK_TOKEN=AGREED)
        before, token = counted(), {"X-Callback-Token": AGREED}

        def became(**expected: int) -> bool:
            return {name: value - before[name] for name, value in counted().items()} == expected

        for event in (STRANGE[0], OF_NO_SESSION):
            await system.http.post(f"{served.url}/webhooks/xendit", json=event, headers=token)
        await eventually(lambda: became(stored=2, recorded=1, ignored=1, failed=0))
        await system.sql.execute("ALTER TABLE payments ADD CHECK (amount < 1000) NOT VALID")  # what it does not take
        await system.http.post(f"{served.url}/webhooks/xendit", json=OF_NO_SESSION | {"id": "2"}, headers=token)
        await eventually(lambda: became(stored=3, recorded=1, ignored=1, failed=1))
        await eventually(lambda: waited_s() == 0)  # whoever dealt with it does not take the next one along, unseen
        await system.sql.execute(
            "INSERT INTO webhook_events (source, body, received_at) VALUES ('xendit', '{}', now() - interval '1 hour')"
        )
        await eventually(lambda: waited_s() >= 3600)
        await eventually(lambda: waited_s() == 0)


async def test_what_postgres_cannot_keep_is_refused(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(XENDIT_CALLBACK_TOKEN=AGREED)
        headers = {"X-Callback-Token": AGREED, "Content-Type": "application/json"}
        deep = '{"id":' + "[" * 500 + "]" * 500 + "}"
        for body in (json.dumps({"id": "\0"}), deep):
            answer = await system.http.post(f"{served.url}/webhooks/xendit", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "bad_value")


async def test_the_webhook_is_off_without_a_token_and_shut_to_others(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        event = {"id": "1"}
        closed = await system.instance()
        assert (await system.http.post(f"{closed.url}/webhooks/xendit", json=event)).status_code == 404
        served = await system.instance(XENDIT_CALLBACK_TOKEN=AGREED)
        for headers in ({}, {b"X-Callback-Token": b"x"}, {b"X-Callback-Token": b"\xff"}):
            answer = await system.http.post(f"{served.url}/webhooks/xendit", json=event, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "bad_token")
            assert answer.headers["WWW-Authenticate"] == "X-Callback-Token", "no bearer would help"
        assert await system.sql.fetchval("SELECT count(*) FROM webhook_events") == 0


async def test_a_token_may_be_any_text(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        agreed = "disepakati: café 🐈"
        served = await system.instance(XENDIT_CALLBACK_TOKEN=agreed)
        url, event = f"{served.url}/webhooks/xendit", {"id": "1"}
        for token, status in ((agreed.encode(), 200), ("café".encode("latin-1"), 401)):
            answer = await system.http.post(url, json=event, headers={b"X-Callback-Token": token})
            assert answer.status_code == status

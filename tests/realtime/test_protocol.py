"""What a socket answers to frames good and bad; only the one at fault is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jwt
import pytest
import websockets

from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.system import SECRET, System

BAD_FRAMES: list[tuple[str | bytes, str, str | None]] = [
    ("not json", "not_json", None),
    ("[1]", "not_an_object", None),
    (b"\x00\x01", "binary_frame", None),
    (json.dumps({"type": "ping", "pad": "x" * 17 * 1024}), "too_large", None),
    ('{"type": "dance"}', "unknown_type", "type"),
    ('{"type": 7}', "bad_field", "type"),
    ('{"type": "status", "online": "yes"}', "bad_field", "online"),
    ('{"type": "ping", "id": 5}', "bad_field", "id"),
    ('{"type": "token.refresh"}', "bad_field", "token"),
]


async def test_every_bad_frame_is_answered_and_the_socket_stays(
    database: str, valkey: EmbeddedValkey, carried: dict[str, str]
) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        bystander = await system.phone(served, await system.account())
        phone = await system.phone(served, await system.account())
        for frame, code, field in BAD_FRAMES:
            phone.received.clear()
            await phone.socket.send(frame)
            told = await phone.message("error")
            assert (told["code"], told.get("field")) == (code, field)
            assert told["message"].endswith(".")
        assert (await phone.ask(type="ping", unknown="ignored"))["type"] == "pong"
        assert (await bystander.ask(type="ping"))["type"] == "pong"


async def test_the_tenth_error_within_a_minute_ends_the_socket(
    database: str, valkey: EmbeddedValkey, carried: dict[str, str]
) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        phone = await system.phone(served, await system.account())
        for _ in range(10):
            await phone.send(type="dance")
        assert await phone.ended() == 4004


async def test_a_frame_of_70_kib_is_too_big(database: str, valkey: EmbeddedValkey, carried: dict[str, str]) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        await phone.socket.send("x" * 70 * 1024)
        assert await phone.ended() == 1009
        assert (await system.becomes(mitra, "suspect"))["reason"] == "lost"


async def test_too_many_frames_are_refused_then_end_the_socket(
    database: str, valkey: EmbeddedValkey, carried: dict[str, str]
) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        phone = await system.phone(served, await system.account())
        for _ in range(60):
            await phone.send(type="ping")
        assert await phone.ended() == 4004
        assert "too_fast" in {m.get("code") for m in phone.received}


async def test_status_is_stored_and_survives_the_connection(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        assert (await phone.ask(type="status", online=False))["type"] == "ack"
        assert await system.state(mitra) == "offline"
        await system.available(served, 0)
        await phone.goodbye()
        again = await system.phone(served, mitra)
        assert again.hello["state"]["online"] is False
        assert (await again.ask(type="status", online=True))["type"] == "ack"
        await system.available(served, 1)
        commanded = await system.phone(served, mitra, "?status=offline")
        assert commanded.hello["state"]["online"] is False


async def test_control_frames_are_beats(database: str, valkey: EmbeddedValkey, carried: dict[str, str]) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        before = await system.valkey.get(f"mitra:heartbeat:{mitra.id}")
        await (await phone.socket.ping(b"x"))

        async def moved() -> bool:
            return bool((await system.valkey.get(f"mitra:heartbeat:{mitra.id}")) > before)

        await eventually(moved)


async def test_silence_is_found_by_the_instance_itself(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MITRA_AUTO_OFFLINE_SWEEP_SECONDS="60")  # or the sweep may find it first
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        assert await phone.ended(within=9) == 4002
        row = await system.becomes(mitra, "suspect")
        assert row["reason"] == "silent"
        await system.becomes(mitra, "offline")


async def test_sync_tells_the_state_again(database: str, valkey: EmbeddedValkey, carried: dict[str, str]) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance()
        phone = await system.phone(served, await system.account())
        told = await phone.ask(type="sync")
        assert told["type"] == "sync"
        assert told["state"] == phone.hello["state"]


async def test_a_token_is_announced_to_expire_refreshed_and_enforced(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, {"MITRA_OFFLINE_GRACE_SECONDS": "1"}) as system:
        served = await system.instance()
        mitra, stranger = await system.account(), await system.account()
        phone = await system.phone(served, mitra)
        served.node.registry.of(mitra.id)[0].session.token_ends -= 590  # type: ignore[union-attr]
        served.node.registry.of(mitra.id)[0].session.next_due = 0  # type: ignore[union-attr]
        assert (await phone.message("token.expiring"))["expires_in_s"] <= 10
        refused = await phone.ask(type="token.refresh", token=stranger.token)
        assert (refused["type"], refused["code"], refused["field"]) == ("error", "bad_token", "token")
        assert (await phone.ask(type="token.refresh", token=mitra.token))["type"] == "ack"
        session = served.node.registry.of(mitra.id)[0].session  # type: ignore[union-attr]
        session.token_ends -= 620
        session.next_due = 0
        assert await phone.ended() == 4001
        assert (await system.becomes(mitra, "suspect"))["reason"] == "token_expired"


async def test_an_old_socket_is_rotated_and_without_an_answer_ended(
    database: str, valkey: EmbeddedValkey, carried: dict[str, str]
) -> None:
    async with System(database, valkey.url, carried) as system:
        served = await system.instance(SOCKET_MAX_AGE_SECONDS="1", MITRA_HEARTBEAT_STALE_SECONDS="60")
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        assert (await phone.message("reconnect"))["reason"] == "max_age"
        assert await system.state(mitra) == "online"
        session = served.node.registry.of(mitra.id)[0].session  # type: ignore[union-attr]
        session._reconnect_by = session.next_due = 0
        assert await phone.ended() == 4005
        assert (await system.becomes(mitra, "suspect"))["reason"] == "rotated"


async def refused_handshake(system: System, served: Any, headers: dict[str, str], query: str = "") -> dict[str, Any]:
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await websockets.connect(served.ws_url(query), additional_headers=headers, compression=None)
    response = refusal.value.response
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(response.body or b"{}")
    assert document["status"] == response.status_code
    return document


async def test_bad_tokens_are_refused_before_the_upgrade(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra, customer = await system.account(), await system.account("customer")
        good = jwt.decode(mitra.token, options={"verify_signature": False})
        tokens = {
            "none": jwt.encode(good, None, algorithm="none"),
            "other key": jwt.encode(good, "another-secret-that-is-quite-long-too", algorithm="HS256"),
            "HS512": jwt.encode(good, SECRET * 2, algorithm="HS512"),
            "expired": mitra.make_token(-60),
            "wrong role": customer.token,
            "no sid": jwt.encode({k: v for k, v in good.items() if k != "sid"}, SECRET, algorithm="HS256"),
            "no exp": jwt.encode({k: v for k, v in good.items() if k != "exp"}, SECRET, algorithm="HS256"),
            "sub no uuid": jwt.encode(good | {"sub": "me"}, SECRET, algorithm="HS256"),
            "rubbish": "rubbish",
        }
        for name, token in tokens.items():
            document = await refused_handshake(system, served, {"Authorization": f"Bearer {token}"})
            assert document["status"] == 401, name
        assert (await refused_handshake(system, served, {}))["status"] == 401
        document = await refused_handshake(system, served, mitra.bearer, "?status=maybe")
        assert (document["status"], document["field"]) == (422, "status")


async def test_unknown_deactivated_and_revoked_are_refused(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra, stranger = await system.account(), await system.account("customer")
        stranger.role = "mitra"
        assert (await refused_handshake(system, served, stranger.bearer))["code"] == "unknown_subject"
        await system.sql.execute("UPDATE auth_sessions SET revoked_at = now() WHERE id = $1", mitra.sid)
        assert (await refused_handshake(system, served, mitra.bearer))["status"] == 401
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", mitra.id)
        document = await refused_handshake(system, served, mitra.bearer)
        assert (document["status"], document["code"]) == (403, "deactivated")


async def test_a_refusal_is_no_event_for_operators(
    database: str, valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        await refused_handshake(system, served, {})
        assert not [record for record in caplog.records if record.name == "uvicorn.error"]


async def test_a_browser_gets_the_upgrade_one_error_and_the_code(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(ALLOWED_ORIGINS="https://app.example")
        mitra = await system.account()
        cases = [
            ("https://app.example", mitra.make_token(-60), 4001, "token_expired"),
            ("https://evil.example", mitra.token, 4504, "origin"),
        ]
        for origin, token, code, word in cases:
            async with websockets.connect(
                served.ws_url(),
                additional_headers={"Origin": origin},
                subprotocols=["hadir.v1", f"bearer.{token}"],  # type: ignore[list-item]
            ) as socket:
                assert socket.subprotocol == "hadir.v1"
                assert json.loads(await socket.recv())["code"] == word
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == code
        assert len(served.node.registry) == 0  # type: ignore[union-attr]


async def test_new_sockets_are_limited_in_number_and_rate(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MAX_CONNECTIONS="1")
        await system.phone(served, await system.account())
        document = await refused_handshake(system, served, (await system.account()).bearer)
        assert (document["status"], document["code"]) == (503, "full")
        slow = await system.instance(CONNECT_RATE_PER_SECOND="1")
        await system.phone(slow, await system.account())
        document = await refused_handshake(system, slow, (await system.account()).bearer)
        assert (document["status"], document["code"]) == (503, "overloaded")


async def test_a_mitra_that_connects_too_often_is_refused_alone(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra = await system.account()

        async def connect_for_ever() -> None:
            while True:
                async with websockets.connect(served.ws_url(), additional_headers=mitra.bearer):
                    pass

        with pytest.raises(websockets.InvalidStatus) as refused:
            await asyncio.wait_for(connect_for_ever(), 10)
        answer = refused.value.response
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        await system.phone(served, await system.account())

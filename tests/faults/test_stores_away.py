"""One store away at a time, both, and at the start: what a single mitra and its customers see."""

from __future__ import annotations

import httpx
import pytest
import websockets

from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from hadir.realtime.feed import OVERLAP
from tests.support import eventually
from tests.support.system import FAST, Process, System

LONG = {"MITRA_HEARTBEAT_STALE_SECONDS": "60"}


async def test_with_postgres_away_a_connect_is_pending_and_claimed_when_it_is_back(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url) as system:
        served = await system.instance(**LONG)
        mitra, other, inactive = await system.account(), await system.account(), await system.account()
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", inactive.id)
        await eventually(lambda: system.valkey.sismember("mitras:deactivated", inactive.id))
        first = await system.phone(served, other)
        await system.available(served, 1)
        await own_postgres.stop()
        await eventually(lambda: not served.node.postgres.available)  # type: ignore[union-attr]
        phone = await system.phone(served, mitra)
        assert (phone.hello["state"]["pending"], phone.hello["state"]["online"]) == (True, False)
        with pytest.raises(websockets.InvalidStatus) as refusal:
            await system.phone(served, inactive)
        assert refusal.value.response.status_code == 403
        beacon = await system.beacon(served)
        assert (beacon["available"], beacon["state"]) == (1, "live"), "the beacon and beats go on"
        assert (await first.ask(type="ping"))["type"] == "pong"
        refused = await first.ask(type="status", online=False)
        assert (refused["type"], refused["code"]) == ("error", "unavailable")
        answer = await system.http.post(f"{served.url}/api/mitra/status/online", headers=mitra.bearer)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert (await system.http.get(f"{served.url}/ready")).json() == {"state": "degraded", "why": ["postgres"]}
        await own_postgres.start()
        told = await phone.message("sync", within=10)
        assert (told["state"]["pending"], told["state"]["online"]) == (False, True)
        await system.available(served, 2)


async def test_a_close_during_an_outage_is_written_afterwards_with_its_own_time(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url) as system:
        served = await system.instance(**LONG)
        mitra, pending = await system.account(), await system.account()
        phone = await system.phone(served, mitra)
        await own_postgres.stop()
        await eventually(lambda: not served.node.postgres.available)  # type: ignore[union-attr]
        await phone.goodbye()
        short = await system.phone(served, pending)
        await short.goodbye()
        await own_postgres.start()
        async with System(own_postgres.url, valkey.url) as after:
            assert (await after.becomes(mitra, "offline", within=10))["reason"] == "goodbye"
            await eventually(lambda: served.node.transitions.waiting == 0)  # type: ignore[union-attr]
            assert await after.log_of(pending) == [("online", "postgres_outage"), ("offline", "goodbye")]


async def test_with_both_stores_away_nobody_can_be_checked_and_nothing_is_forgotten(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url) as system:
        served = await system.instance(**LONG)
        mitra, stranger = await system.account(), await system.account()
        phone = await system.phone(served, mitra)
        await system.available(served, 1)
        valkey.freeze()
        own_postgres.freeze()
        try:
            with pytest.raises(websockets.InvalidStatus) as refusal:
                await system.phone(served, stranger, open_timeout=30)
            assert refusal.value.response.status_code == 503
            assert (await phone.ask(type="ping"))["type"] == "pong"

            async def stale() -> bool:
                return bool((await system.beacon(served))["state"] == "stale")

            await eventually(stale, 15)
        finally:
            own_postgres.thaw()
            valkey.thaw()
        await system.available(served, 1, within=15)
        assert await system.state(mitra) == "online"


async def test_beats_go_to_postgres_while_valkey_is_away(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**LONG)
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        valkey.freeze()
        try:
            before = (await system.row(mitra))["last_heartbeat_at"]
            await phone.ask(type="ping")

            async def written() -> bool:
                return bool((await system.row(mitra))["last_heartbeat_at"] > before)

            await eventually(written)
        finally:
            valkey.thaw()


async def test_beats_go_to_postgres_while_another_instance_has_yet_to_beat(
    database: str, valkey: EmbeddedValkey
) -> None:
    """The mirror is warm for nobody then, and everybody counts in Postgres."""
    async with System(database, valkey.url) as system:
        served = await system.instance(**LONG, HEARTBEAT_MIRROR_INTERVAL_SECONDS="600")
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        await system.available(served, 1)
        before = (await system.row(mitra))["last_heartbeat_at"]
        other = "INSERT INTO instances (id, name, version, state) VALUES ('cut off', 'i', '0', 'ready')"
        await system.sql.execute(other)
        await phone.ask(type="ping")

        async def written() -> bool:
            return bool((await system.row(mitra))["last_heartbeat_at"] > before)

        await eventually(written)
        assert served.node is not None
        assert served.node.valkey.available


async def test_a_write_whose_mirroring_failed_is_made_up_for(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**LONG)
        stays, leaves = await system.account(), await system.account()
        await system.phone(served, stays)
        phone = await system.phone(served, leaves)
        await system.available(served, 2)
        valkey.freeze()
        try:
            # What was sent before the circuit opened, a thawed Valkey still finds in its socket.
            await eventually(lambda: not served.node.valkey.available)  # type: ignore[union-attr]
            await phone.goodbye()
            row = await system.becomes(leaves, "offline", within=10)
            # Until it is older than what the feed reads again: that would make up for it, too.
            await eventually(lambda: served.node.feed.since > row["changed_at"] + OVERLAP, 30)  # type: ignore[union-attr]
        finally:
            valkey.thaw()
        await system.available(served, 1, within=10)
        assert await system.valkey.smembers("mitras:online") == {stays.id}


async def test_valkey_absent_at_the_start_is_seeded_on_arrival(database: str, valkey: EmbeddedValkey) -> None:
    await valkey.stop()
    async with System(database, valkey.url, FAST | LONG) as system:
        process = await system.process()
        mitra = await system.account()
        await system.phone(process.served, mitra)
        assert (await system.beacon(process.served))["state"] == "rebuilding"
        await valkey.start()
        await system.available(process.served, 1, within=10)


async def test_postgres_absent_at_the_start_is_waited_for(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url) as system:
        await own_postgres.stop()
        ports = {"PORT": str(free_port()), "INTERNAL_PORT": str(free_port())}
        process = Process(system.environment(**ports), None)
        try:
            await process.start(system.http, ready=False)

            async def says_so() -> bool:
                try:
                    answer = await system.http.get(f"{process.served.url}/ready")
                except httpx.TransportError:
                    return False
                return bool(answer.status_code == 503 and answer.json()["state"] == "starting")

            await eventually(says_so, 15)
            await own_postgres.start()

            async def ready() -> bool:
                return (await system.http.get(f"{process.served.url}/ready")).status_code == 200

            await eventually(ready, 10)
        finally:
            await process.kill()


async def test_a_schema_that_is_behind_is_refused(empty_database: str, valkey: EmbeddedValkey) -> None:
    async with System(empty_database, valkey.url) as system:
        ports = {"PORT": str(free_port()), "INTERNAL_PORT": str(free_port())}
        process = Process(system.environment(**ports), None)
        await process.start(system.http, ready=False)
        assert await process.stopped() == 1
        await migrate(empty_database)
        await process.start(system.http)
        await process.kill()

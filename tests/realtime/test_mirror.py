"""The mirror is a pure function of rows: versions, warmth, seeds, drift (R1, R2, R5, R9)."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime import rows as presence_rows
from hadir.realtime import seeding
from hadir.realtime.rows import Reading
from hadir.realtime.verify import opened
from tests.support import eventually
from tests.support.system import SILENT, Account, Served, System


async def available_by_seed_keys(system: System, limit: int) -> set[str]:
    """Computes who is available from the seed's first four keys alone."""
    candidates = await system.valkey.sdiff("mitras:online", "mitras:deactivated")
    found = set()
    for mitra_id in candidates:
        capacity = int(await system.valkey.get(f"mitra:capacity:{mitra_id}") or 0)
        if capacity < limit and await system.valkey.get(f"mitra:heartbeat:{mitra_id}") is not None:
            found.add(mitra_id)
    return found


async def test_a_late_apply_of_an_older_row_changes_nothing(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        old = await presence_rows.read(node.postgres, [mitra.id])
        await phone.goodbye()
        await system.available(served, 0)
        await node.mirror.apply(old)
        assert not await system.valkey.sismember("mitras:online", mitra.id)
        await system.available(served, 0)


async def test_a_postgres_that_went_backwards_makes_a_new_seed(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        mitra = await system.account()
        reading = await presence_rows.read(node.postgres, [mitra.id])
        ahead = replace(reading.rows[0], version=reading.rows[0].version + 1_000_000_000, is_online=True)
        await node.mirror.apply(Reading([ahead], reading.now, reading.read_at))
        assert await system.valkey.sismember("mitras:online", mitra.id)
        await node.mirror.apply(reading)

        async def healed() -> bool:
            version = await system.valkey.hget("mitras:versions", mitra.id)
            return int(version or 0) == reading.rows[0].version and await node.mirror.is_seeded()

        await eventually(healed)
        assert not await system.valkey.sismember("mitras:online", mitra.id)


async def test_a_mitra_over_http_has_time_to_beat_again_whoever_applies_it_to_an_empty_mirror(
    database: str, valkey: EmbeddedValkey
) -> None:
    """The seed, or before it what an outage made somebody remember: in that a row counts as a sign of life."""
    slow = {**SILENT, "HEARTBEAT_MIRROR_INTERVAL_SECONDS": "600"}
    async with System(database, valkey.url, slow) as system:
        served = await system.instance()
        assert served.node is not None
        mirror, mitra = served.node.mirror, await system.account()
        await system.http.post(f"{served.url}/api/mitra/status/online", headers=mitra.bearer)
        await system.sql.execute("UPDATE mitra_presence SET last_heartbeat_at = now() - interval '300 s'")
        reading = await presence_rows.read(served.node.postgres, [mitra.id])
        for beats in ([], [mitra.id]):
            await system.valkey.zrem("mitras:heartbeats", mitra.id)
            await mirror.apply(reading, beats=beats)
            (age_s,) = (await mirror.beat_ages([mitra.id])).values()
            assert age_s < 40, "it is stale after that"
        await system.sql.execute("UPDATE mitra_presence SET last_heartbeat_at = now()")
        await mirror.apply(await presence_rows.read(served.node.postgres, [mitra.id]), beats=[mitra.id])
        assert (await mirror.beat_ages([mitra.id]))[mitra.id] < age_s, "a beat that it missed counts"


async def test_flushall_at_any_moment_loses_nothing(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, SILENT) as system:
        served = await system.instance()
        mitras = await system.accounts(5)
        for mitra in mitras:
            await system.phone(served, mitra)
        await system.available(served, 5)
        for _ in range(3):
            await system.valkey.flushall()
            beacon = await system.beacon(served)
            assert beacon["available"] == 5, "a cold mirror is not an empty marketplace"
            await system.available(served, 5)
        assert {await system.state(mitra) for mitra in mitras} == {"online"}


async def test_a_wipe_inside_a_seed_makes_it_begin_again(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        await system.accounts(300)
        reading = await presence_rows.read_page(node.postgres, presence_rows.FIRST_ID, 1000)
        assert await node.mirror.seed_lease("mine", "take", 10)
        assert await node.mirror.apply_seed(reading, "mine")
        await system.valkey.flushall()
        assert not await node.mirror.apply_seed(reading, "mine")
        assert not await node.mirror.seed_lease("mine", "finish", 10)
        await eventually(node.mirror.is_seeded)
        assert await system.valkey.hlen("mitras:versions") == 300


async def test_a_seed_reads_the_next_page_while_one_is_applied(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "PAGE", 2)
    async with System(database, valkey.url) as system, opened(system.config()) as (_, seeder):
        await system.accounts(5)
        happened = []
        read, apply = seeder._postgres.fetch, seeder._mirror.apply_seed

        async def reading(*args: Any) -> Any:
            happened.append("reads")
            return await read(*args)

        async def applying(page: Reading, token: str) -> bool:
            happened.append(f"applies {len(page.rows)}")
            applied = await apply(page, token)
            happened.append("applied")
            return applied

        monkeypatch.setattr(seeder._postgres, "fetch", reading)
        monkeypatch.setattr(seeder._mirror, "apply_seed", applying)
        assert await seeder.seed("test")
        assert happened == [
            "reads",  # which instances there are
            "reads",
            *("applies 2", "reads", "applied"),
            *("applies 2", "reads", "applied"),
            *("applies 1", "reads", "applied"),
        ]


async def test_the_mirror_is_warm_only_when_every_live_instance_has_beaten_again(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        assert first.node is not None
        assert second.node is not None
        await eventually(lambda: len(first.node.liveness.live_ids()) == 2)  # type: ignore[union-attr]
        assert await first.node.mirror.counts() is not None

        async def cold() -> bool:  # it renews its lease twice a second, maybe right behind this
            await system.valkey.set(first.node.keys.instance(second.node.id), "begin")  # type: ignore[union-attr]
            return await first.node.mirror.counts() is None  # type: ignore[union-attr]

        await eventually(cold)
        beacon = await system.beacon(first)
        assert beacon["state"] in ("rebuilding", "live")  # live only from the snapshot of a moment ago
        await eventually(first.node.mirror.counts)


async def test_a_mirror_that_was_seeded_for_another_run_is_cold(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        assert served.node is not None
        await eventually(served.node.mirror.counts)
        await system.valkey.set("mirror:lease:seed", "somebody else's", px=60_000)  # so that nobody seeds meanwhile
        await system.valkey.set("mirror:seeded", "0" * 40)
        assert await served.node.mirror.counts() is None
        await system.valkey.delete("mirror:lease:seed")
        await eventually(served.node.mirror.counts)


async def test_a_cold_mirror_is_seeded_from_nothing(database: str, valkey: EmbeddedValkey) -> None:
    """What an old replica has: a beat by another clock would keep a mitra for ever."""
    async with System(database, valkey.url) as system:
        served, mitra = await system.instance(), await system.account()
        assert served.node is not None
        await system.phone(served, mitra)
        ahead = (time.time() + 3600) * 1000
        for key in ("mitras:heartbeats", "mitras:available"):
            await system.valkey.zadd(key, {mitra.id: ahead})
        await system.valkey.set("mirror:seeded", "0" * 40)

        async def seeded_anew() -> bool:
            return await system.valkey.get("mirror:seeded") not in (None, "0" * 40)

        await eventually(seeded_anew)
        assert await system.valkey.zscore("mitras:heartbeats", mitra.id) < ahead
        await system.available(served, 1)
        assert await system.valkey.zscore("mitras:available", mitra.id) < ahead


async def test_drift_is_healed_by_the_reseed(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        mitra, ghost, unknown = await system.account(), *(f"3d3b2c1a-0000-4000-8000-{n:012}" for n in range(2))
        await system.phone(served, mitra)
        await system.valkey.srem("mitras:online", mitra.id)
        await system.valkey.zrem("mitras:available", mitra.id)
        await system.valkey.set(f"mitra:capacity:{mitra.id}", 7)
        await system.valkey.sadd("mitras:online", ghost)
        await system.valkey.zadd("mitras:available", {ghost: 1e13})
        await system.valkey.hset("mitras:connections", ghost, "a b")
        await system.valkey.hset("mitras:versions", unknown, 1)
        await system.valkey.sadd("mitras:deactivated", mitra.id)
        await eventually(lambda: node.seeder.seed("periodic"))
        assert await system.valkey.smembers("mitras:online") == {mitra.id}
        assert await system.valkey.zrange("mitras:available", 0, -1) == [mitra.id]
        assert await system.valkey.hkeys("mitras:connections") == [mitra.id]
        assert await system.valkey.hkeys("mitras:versions") == [mitra.id]
        assert await system.valkey.get(f"mitra:capacity:{mitra.id}") is None
        assert not await system.valkey.sismember("mitras:deactivated", mitra.id)
        await system.available(served, 1)


async def test_a_mirror_that_wrongly_calls_somebody_deactivated_is_put_right_by_the_next_beat(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served, mitra = await system.instance(), await system.account()
        phone = await system.phone(served, mitra)
        await system.available(served, 1)
        await system.valkey.sadd("mitras:deactivated", mitra.id)
        await phone.ask(type="ping")

        async def righted() -> bool:
            return not await system.valkey.sismember("mitras:deactivated", mitra.id)

        await eventually(righted)
        assert (await phone.ask(type="ping"))["type"] == "pong"
        assert await system.log_of(mitra) == [("online", "connected")]


async def test_a_mirror_that_wrongly_calls_somebody_over_http_deactivated_is_put_right_by_the_next_beat(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served, mitra = await system.instance(), await system.account()
        await system.ask(served, mitra, "POST", "/api/mitra/status/online", json={})
        await system.valkey.sadd("mitras:deactivated", mitra.id)
        answer = await system.ask(served, mitra, "POST", "/api/mitra/status/heartbeat", json={})
        assert (answer.status_code, answer.json()["online"]) == (200, True)
        assert not await system.valkey.sismember("mitras:deactivated", mitra.id)


async def test_a_clock_that_jumps_makes_the_mirror_begin_again(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        before = await system.valkey.zscore("mitras:heartbeats", mitra.id)
        await system.valkey.zadd("mitras:heartbeats", {mitra.id: before + 3_600_000})
        node.heartbeats._offset = -1e9  # as if Valkey's clock had been elsewhere at the flush before
        await phone.ask(type="ping")

        async def corrected() -> bool:
            score = await system.valkey.zscore("mitras:heartbeats", mitra.id)
            return score is not None and score < before + 60_000

        await eventually(corrected)
        await system.available(served, 1)
        assert await system.state(mitra) == "online"


async def test_a_beat_of_a_deactivated_mitra_is_refused_in_the_round_trip_that_would_record_it(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        mitra = await system.account()
        await system.phone(served, mitra)
        connection = node.registry.of(mitra.id)[0]
        await system.valkey.sadd("mitras:deactivated", mitra.id)
        score = await system.valkey.zscore("mitras:heartbeats", mitra.id)
        answer = await node.mirror.beat([mitra.id], [connection.owner], [0.0])
        assert answer.deactivated == [mitra.id]
        assert await system.valkey.zscore("mitras:heartbeats", mitra.id) == score


async def test_the_seeds_keys_alone_find_exactly_the_available_at_every_step_of_a_random_walk(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        # Nobody grows stale meanwhile: that would put right what a step left wrong.
        calm = {"MITRA_HEARTBEAT_INTERVAL_SECONDS": "60", "MITRA_HEARTBEAT_STALE_SECONDS": "180"}
        served = await system.instance(BEACON_CACHE_SECONDS="0.05", MITRA_OFFLINE_GRACE_SECONDS="0.3", **calm)
        node = served.node
        assert node is not None
        walk = Walk(system, served, await system.accounts(8), random.Random(7))
        for _ in range(120):
            await walk.step()
            await node.transitions.join()
            node.feed.gap()  # what another program wrote is read now, not in three seconds

            async def agree() -> bool:
                expected = await walk.expected()
                by_keys = await available_by_seed_keys(system, 1)
                beacon = (await system.beacon(served))["available"]
                assert (by_keys, beacon) == (expected, len(expected))
                return True

            await eventually(agree)


class Walk:
    """Random presence: connects, goodbyes, cuts, toggles, sessions, deactivations."""

    def __init__(self, system: System, served: Served, mitras: list[Account], dice: random.Random) -> None:
        self.system, self.served, self.mitras, self.dice = system, served, mitras, dice
        self.phones: dict[str, object] = {}

    async def step(self) -> None:
        mitra = self.dice.choice(self.mitras)
        ways = {self.connect: 4, self.leave: 1, self.cut: 1, self.toggle: 2, self.session: 3, self.activity: 2}
        await self.dice.choices(list(ways), list(ways.values()))[0](mitra)

    async def connect(self, mitra: Account) -> None:
        row = await self.system.row(mitra)
        if row["is_active"]:
            await self.system.sql.execute("UPDATE auth_sessions SET revoked_at = NULL WHERE id = $1", mitra.sid)
            self.phones[mitra.id] = await self.system.phone(self.served, mitra)

    async def leave(self, mitra: Account) -> None:
        phone = self.phones.pop(mitra.id, None)
        if phone is not None:
            await phone.goodbye()  # type: ignore[attr-defined]

    async def cut(self, mitra: Account) -> None:
        phone = self.phones.pop(mitra.id, None)
        if phone is not None:
            phone.cut()  # type: ignore[attr-defined]

    async def toggle(self, mitra: Account) -> None:
        phone = self.phones.get(mitra.id)
        if phone is not None and phone.closed_with is None:  # type: ignore[attr-defined]
            await phone.send(type="status", online=self.dice.random() < 0.7)  # type: ignore[attr-defined]

    async def session(self, mitra: Account) -> None:
        customer = "00000000-0000-4000-8000-000000000001"
        await self.system.sql.execute("INSERT INTO customers (id) VALUES ($1) ON CONFLICT DO NOTHING", customer)
        opened = await self.system.sql.fetchval(
            "UPDATE chat_sessions SET status = 'ended' WHERE mitra_id = $1 AND status = 'active' RETURNING true",
            mitra.id,
        )
        if not opened:
            await self.system.sql.execute(
                "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) "
                "VALUES (gen_random_uuid(), $1, $2, 'active')",
                customer,
                mitra.id,
            )

    async def activity(self, mitra: Account) -> None:
        active = not (await self.system.row(mitra))["is_active"] or self.dice.random() < 0.5
        await self.system.sql.execute("UPDATE mitra_presence SET is_active = $2 WHERE mitra_id = $1", mitra.id, active)

    async def expected(self) -> set[str]:
        """Who is available by the truth of Postgres and the phones that are really there."""
        records = await self.system.sql.fetch(
            "SELECT mitra_id FROM mitra_presence WHERE is_online AND is_active AND suspect_since IS NULL "
            "AND open_sessions < max_sessions"
        )
        return {record["mitra_id"] for record in records}


async def test_heartbeat_strings_are_iso_times_of_the_beat_and_expire_when_it_is_stale(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MITRA_OFFLINE_GRACE_SECONDS="10")
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        both = system.valkey.pipeline(transaction=True)
        both.get(f"mitra:heartbeat:{mitra.id}").zscore("mitras:heartbeats", mitra.id)
        text, score = await both.execute()
        assert isinstance(text, str)
        assert len(text) == len("2026-05-25T10:07:55.123Z")
        assert text.endswith("Z")
        assert abs(datetime.fromisoformat(text).timestamp() - time.time()) < 5
        assert datetime.fromisoformat(text).timestamp() * 1000 == score
        assert 0 < await system.valkey.pttl(f"mitra:heartbeat:{mitra.id}") <= 4000
        phone.cut()
        await system.becomes(mitra, "suspect")
        await asyncio.wait_for(served.node.transitions.join(), 5)  # type: ignore[union-attr]
        assert await system.valkey.get(f"mitra:heartbeat:{mitra.id}") is None, "absent for a suspect"
        assert await system.valkey.sismember("mitras:online", mitra.id), "still counted online"

"""What time brings: graces that end, holds, amnesty, the stale, dead instances, beats to Postgres (R5, R13, R15)."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.liveness import DEAD_S, Witness, is_dead
from tests.support import eventually
from tests.support.barriers import stopped
from tests.support.system import FAST, SILENT, Account, System


async def test_many_graces_that_end_at_once_are_held_until_an_operator_lets_go(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, SILENT) as system:
        served = await system.instance()
        operator = await system.account("operator")
        mitras = await system.accounts(30)
        phones = [await system.phone(served, mitra) for mitra in mitras]
        await system.lose_at_once(phones[:12])
        url = f"{served.inner_url}/metrics"

        async def held() -> bool:
            return "hadir_expiry_held 12.0" in (await system.http.get(url)).text

        await eventually(held, 10)
        assert await system.sql.fetchval("SELECT count(*) FROM presence_log WHERE state = 'offline'") == 0
        assert (await system.beacon(served))["online"] == 30
        release = f"{served.inner_url}/api/internal/expiry/release"
        answer = await system.http.post(release, headers=operator.bearer)
        assert answer.json() == {"released": 12}
        for mitra in mitras[:12]:
            await system.becomes(mitra, "offline")
        assert await system.sql.fetchval("SELECT released_by FROM expiry_hold") in (operator.id, None)

        async def over() -> bool:
            return "hadir_expiry_hold_active 0.0" in (await system.http.get(url)).text

        await eventually(over)


async def test_a_hold_ends_by_itself(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MITRA_AUTO_OFFLINE_HOLD_SECONDS="2")
        mitras = await system.accounts(25)
        await system.lose_at_once([await system.phone(served, mitra) for mitra in mitras])
        await system.becomes(mitras[0], "offline", within=12)
        record = await system.sql.fetchrow(
            "SELECT max(recorded_at) FILTER (WHERE state = 'suspect') AS lost, "
            "min(recorded_at) FILTER (WHERE state = 'offline') AS gone FROM presence_log"
        )
        assert record is not None
        assert record["gone"] - record["lost"] > timedelta(seconds=1 + 2 - 0.5), "grace, then the hold"


async def test_nobody_is_expired_by_an_instance_that_has_not_been_there_for_a_grace(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        mitra = await system.account()
        await system.sql.execute(
            "UPDATE mitra_presence SET version = version + 1, is_online = true, reason = 'connected', "
            "connection_id = 'c', last_heartbeat_at = now() - interval '1 hour' WHERE mitra_id = $1",
            mitra.id,
        )
        await system.sql.execute(
            "UPDATE mitra_presence SET version = version + 1, reason = 'lost', "
            "suspect_since = now() - interval '1 hour' WHERE mitra_id = $1",
            mitra.id,
        )
        started = await system.sql.fetchval("SELECT clock_timestamp()")
        served = await system.instance(MITRA_OFFLINE_GRACE_SECONDS="3")
        assert served.node is not None
        assert served.node.sweeps.amnesty()
        await system.becomes(mitra, "offline", within=10)
        gone = await system.sql.fetchval("SELECT recorded_at FROM presence_log WHERE state = 'offline'")
        assert gone - started > timedelta(seconds=3)


async def test_the_stale_are_found_by_the_sweep_and_only_on_a_warm_mirror(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MITRA_AUTO_OFFLINE_SWEEP_SECONDS="600")
        node = served.node
        assert node is not None
        mitra = await system.account()
        await system.sql.execute("UPDATE mitra_presence SET is_online = true WHERE mitra_id = $1", mitra.id)
        await system.sql.execute(
            "UPDATE mitra_presence SET last_heartbeat_at = now() - interval '1 minute' WHERE mitra_id = $1", mitra.id
        )
        await eventually(lambda: node.seeder.seed("periodic"))
        since, interval_s = node.heartbeats.leased_since, node.config.heartbeat_interval_s
        assert since is not None
        await eventually(lambda: time.monotonic() - since > interval_s)  # before that it judges nobody anyway
        await system.valkey.delete(node.keys.instance(node.id))
        assert await node.sweeps.find_stale() is None, "an instance has not beaten again: nobody is judged"
        await eventually(node.mirror.counts)
        assert await node.sweeps.find_stale() is None, "others may have yet to beat into it"
        await eventually(node.sweeps.find_stale)
        row = await system.row(mitra)
        assert (row["state"], row["reason"]) == ("suspect", "stale")
        assert row["suspect_since"] == row["last_heartbeat_at"] + timedelta(seconds=4)


async def test_beats_reach_postgres_without_moving_versions_and_never_backwards(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(HEARTBEAT_MIRROR_INTERVAL_SECONDS="600", MITRA_HEARTBEAT_STALE_SECONDS="60")
        node = served.node
        assert node is not None
        mitra, ahead = await system.account(), await system.account()
        phone = await system.phone(served, mitra)
        await system.phone(served, ahead)
        before = await system.row(mitra)
        await phone.ask(type="ping")
        await node.heartbeats.flush()
        newer = await system.sql.fetchval(
            "UPDATE mitra_presence SET last_heartbeat_at = clock_timestamp() WHERE mitra_id = $1 "
            "RETURNING last_heartbeat_at",
            ahead.id,
        )
        assert await node.sweeps.mirror_beats() == 2
        after = await system.row(mitra)
        assert after["last_heartbeat_at"] > before["last_heartbeat_at"]
        assert after["version"] == before["version"]
        assert (await system.row(ahead))["last_heartbeat_at"] == newer


async def test_sessions_move_capacity_and_availability(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MITRA_HEARTBEAT_STALE_SECONDS="60")
        mitra = await system.account()
        await system.phone(served, mitra)
        await system.available(served, 1)
        customer = await system.account("customer")
        await system.sql.execute(
            "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) VALUES ($1, $1, $2, 'pending_payment')",
            customer.id,
            mitra.id,
        )
        await system.available(served, 0)
        assert await system.valkey.get(f"mitra:capacity:{mitra.id}") == "1"
        await system.sql.execute("UPDATE mitras SET max_sessions = 2 WHERE id = $1", mitra.id)
        await system.available(served, 1)
        score = await system.valkey.zscore("mitras:queue", mitra.id)
        row = await system.row(mitra)
        assert score == 1e11 + int(row["last_session_at"].timestamp())
        await system.sql.execute("UPDATE chat_sessions SET status = 'ended'")
        await eventually(lambda: _absent(system, f"mitra:capacity:{mitra.id}"))


async def _absent(system: System, key: str) -> bool:
    return await system.valkey.get(key) is None


async def test_a_killed_instances_mitras_are_suspect_within_its_proof_then_get_the_long_grace(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        survivor = await system.instance(MITRA_HEARTBEAT_STALE_SECONDS="40")
        victim = await system.process(MITRA_HEARTBEAT_STALE_SECONDS="40")
        mitra = await system.account()
        await system.phone(victim.served, mitra)
        killed = await system.sql.fetchval("SELECT clock_timestamp()")
        await victim.kill()
        row = await system.becomes(mitra, "suspect", within=20)
        assert row["reason"] == "instance_died"
        suspect = await system.sql.fetchval("SELECT recorded_at FROM presence_log WHERE state = 'suspect'")
        assert suspect - killed < timedelta(seconds=12 + 3 + 1)
        assert (await system.beacon(survivor))["online"] == 1
        await system.becomes(mitra, "offline", within=16)
        gone = await system.sql.fetchval("SELECT recorded_at FROM presence_log WHERE state = 'offline'")
        assert timedelta(seconds=11) <= gone - row["suspect_since"] < timedelta(seconds=13)


async def test_a_dead_instances_mitras_are_left_to_whoever_judges_it_however_late(
    database: str, valkey: EmbeddedValkey
) -> None:
    """Their beats are stale before that; but of those that only its sockets had, nobody knows."""
    async with System(database, valkey.url) as system:
        survivor, victim = await system.instance(), await system.process()
        node, mitra = survivor.node, await system.account()
        assert node is not None
        await eventually(lambda: len(node.liveness.live_ids()) == 2, 10)
        await system.phone(victim.served, mitra)
        async with stopped(node.liveness, "_judge") as judge:
            await victim.kill()
            await judge.reached(20)
            await eventually(lambda: len(node.liveness.live_ids()) == 1, 10)
            assert await node.sweeps.find_stale() is None
            assert await system.state(mitra) == "online"
        assert (await system.becomes(mitra, "suspect"))["reason"] == "instance_died"


async def test_an_instance_that_nobody_can_judge_keeps_the_sweep_waiting_for_a_minute(
    database: str, valkey: EmbeddedValkey
) -> None:
    """Its burial cannot be written while somebody holds a row of its mitras."""
    async with System(database, valkey.url) as system:
        node = (await system.instance()).node
        assert node is not None

        async def sweeps() -> bool:
            await node.liveness.beat()
            return await node.sweeps.find_stale() is not None

        await eventually(sweeps)
        async with stopped(node.liveness, "_judge"):
            silent = "INSERT INTO instances (id, name, version, state, beat_at) VALUES ('b', 'b', '0', 'ready', {})"
            await system.sql.execute(silent.format("now() - interval '30 s'"))
            assert not await sweeps()
            await system.sql.execute("UPDATE instances SET beat_at = now() - interval '61 s' WHERE id = 'b'")
            assert await sweeps()


@pytest.mark.parametrize("valkey_is", ["there", "gone"])
async def test_a_killed_instances_mitras_were_there_until_their_last_beat(
    database: str, valkey: EmbeddedValkey, valkey_is: str
) -> None:
    async with System(database, valkey.url) as system:
        late = {"MITRA_HEARTBEAT_STALE_SECONDS": "40", "HEARTBEAT_MIRROR_INTERVAL_SECONDS": "600"}
        survivor = await system.instance(**late)
        victim = await system.process(None, **late)
        mitra = await system.account()
        phone = await system.phone(victim.served, mitra)
        await eventually(lambda: has_aged(system, mitra), 10)
        await phone.ask(type="ping")
        await eventually(lambda: mirrored_later(system, mitra))
        beat = await system.valkey.zscore("mitras:heartbeats", mitra.id)
        known = (await system.row(mitra))["last_heartbeat_at"]
        assert beat / 1000 > known.timestamp() + 1, "Postgres has not heard of it"
        await victim.kill()
        if valkey_is == "there":
            await system.becomes(mitra, "suspect", within=20)
        else:
            await valkey.stop()
            assert survivor.node is not None
            await survivor.node.liveness.beat()  # and reads who else there is
            (dead,) = [each for each in survivor.node.liveness.instances if each.id != survivor.node.id]
            await eventually(lambda: silent(system, dead.id), 20)
            await survivor.node.liveness._bury(dead)
        row = await system.row(mitra)
        assert (row["state"], row["reason"]) == ("suspect", "instance_died")
        at = await system.sql.fetchval("SELECT at FROM presence_log WHERE state = 'suspect'")
        if valkey_is == "there":
            assert at == row["last_heartbeat_at"]
            assert at.timestamp() == pytest.approx(beat / 1000, abs=0.1)
        else:
            assert row["last_heartbeat_at"] == known
            assert at == max(known, row["online_since"]), "what Postgres knows"


async def has_aged(system: System, mitra: Account) -> bool:
    """Whether the beat that Postgres knows of was more than a second ago."""
    age = "SELECT clock_timestamp() - last_heartbeat_at > interval '1.5 s' FROM mitra_presence WHERE mitra_id = $1"
    return bool(await system.sql.fetchval(age, mitra.id))


async def mirrored_later(system: System, mitra: Account) -> bool:
    beat = await system.valkey.zscore("mitras:heartbeats", mitra.id)
    known = (await system.row(mitra))["last_heartbeat_at"]
    return bool(beat / 1000 > known.timestamp() + 1)


async def silent(system: System, instance_id: str) -> bool:
    """Whether it has not beaten its row for as long as a burial wants."""
    age = "SELECT extract(epoch FROM clock_timestamp() - beat_at) FROM instances WHERE id = $1"
    return bool(await system.sql.fetchval(age, instance_id) > DEAD_S)


async def test_a_frozen_instance_that_comes_back_takes_its_mitras_back(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        await system.instance(MITRA_HEARTBEAT_STALE_SECONDS="40")
        frozen = await system.process(MITRA_HEARTBEAT_STALE_SECONDS="40")
        mitra = await system.account()
        phone = await system.phone(frozen.served, mitra)
        frozen.freeze()
        await system.becomes(mitra, "suspect", within=20)
        frozen.thaw()
        await phone.ask(type="ping")
        row = await system.becomes(mitra, "online")
        assert (row["reason"], row["connection_id"]) == ("back", phone.hello["connection_id"])
        assert [state for state, _ in await system.log_of(mitra)] == ["online", "suspect", "online"]


def test_death_takes_proof_from_both_stores() -> None:
    judge = Witness(postgres_s=100, valkey_s=100, valkey_away=False)
    assert is_dead(12, False, judge)
    assert not is_dead(11.9, False, judge)
    assert not is_dead(100, True, judge), "the other store keeps it alive"
    assert not is_dead(100, False, Witness(11, 100, False)), "the judge itself was away from Postgres"
    assert not is_dead(100, False, Witness(100, 11, False)), "or from Valkey"
    away = Witness(postgres_s=100, valkey_s=0, valkey_away=True)
    assert is_dead(60, None, away)
    assert not is_dead(59, None, away)
    assert not is_dead(60, None, judge), "Valkey is there, it just did not answer"


async def test_one_instance_leads_and_another_takes_over(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        second = None
        async with system.running() as first:
            await eventually(lambda: first.node.liveness.is_leader)  # type: ignore[union-attr]
            second = await system.instance()
            await asyncio.wait_for(first.node.drain(), 10)  # type: ignore[union-attr]
        await eventually(lambda: second.node.liveness.is_leader, 6)  # type: ignore[union-attr]
        ids = [record["id"] for record in await system.sql.fetch("SELECT id FROM instances")]
        assert ids == [second.node.id]  # type: ignore[union-attr]


async def test_a_month_without_its_partition_stops_nobody_and_is_made_up_for(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, SILENT) as system:
        served = await system.instance()
        node = served.node
        assert node is not None
        for (name,) in await system.sql.fetch(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'presence_log'::regclass "
            "AND inhrelid <> 'presence_log_default'::regclass"
        ):
            await system.sql.execute(f"DROP TABLE {name}")
        early, late, gone = await system.accounts(3)
        phone = await system.phone(served, early)
        await (await system.phone(served, gone)).goodbye()
        await system.becomes(gone, "offline")
        assert await lines_of(system) == {"presence_log_default": 3}

        # the sweep makes the months while a crowd comes and goes
        many = await system.accounts(40)
        phones = [asyncio.create_task(system.phone(served, each)) for each in many]
        await asyncio.wait(phones, return_when=asyncio.FIRST_COMPLETED)

        async def made() -> bool:
            await node.sweeps.keep_log_months()
            return "presence_log_default" not in await lines_of(system)

        await eventually(made, 20)
        await asyncio.gather(*phones)
        await system.phone(served, late)
        assert (await phone.ask(type="ping"))["type"] == "pong"
        (month,) = await lines_of(system)
        assert await lines_of(system) == {month: 3 + len(many) + 1}
        assert await system.log_of(gone) == [("online", "connected"), ("offline", "goodbye")]
        await system.available(served, 2 + len(many))


async def test_a_month_that_gave_way_to_the_logs_writers_has_not_been_done(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        node = (await system.instance()).node
        assert node is not None
        (name,) = await system.sql.fetchrow("SELECT max(inhrelid::regclass::text) FROM pg_inherits "
            "WHERE inhparent = 'presence_log'::regclass AND inhrelid <> 'presence_log_default'::regclass")  # fmt: skip
        assert await node.sweeps.keep_log_months() == 0, "every month is there"
        await system.sql.execute(f"DROP TABLE {name}")
        async with system.sql.transaction():
            await system.sql.execute("LOCK TABLE presence_log_default IN ROW EXCLUSIVE MODE")
            assert await node.sweeps.keep_log_months() is None
        assert await node.sweeps.keep_log_months() == 1


async def test_who_loses_the_lead_no_longer_says_what_only_the_leader_knows(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, FAST | {"MITRA_HEARTBEAT_STALE_SECONDS": "40"}) as system:
        served = await system.instance()
        phones = [await system.phone(served, mitra) for mitra in await system.accounts(30)]
        await system.lose_at_once(phones[:12])
        held, done = "hadir_expiry_held 12.0", 'hadir_sweep_done_timestamp_seconds{sweep="expire"}'

        async def said(*lines: str) -> bool:
            text = (await system.http.get(f"{served.inner_url}/metrics")).text
            return all(line in text for line in lines)

        await eventually(lambda: said(held, "hadir_expiry_hold_active 1.0", done), 10)

        async def led_by_another() -> bool:
            await system.sql.execute(
                "UPDATE leases SET holder = 'another', expires_at = clock_timestamp() + interval '4 s' "
                "WHERE name = 'sweeps'"
            )
            return await said("hadir_leader 0.0", "hadir_expiry_held 0.0", "hadir_expiry_hold_active 0.0") and not (
                await said(done)
            )

        await eventually(led_by_another, 10)
        await eventually(lambda: said("hadir_leader 1.0", held, "hadir_expiry_hold_active 1.0", done), 15)


async def lines_of(system: System) -> dict[str, int]:
    """How many lines each partition of the log has."""
    return dict(await system.sql.fetch("SELECT tableoid::regclass::text, count(*) FROM presence_log GROUP BY 1"))


async def test_who_has_just_come_leaves_the_lead_to_an_older_one(database: str, valkey: EmbeddedValkey) -> None:
    """It may expire nobody for a grace (R15); led by it, graces would wait that the older one could end."""
    async with System(database, valkey.url) as system:
        first = await system.instance(MITRA_OFFLINE_GRACE_SECONDS="30")
        await eventually(lambda: first.node.liveness.is_leader)  # type: ignore[union-attr]
        await system.instance(MITRA_OFFLINE_GRACE_SECONDS="30")
        takers: list[str] = []

        async def taken_again_and_again() -> bool:
            """The lease is always free: whoever asks for it gets it, and everybody asks once a second."""
            holder = await system.sql.fetchval("DELETE FROM leases WHERE name = 'sweeps' RETURNING holder")
            takers.extend([holder] if holder else [])
            return len(takers) >= 5

        await eventually(taken_again_and_again, 30)
        assert set(takers) == {first.node.id}  # type: ignore[union-attr]

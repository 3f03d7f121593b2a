"""Presence: two things at once, each pair in the order that would hurt."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import websockets

from hadir import metrics
from hadir.db.pool import connect
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from hadir.errors import PostgresUnavailable
from hadir.realtime import liveness, mirror, seeding
from hadir.realtime.messages import CloseCode
from hadir.realtime.node import Node
from hadir.realtime.presence import Outcome, SetActive, SetStatus
from hadir.realtime.verify import opened
from tests.db.world import blocked
from tests.faults.proxy import Proxy
from tests.faults.test_interleavings import CALM, node_of, row_held
from tests.support import eventually
from tests.support.barriers import stopped
from tests.support.system import Account, Served, System

SHORT = {**CALM, "MITRA_OFFLINE_GRACE_SECONDS": "1"}


@contextmanager
def quick_judges() -> Iterator[None]:
    """Instances of this process find a death within a second, and a lease's end is the test's to bring about."""
    names = ("BEAT_S", "JUDGE_S", "DEAD_S", "LEASE_TAKE_S")
    before = {name: getattr(liveness, name) for name in names}
    for name, seconds in zip(names, (0.2, 0.1, 1.0, 0.2), strict=True):
        setattr(liveness, name, seconds)
    try:
        yield
    finally:
        for name, seconds in before.items():
            setattr(liveness, name, seconds)


@asynccontextmanager
async def partitionable(system: System, **settings: str) -> AsyncIterator[tuple[Served, Proxy, Proxy]]:
    """An instance in this process with its own ways to Postgres and Valkey."""
    port_of = {url: urlsplit(url).port or 0 for url in (system.database_url, system.valkey_url)}
    async with Proxy(port_of[system.database_url]) as to_postgres, Proxy(port_of[system.valkey_url]) as to_valkey:
        ways = {
            "DATABASE_URL": system.database_url.replace(f":{to_postgres.target}/", f":{to_postgres.port}/"),
            "VALKEY_URL": system.valkey_url.replace(f":{to_valkey.target}/", f":{to_valkey.port}/"),
        }
        async with system.running(**ways, **settings) as served:
            yield served, to_postgres, to_valkey


async def silenced(system: System, instance_id: str) -> None:
    """What time does to an instance that is cut off, at once: its lease is over."""
    await system.valkey.delete(f"instance:{instance_id}")


async def grace_over(system: System, mitra: Account) -> None:
    """What time does to a suspect, at once."""
    await system.sql.execute(
        "UPDATE mitra_presence SET version = version + 1, suspect_since = now() - interval '1 hour' "
        "WHERE mitra_id = $1 AND suspect_since IS NOT NULL",
        mitra.id,
    )


async def turned_away(served: Served, account: Account) -> tuple[int | None, list[str | bytes]]:
    """Connects; answers the code with which the server ends it, and what it said before."""
    async with websockets.connect(served.ws_url(), additional_headers=account.bearer, ping_interval=None) as socket:
        said: list[str | bytes] = []
        with suppress(websockets.ConnectionClosed):
            async with asyncio.timeout(10):
                while True:
                    said.append(await socket.recv())
        return socket.close_code, said


# deactivation against connect


async def test_who_is_deactivated_while_its_claim_waits_is_refused(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(), await system.account()
        async with row_held(system, mitra):
            coming = asyncio.create_task(system.phone(served, mitra))
            await eventually(lambda: node_of(served).registry.of(mitra.id))
            await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", mitra.id)
        with pytest.raises(websockets.InvalidStatus) as refusal:
            await coming
        assert refusal.value.response.status_code == 403
        assert not node_of(served).registry.of(mitra.id)
        row = await system.row(mitra)
        assert (row["state"], row["connection_id"], row["instance_id"]) == ("offline", None, None)
        await system.no_drift()


@pytest.mark.parametrize("at", ["before it is mirrored", "before its work is read"])
async def test_who_is_deactivated_between_its_claim_and_its_hello_is_sent_away(
    database: str, valkey: EmbeddedValkey, at: str
) -> None:
    async with System(database, valkey.url, CALM) as system:
        # The second one does not lead, and so mirrors nothing that it has not asked for itself.
        other, served, mitra = await system.instance(), await system.instance(), await system.account()
        operator, node = await system.account("operator"), node_of(served)
        where = (node.mirror, "apply") if at == "before it is mirrored" else (node.sockets, "_read_work")
        async with stopped(*where) as claimed:
            coming = asyncio.create_task(turned_away(served, mitra))
            await claimed.reached()
            assert await system.state(mitra) == "online", "the claim is committed"
            (connection,) = node.registry.of(mitra.id)
            url = f"{other.inner_url}/api/internal/mitras/{mitra.id}/deactivate"
            assert (await system.http.post(url, headers=operator.bearer)).status_code == 200
            await eventually(lambda: connection._early is not None or connection.gone)
        assert await coming == (CloseCode.DEACTIVATED, [])
        await node.transitions.join()
        assert not node.registry.of(mitra.id)
        assert (await system.row(mitra))["instance_id"] is None
        assert await system.log_of(mitra) == [("online", "connected"), ("offline", "deactivated")]
        await system.no_drift()


# late applies and late beats


async def test_of_two_flushes_on_two_instances_the_later_commit_stands_whichever_is_mirrored_last(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        second, first, mitra = await system.instance(), await system.instance(), await system.account()
        async with stopped(node_of(first).mirror, "apply") as mirrored:
            coming = asyncio.create_task(system.phone(first, mitra))
            await mirrored.reached()
            offline = await system.http.post(f"{second.url}/api/mitra/status/offline", headers=mitra.bearer)
            assert offline.status_code == 200
            version = (await system.row(mitra))["version"]
            assert int(await system.valkey.hget("mitras:versions", mitra.id)) == version
        phone = await coming
        assert (await phone.ask(type="sync"))["state"]["online"] is False
        assert int(await system.valkey.hget("mitras:versions", mitra.id)) == version
        assert not await system.valkey.sismember("mitras:online", mitra.id)
        assert await system.valkey.zscore("mitras:available", mitra.id) is None
        await system.no_drift()


@pytest.mark.parametrize("end", ["goodbye", "cut"])
@pytest.mark.parametrize("behind", [False, True], ids=["the beat arrives late", "its answer does"])
async def test_a_beat_under_way_brings_nobody_back_who_has_left(
    database: str, valkey: EmbeddedValkey, end: str, behind: bool
) -> None:
    async with System(database, valkey.url, {**CALM, "MITRA_OFFLINE_GRACE_SECONDS": "30"}) as system:
        served, mitra = await system.instance(), await system.account()
        node, phone = node_of(served), await system.phone(served, mitra)
        await system.available(served, 1)
        async with stopped(node.mirror, "beat", behind=behind) as beating:
            await phone.ask(type="ping")
            await beating.reached()
            if end == "cut":
                phone.cut()
            else:
                await phone.goodbye()
            await system.becomes(mitra, "suspect" if end == "cut" else "offline")
            await node.transitions.join()
        await node.heartbeats.flush()
        await node.transitions.join()
        assert await system.valkey.zscore("mitras:heartbeats", mitra.id) is None
        assert await system.valkey.get(f"mitra:heartbeat:{mitra.id}") is None
        assert (await system.log_of(mitra))[1:] == [("suspect", "lost") if end == "cut" else ("offline", "goodbye")]
        await system.no_drift()


async def test_beats_on_their_way_to_postgres_bring_nobody_back_who_has_left(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(HEARTBEAT_MIRROR_INTERVAL_SECONDS="600"), await system.account()
        node, phone = node_of(served), await system.phone(served, mitra)
        async with stopped(node.mirror, "beats_by_age", behind=True) as read:
            mirroring = asyncio.create_task(node.sweeps.mirror_beats())
            await read.reached()
            await phone.goodbye()
            gone = await system.becomes(mitra, "offline")
        assert await mirroring == 1
        after = await system.row(mitra)
        assert (after["state"], after["version"]) == ("offline", gone["version"])


# the reaper


async def test_who_comes_back_while_its_grace_is_being_ended_stays(database: str, valkey: EmbeddedValkey) -> None:
    with quick_judges():
        async with System(database, valkey.url, SHORT) as system:
            judge, mitra = node_of(await system.instance()), await system.account()
            async with partitionable(system) as (lives, to_postgres, to_valkey):
                phone = await system.phone(lives, mitra)
                await eventually(lambda: judge.liveness.is_leader and not judge.sweeps.amnesty(), 10)
                for way in (to_postgres, to_valkey):
                    way.cut()
                await eventually(lambda: not node_of(lives).valkey.available, 10)
                await silenced(system, node_of(lives).id)
                assert (await system.becomes(mitra, "suspect", within=15))["reason"] == "instance_died"
                async with stopped(judge.sweeps, "_submit") as expiring:
                    await grace_over(system, mitra)
                    await expiring.reached()
                    for way in (to_postgres, to_valkey):
                        way.heal()
                    await phone.ask(type="ping")
                    row = await system.becomes(mitra, "online", within=20)
                    await expiring.through()
                assert (row["reason"], row["connection_id"]) == ("back", phone.hello["connection_id"])
                assert [state for state, _ in await system.log_of(mitra)] == ["online", "suspect", "online"]
                assert (await phone.ask(type="sync"))["state"]["online"] is True
                await system.no_drift()


async def test_a_partitioned_instance_takes_back_whom_the_reaper_took_offline_meanwhile(
    database: str, valkey: EmbeddedValkey
) -> None:
    with quick_judges():
        async with System(database, valkey.url, SHORT) as system:
            judge = node_of(await system.instance())
            stays, leaves, moves = [await system.account() for _ in range(3)]
            async with partitionable(system) as (lives, to_postgres, to_valkey):
                _, left, _ = [await system.phone(lives, each) for each in (stays, leaves, moves)]
                await eventually(lambda: judge.liveness.is_leader and not judge.sweeps.amnesty(), 10)
                for way in (to_postgres, to_valkey):
                    way.cut()
                await eventually(lambda: not node_of(lives).valkey.available, 10)
                await silenced(system, node_of(lives).id)
                for each in (stays, leaves, moves):
                    await system.becomes(each, "suspect", within=15)
                await left.goodbye()  # nobody can write it down
                await eventually(lambda: not node_of(lives).registry.of(leaves.id))
                for each in (stays, leaves, moves):
                    await grace_over(system, each)
                    await system.becomes(each, "offline")
                node = node_of(lives)
                connections = [node.registry.of(each.id)[0] for each in (stays, moves)]
                # All that comes to know it while the goodbye is still unwritten, and before anybody beats again.
                async with stopped(node.transitions._batcher, "_flush"):
                    for way in (to_postgres, to_valkey):
                        way.heal()
                    await eventually(lambda: all(each.row and not each.row.is_online for each in connections), 20)
                    await eventually(lambda: node.heartbeats.leased_since is not None, 20)
                for each in (stays, moves):
                    assert (await system.becomes(each, "online", within=20))["reason"] == "back"
                await node_of(lives).transitions.join()
                assert await system.state(leaves) == "offline"
                await system.no_drift()


async def test_a_frozen_instance_that_thaws_after_the_grace_takes_its_mitras_back(
    database: str, valkey: EmbeddedValkey
) -> None:
    with quick_judges():
        async with System(database, valkey.url, SHORT) as system:
            judge = node_of(await system.instance())
            frozen, mitra = await system.process(), await system.account()
            phone = await system.phone(frozen.served, mitra)
            await eventually(lambda: judge.liveness.is_leader and not judge.sweeps.amnesty(), 10)
            await eventually(lambda: len(judge.liveness.instances) == 2, 10)
            frozen_id = next(each.id for each in judge.liveness.instances if each.id != judge.id)
            frozen.freeze()
            try:
                await silenced(system, frozen_id)
                await system.becomes(mitra, "suspect", within=15)
                await grace_over(system, mitra)
                await system.becomes(mitra, "offline", within=15)
            finally:
                frozen.thaw()
            await phone.ask(type="ping")
            row = await system.becomes(mitra, "online", within=20)
            assert (row["reason"], row["connection_id"]) == ("back", phone.hello["connection_id"])
            assert [state for state, _ in await system.log_of(mitra)] == ["online", "suspect", "offline", "online"]
            await system.no_drift()


async def test_an_instance_that_is_killed_and_started_again_under_its_name_is_another(
    database: str, valkey: EmbeddedValkey
) -> None:
    with quick_judges():
        async with System(database, valkey.url, SHORT) as system:
            judge = node_of(await system.instance())
            process = await system.process(HADIR_INSTANCE_ID="same")
            returns, stays_away = await system.account(), await system.account()
            for mitra in (returns, stays_away):
                await system.phone(process.served, mitra)
            died = (await system.row(returns))["instance_id"]
            await process.kill()
            await process.start(system.http)
            again = await system.phone(process.served, returns)
            await silenced(system, died)
            row = await system.becomes(stays_away, "suspect", within=15)
            assert (row["reason"], row["instance_id"]) == ("instance_died", None)
            row = await system.row(returns)
            assert row["connection_id"] == again.hello["connection_id"]
            assert row["instance_id"].startswith("same-")
            assert row["instance_id"] != died
            assert await system.log_of(returns) == [("online", "connected")], "its new socket is not the old one's"
            gone = "SELECT count(*) = 0 FROM instances WHERE id = $1"
            await eventually(lambda: system.sql.fetchval(gone, died), 10)
            await eventually(lambda: judge.mirror.counts(), 10)
            await system.no_drift()


# a wave of offers against a mitra that moves

WHERE = {
    "offers are committed and no route is looked up": ("bell", "_routes", False),
    "its route led to where it was": ("bell", "_routes", True),
    "its claim is not mirrored yet": ("mirror", "apply", False),
    "its work is read already": ("sockets", "_read_work", True),
}


@pytest.mark.parametrize("when", WHERE)
async def test_a_mitra_that_moves_while_it_is_offered_something_is_told_of_it(
    database: str, valkey: EmbeddedValkey, when: str
) -> None:
    async with System(database, valkey.url, {**CALM, "PAIRING_WAVE_SECONDS": "0.3"}) as system:
        first, second = await system.instance(), await system.instance()
        mitra, customer = await system.account(), await system.account("customer")
        await system.phone(first, mitra)
        await system.available(first, 1)
        part, name, behind = WHERE[when]
        here, there = (getattr(node_of(each), part) for each in (first, second))
        async with stopped(there, name, behind=behind) as arrives:
            if part == "bell":  # whichever of the two makes the wave
                async with stopped(here, name, behind=behind) as rings:
                    await system.pair(first, customer)
                    await eventually(lambda: rings.standing + arrives.standing, 10)
                    phone = await system.phone(second, mitra)
            else:
                coming = asyncio.create_task(system.phone(second, mitra))
                await arrives.reached()
                await system.pair(first, customer)
                offered = "SELECT count(*) = 1 FROM pairing_offers"
                await eventually(lambda: system.sql.fetchval(offered), 10)
                if behind:
                    (connection,) = node_of(second).registry.of(mitra.id)
                    await eventually(lambda: connection.told.offers, 10)
                arrives.open()
                phone = await coming
        (offer,) = phone.hello["state"]["offers"]
        won = await phone.ask(type="offer.accept", pairing_id=offer["pairing_id"])
        assert won["result"] == "won"
        assert not [each for each in phone.received if each["type"] == "offer"], "hello had it"


# a drain against the mitras that it sends away


@pytest.mark.parametrize("first", ["claim", "close", "claim, not mirrored"])
async def test_a_drain_and_the_arrival_elsewhere_take_nobody_offline_in_either_order(
    database: str, valkey: EmbeddedValkey, first: str
) -> None:
    async with System(database, valkey.url, {**CALM, "DRAIN_SECONDS": "0.3"}) as system:
        served, mitra = await system.instance(), await system.account()
        to = node_of(served)
        async with system.running() as leaves:
            left = node_of(leaves)
            old = await system.phone(leaves, mitra)
            held = {
                "claim": (left.transitions._batcher, "_flush"),
                "close": (to.transitions._batcher, "_flush"),
                "claim, not mirrored": (to.mirror, "apply"),
            }
            async with stopped(*held[first]) as late:
                if first == "claim, not mirrored":  # it is committed before the drain begins
                    coming = asyncio.create_task(system.phone(served, mitra))
                    await eventually(partial(owned_by, system, mitra, to))
                draining = asyncio.create_task(left.drain())
                if first == "claim":
                    await late.reached()
                    new = await system.phone(served, mitra)
                else:
                    if first == "close":
                        coming = asyncio.create_task(system.phone(served, mitra))
                        await late.reached()
                    assert await old.ended(10) in (CloseCode.RESTARTING, CloseCode.SUPERSEDED)
                    await left.transitions.join()
                    if first == "close":
                        assert await system.state(mitra) == "suspect"
                    late.open()
                    new = await coming
            await draining
        await to.transitions.join()
        row = await system.row(mitra)
        assert (row["state"], row["connection_id"]) == ("online", new.hello["connection_id"])
        between = [("suspect", "drained"), ("online", "back")] if first == "close" else []
        assert await system.log_of(mitra) == [("online", "connected"), *between]
        await system.available(served, 1, within=15)
        await system.no_drift()


async def owned_by(system: System, mitra: Account, node: Node) -> bool:
    return bool((await system.row(mitra))["instance_id"] == node.id)


# stores that were away, or come back older


async def reconnected(system: System) -> None:
    """The test's own connection to Postgres, after that was away."""

    async def again() -> bool:
        system.sql.terminate()
        system.sql = await connect(system.database_url, pooler="none")
        return True

    async def tried() -> bool:
        try:
            return await again()
        except PostgresUnavailable:
            return False

    await eventually(tried, 20)


async def passed(seconds: float) -> None:
    """So much time goes by: what is tested is that it does."""
    since = time.monotonic()
    await eventually(lambda: time.monotonic() - since > seconds, seconds + 10)


async def test_a_grace_that_ends_while_postgres_is_away_takes_nobody_offline(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url, {**CALM, "MITRA_OFFLINE_GRACE_SECONDS": "6"}) as system:
        served = await system.instance()
        node = node_of(served)
        stays, lost, returns = [await system.account() for _ in range(3)]
        await system.phone(served, stays)
        await eventually(lambda: node.liveness.is_leader and not node.sweeps.amnesty(), 10)
        for mitra in (lost, returns):
            (await system.phone(served, mitra)).cut()
            await system.becomes(mitra, "suspect")
        own_postgres.kill()
        await eventually(lambda: not node.postgres.available, 10)
        await passed(6.5)
        back = await system.phone(served, returns)
        assert back.hello["state"]["pending"] is True
        await own_postgres.start()
        await reconnected(system)
        await system.becomes(returns, "online", within=10)
        await eventually(lambda: node.liveness.is_leader, 10)
        assert node.sweeps.amnesty()
        assert await node.sweeps.expire() is None
        await system.phone(served, lost)
        await eventually(lambda: not node.sweeps.amnesty(), 10)
        await node.sweeps.expire()
        assert await system.sql.fetchval("SELECT count(*) FROM presence_log WHERE state = 'offline'") == 0
        await system.available(served, 3)


async def test_a_postgres_restored_from_an_older_copy_is_followed_in_every_way(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url, SHORT) as system:
        served = await system.instance()
        node, operator = node_of(served), await system.account("operator")
        stays, came, left, deactivated = [await system.account() for _ in range(4)]
        phones = {each.id: await system.phone(served, each) for each in (stays, left, deactivated)}
        cluster, copy = own_postgres.data_dir / "cluster", own_postgres.data_dir / "copy"
        await own_postgres.stop()
        copying = await asyncio.create_subprocess_exec("cp", "-a", cluster, copy)
        assert await copying.wait() == 0
        await own_postgres.start()
        await reconnected(system)
        await eventually(lambda: node.postgres.available, 10)
        lost_claim = phones[came.id] = await system.phone(served, came)
        await phones.pop(left.id).goodbye()
        await system.becomes(left, "offline")
        url = f"{served.inner_url}/api/internal/mitras/{deactivated.id}/deactivate"
        assert (await system.http.post(url, headers=operator.bearer)).status_code == 200
        await phones.pop(deactivated.id).ended()
        await system.available(served, 2, within=10)
        own_postgres.kill()
        await eventually(lambda: not node.postgres.available, 10)
        shutil.rmtree(cluster)
        copy.rename(cluster)
        await own_postgres.start()
        await reconnected(system)
        assert await system.state(came) == "offline", "as it was in the copy"
        assert await lost_claim.ended(20) == CloseCode.RESTARTING
        phones[came.id] = await system.phone(served, came)
        for gone in (left, deactivated):  # the copy has them online on sockets that are long closed
            await system.becomes(gone, "offline", within=20)
        assert await system.state(stays) == "online"
        await system.available(served, 2, within=10)
        await system.no_drift()


async def test_a_valkey_that_dies_just_before_beats_are_mirrored_moves_no_count(
    database: str, valkey: EmbeddedValkey
) -> None:
    # Mitras over HTTP have until the beat after the next.
    slow = {"HEARTBEAT_MIRROR_INTERVAL_SECONDS": "600", "MITRA_HEARTBEAT_INTERVAL_SECONDS": "20"}
    async with System(database, valkey.url, CALM | slow) as system:
        served, other = await system.instance(), await system.instance()
        nodes = [node_of(each) for each in (served, other)]
        await eventually(lambda: all(len(node.liveness.live_ids()) == 2 for node in nodes), 10)
        here, there, polls = [await system.account() for _ in range(3)]
        await system.phone(served, here)
        await system.phone(other, there)
        for path in ("online", "heartbeat"):
            answer = await system.http.post(f"{served.url}/api/mitra/status/{path}", headers=polls.bearer)
            assert answer.status_code == 200
        await system.available(served, 3)
        # The last run was a whole interval ago, and the beats that it found were an interval old.
        await system.sql.execute("UPDATE mitra_presence SET last_heartbeat_at = now() - interval '610 s'")
        said: list[dict[str, Any]] = []

        async def state(expected: str, of: Served) -> bool:
            said.append(await system.beacon(of))
            return bool(said[-1]["state"] == expected)

        # What sockets have beaten meanwhile is written at once, and would hide what is asked here.
        async with stopped(nodes[0].heartbeats, "_to_postgres"), stopped(nodes[1].heartbeats, "_to_postgres"):
            valkey.kill()
            for each in (served, other):
                await eventually(partial(state, "rebuilding", each), 10)
        await valkey.start()
        for each in (served, other):
            await eventually(partial(state, "live", each), 15)
        assert [each for each in said if each["available"] != 3] == []
        assert await system.sql.fetchval("SELECT count(*) FROM presence_log WHERE state <> 'online'") == 0


# the batcher, and what meets its statements


async def test_a_flush_that_postgres_ends_to_break_a_deadlock_is_repeated(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system, System(database, valkey.url, CALM) as another:
        # Postgres looks for a deadlock once a wait: not before there is one.
        await system.sql.execute(f"ALTER DATABASE {database.rpartition('/')[2]} SET deadlock_timeout = '3s'")
        served, mitra, other = await system.instance(), await system.account(), await system.account()
        node = node_of(served)
        phones = [await system.phone(served, each) for each in (mitra, other)]
        retries = metrics.BATCH_RETRIES.labels("transitions")
        before = retries._value.get()
        # It locks the login, then wants the row; a deactivation has the row, then wants its logins.
        await another.sql.execute("SET deadlock_timeout = '1 min'")  # so that it is the flush that Postgres ends
        await another.sql.execute("BEGIN")
        await another.sql.execute("SELECT FROM auth_sessions WHERE subject_id = $1 FOR UPDATE", mitra.id)
        deactivated = node.transitions.submit(mitra.id, SetActive(False, "an operator"))
        status = node.transitions.submit(other.id, SetStatus(phones[1].hello["connection_id"], False))
        await blocked(database)
        await another.sql.execute("UPDATE mitra_presence SET wants_online = false WHERE mitra_id = $1", mitra.id)
        await another.sql.execute("COMMIT")
        for result in (await asyncio.wait_for(deactivated, 10), await asyncio.wait_for(status, 10)):
            assert result.outcome is Outcome.DONE
        assert retries._value.get() > before, "it was the flush that Postgres ended"
        assert await phones[0].ended(10) == CloseCode.DEACTIVATED
        assert [await system.state(each) for each in (mitra, other)] == ["offline", "offline"]
        assert await system.log_of(mitra) == [("online", "connected"), ("offline", "deactivated")]
        assert node.postgres.available
        await system.no_drift()


# a wipe inside a seed


async def test_a_wipe_before_any_call_of_a_seed_leaves_a_whole_mirror_or_a_cold_one(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "PAGE", 2)
    monkeypatch.setattr(mirror, "ROWS_PER_SCRIPT", 1)
    monkeypatch.setattr("hadir.realtime.valkey.DEADLINE_S", 10.0)
    async with System(database, valkey.url, CALM) as system, opened(system.config()) as (verifier, seeder):
        mitras = await system.accounts(3)
        await system.sql.execute("UPDATE mitra_presence SET is_online = true WHERE mitra_id <> $1", mitras[0].id)
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", mitras[1].id)
        valkey_of_seed = seeder._mirror._valkey
        call, outcomes = valkey_of_seed.command, []
        for wiped in range(1, 100):
            calls = 0

            async def command(*words: Any, wiped: int = wiped) -> Any:
                nonlocal calls
                calls += 1
                if calls == wiped:
                    await system.valkey.flushall()
                return await call(*words)

            valkey_of_seed.command = command  # type: ignore[method-assign]
            seeded = await seeder.seed("test")
            valkey_of_seed.command = call  # type: ignore[method-assign]
            outcomes.append(seeded)
            assert await seeder._mirror.is_seeded() == seeded
            if seeded:
                async for page in verifier._pages():
                    assert await verifier._differ(page) == {}
            if calls < wiped:
                break
        assert outcomes == [True] + [False] * (len(outcomes) - 2) + [True], "only a wipe before it began, or none"
        assert len(outcomes) > 8, "every call of a seed that begins from nothing, of two pages and two scripts for one"

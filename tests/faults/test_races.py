"""Presence: two things at once, each pair in the order that would hurt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import pytest
import websockets

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime import liveness
from hadir.realtime.messages import CloseCode
from hadir.realtime.verify import opened
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


async def no_drift(system: System) -> None:
    async with opened(system.config()) as (verifier, _):

        async def clean() -> bool:
            report = await verifier.compare()
            assert (report.differences, report.silent) == ([], [])
            return True

        await eventually(clean, 20)


async def closed_at_once(served: Served, account: Account) -> int | None:
    """Connects and answers the code with which the server ends it; what it says before that does not matter."""
    async with websockets.connect(served.ws_url(), additional_headers=account.bearer, ping_interval=None) as socket:
        async with asyncio.timeout(10):
            await socket.wait_closed()
        return socket.close_code


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
        await no_drift(system)


@pytest.mark.parametrize("at", ["before it is mirrored", "before its work is read"])
async def test_who_is_deactivated_between_its_claim_and_its_hello_is_sent_away(
    database: str, valkey: EmbeddedValkey, at: str
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other, mitra = await system.instance(), await system.instance(), await system.account()
        operator, node = await system.account("operator"), node_of(served)
        where = (node.mirror, "apply") if at == "before it is mirrored" else (node.sockets, "_read_work")
        async with stopped(*where) as claimed:
            coming = asyncio.create_task(closed_at_once(served, mitra))
            await claimed.reached()
            assert await system.state(mitra) == "online", "the claim is committed"
            (connection,) = node.registry.of(mitra.id)
            url = f"{other.inner_url}/api/internal/mitras/{mitra.id}/deactivate"
            assert (await system.http.post(url, headers=operator.bearer)).status_code == 200
            await eventually(lambda: connection._early is not None or connection.gone)
        assert await coming == CloseCode.DEACTIVATED
        await node.transitions.join()
        assert not node.registry.of(mitra.id)
        assert (await system.row(mitra))["instance_id"] is None
        assert await system.log_of(mitra) == [("online", "connected"), ("offline", "deactivated")]
        await no_drift(system)


# late applies and late beats


async def test_of_two_flushes_on_two_instances_the_later_commit_stands_whichever_is_mirrored_last(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        first, second, mitra = await system.instance(), await system.instance(), await system.account()
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
        await no_drift(system)


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
        await no_drift(system)


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
                await judge.transitions.join()
                assert (row["reason"], row["connection_id"]) == ("back", phone.hello["connection_id"])
                assert [state for state, _ in await system.log_of(mitra)] == ["online", "suspect", "online"]
                assert (await phone.ask(type="sync"))["state"]["online"] is True
                await no_drift(system)


async def test_a_partitioned_instance_takes_back_whom_the_reaper_took_offline_meanwhile(
    database: str, valkey: EmbeddedValkey
) -> None:
    with quick_judges():
        async with System(database, valkey.url, SHORT) as system:
            judge = node_of(await system.instance())
            stays, leaves, moves = [await system.account() for _ in range(3)]
            async with partitionable(system) as (lives, to_postgres, to_valkey):
                phone, left, old = [await system.phone(lives, each) for each in (stays, leaves, moves)]
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
                for way in (to_postgres, to_valkey):
                    way.heal()
                await phone.ask(type="ping")
                await old.ask(type="ping")
                for each in (stays, moves):
                    assert (await system.becomes(each, "online", within=20))["reason"] == "back"
                await node_of(lives).transitions.join()
                assert await system.state(leaves) == "offline"
                await no_drift(system)

"""What fails, row by row, on three instances under a crowd of beating mitras and customers who deal with them.

One fleet for all of it: each fault is followed by recovery, by `hadir verify` that finds nothing, and by a judgement of
everything that was answered meanwhile. Each prints what it cost. `HADIR_TEST_CROWD=2000` takes so many mitras.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
import redis.asyncio as redis

from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.conftest import make_folder
from tests.faults.fleet import Fleet, Member
from tests.faults.proxy import Proxy
from tests.faults.test_hostile import flood, raw_socket
from tests.faults.test_one_winner import broken_rules
from tests.support import eventually
from tests.support.crowd import Crowd
from tests.support.market import TOKEN
from tests.support.system import Account, Phone, System
from tests.support.visitors import Visitors

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = int(os.environ.get("HADIR_TEST_CROWD", "200"))
CUSTOMERS = 6
STAY_AWAY = 20
"""Of the crowd, so many lose their connection where a fault is to meet those who come back."""
INTERVAL_S, STALE_S, GRACE_S, CACHE_S = 2.0, 8.0, 6.0, 0.5
LONG_GRACE_S = 2 * INTERVAL_S + 10
DEAD_S = 12.0
SETTINGS = {
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": f"{INTERVAL_S:g}",
    "MITRA_HEARTBEAT_STALE_SECONDS": f"{STALE_S:g}",
    "MITRA_OFFLINE_GRACE_SECONDS": f"{GRACE_S:g}",
    "MITRA_AUTO_OFFLINE_SWEEP_SECONDS": "1",
    "HEARTBEAT_MIRROR_INTERVAL_SECONDS": "1",
    "VALKEY_ONLINE_MIRROR_SWEEP_SECONDS": "5",
    "BEACON_CACHE_SECONDS": f"{CACHE_S:g}",
    "CONNECT_RATE_PER_SECOND": "400",
    "PAIRING_WAVE_SIZE": "3",
    "PAIRING_WAVE_SECONDS": "1",
    "PAIRING_TIMEOUT_SECONDS": "30",
    "XENDIT_CALLBACK_TOKEN": TOKEN,
}
SLACK_S = 1.5
"""A socket counts for the crowd a moment before or after it does for the server, on two busy cores."""

BEATING = "SELECT count(*) = 3 FROM instances WHERE beat_at > clock_timestamp() - interval '4 s'"
"""Whether all instances have said lately that they live."""


@dataclass
class Rig:
    """Three instances, who uses them, and what has been seen of it."""

    fleet: Fleet
    crowd: Crowd
    trade: Visitors
    beside: int = 0
    """Mitras of a test's own who may be counted, too."""
    began: float = field(default_factory=time.monotonic)

    @property
    def system(self) -> System:
        return self.fleet.system

    @asynccontextmanager
    async def trial(self, what: str, *, sockets_stay: bool = True, all_answer: bool = True) -> AsyncIterator[None]:
        """The block is the fault; recovery begins at its end. Then everything is judged, and one line printed."""
        self.crowd.forget()
        self.trade.forget()
        opens = [client.counters.opens for client in self.crowd.clients]
        began = time.monotonic()
        try:
            yield
        except BaseException:
            await self.mend()  # the next fault is to meet a whole fleet
            raise
        ended = time.monotonic()
        await self.crowd.everyone_back(30)
        whole_s = time.monotonic() - ended
        await self.trade.goes_on()
        await self.fleet.connected_again()
        for member in self.fleet.members:
            await member.well(30)
        await self.system.no_drift()
        crowd = self.crowd
        assert crowd.lows(SLACK_S) == []
        assert crowd.most() <= SIZE + self.beside
        assert await crowd.offline_of_the_living() == []
        assert await broken_rules(self.system) == []
        assert await self.trade.lost() == []
        if all_answer:
            assert crowd.unanswered == []
        again = sum(client.counters.opens > before for client, before in zip(crowd.clients, opens, strict=True))
        if sockets_stay:
            assert again == 0, f"{again} of {SIZE} lost their sockets"
        heard_s = max(self.trade.latencies_s, default=0.0)
        print(
            f"{what}: {ended - began:.1f} s of it, whole {whole_s:.2f} s after; {len(crowd.samples)} answers of the "
            f"beacon, none wrong, {len(crowd.unanswered)} missing; {again} sockets came anew; messages heard within "
            f"{heard_s:.2f} s; customers were refused {dict(self.trade.refused) or 'nothing'}"
        )

    async def mend(self) -> None:
        """Whatever a fault has left."""
        self.beside = 0
        for store in (self.fleet.postgres, self.fleet.valkey):
            await store.restart()
        for member in self.fleet.members:
            member.to_postgres.heal()
            member.to_valkey.heal()
            await member.kill()
            await member.start()

    async def through(self, seconds: float) -> None:
        """Lets a fault last."""
        until = time.monotonic() + seconds
        await eventually(lambda: any(sample.at > until for sample in self.crowd.samples[-10:]), seconds + 20)

    async def some_lose_their_connection(self) -> None:
        for client in self.crowd.clients[:STAY_AWAY]:
            client.drop()
        await self.some_are_away()

    async def some_are_away(self) -> None:
        await eventually(lambda: self.crowd.live < SIZE, 10)

    async def some_are_back(self) -> None:
        await eventually(lambda: self.crowd.live == SIZE, 30)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = make_folder()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres", fsync=False))
        valkey = await stack.enter_async_context(EmbeddedValkey(folder / "valkey"))
        await migrate(postgres.url)
        system = await stack.enter_async_context(System(postgres.url, valkey.url, SETTINGS))
        logs = tmp_path_factory.mktemp("fleet")
        fleet = await stack.enter_async_context(Fleet(system, postgres, valkey, 3, logs))
        trade = Visitors(system, fleet.served, CUSTOMERS)
        crowd = await stack.enter_async_context(Crowd(system, fleet.served, SIZE, trade.hear, max_sessions=1_000))
        await crowd.everyone_back(30)
        await stack.enter_async_context(trade.with_mitras(crowd))
        await trade.goes_on()
        yield Rig(fleet, crowd, trade)


# Valkey refuses, resets, is killed, hangs, thaws


async def test_valkey_refuses(rig: Rig) -> None:
    async with rig.trial("Valkey refuses"):
        for member in rig.fleet.members:
            member.to_valkey.cut()
        await rig.crowd.all_say("rebuilding")
        before = [await member.metric("hadir_beacon_queries_total") for member in rig.fleet.members]
        began = time.monotonic()
        await rig.through(3)
        for member, counted in zip(rig.fleet.members, before, strict=True):
            # It tries Valkey first each time: two counts a TTL, one of them in Postgres.
            most = 2 * ((time.monotonic() - began) / CACHE_S + 2)
            assert await member.metric("hadir_beacon_queries_total") - counted <= most
        for member in rig.fleet.members:
            member.to_valkey.heal()


async def test_valkey_resets(rig: Rig) -> None:
    async with rig.trial("Valkey resets connections"):
        for member in rig.fleet.members:
            member.to_valkey.reset()
        await rig.through(1)


async def test_valkey_is_killed_and_comes_back_empty(rig: Rig) -> None:
    async with rig.trial("Valkey is killed and comes back empty"):
        rig.fleet.valkey.kill()
        await rig.crowd.all_say("rebuilding")
        await rig.through(1)
        await rig.fleet.valkey.start()


async def test_valkey_hangs_until_all_beats_are_stale_and_thaws(rig: Rig) -> None:
    async with rig.trial("Valkey hangs and thaws"):
        with rig.fleet.valkey_frozen():
            await rig.crowd.all_say("rebuilding")
            await rig.through(STALE_S + 0.5)


# Valkey empty, FLUSHALL, failover to an old or empty replica


async def test_valkey_is_wiped(rig: Rig) -> None:
    async with rig.trial("Valkey is wiped, three times"):
        for _ in range(3):
            await rig.fleet.wiped()
            await rig.through(0.5)
            await rig.crowd.everyone_back(20)


async def test_valkey_fails_over_to_an_old_replica_and_then_to_an_empty_one(rig: Rig, tmp_path: Path) -> None:
    fleet, primary = rig.fleet, rig.fleet.valkey
    async with (
        EmbeddedValkey(tmp_path) as replica,
        Proxy(primary.port) as replication,
        redis.Redis.from_url(replica.url, decode_responses=True) as operator,
    ):
        await operator.replicaof("127.0.0.1", replication.port)
        await eventually(lambda: follows(operator), 20)
        async with rig.trial("A failover to a replica that is behind", sockets_stay=False):
            replication.blackhole()
            await rig.some_lose_their_connection()
            await rig.some_are_back()
            await rig.through(1)
            primary.kill()
            await operator.replicaof("NO", "ONE")
            await fleet.replaced(replica)
        async with rig.trial("A failover to an empty Valkey"):
            await primary.start()
            await fleet.replaced(primary)
            replica.kill()


async def follows(replica: redis.Redis) -> bool:
    found = await replica.info("replication")
    return found["master_link_status"] == "up" and await replica.exists("mirror:seeded") == 1


# Postgres down


async def test_postgres_restarts(rig: Rig) -> None:
    async with rig.trial("Postgres restarts"):
        await rig.fleet.postgres.restart()


async def test_postgres_is_down(rig: Rig) -> None:
    system, crowd, first = rig.system, rig.crowd, rig.fleet.served[0]
    customer = await system.account("customer")
    async with rig.trial("Postgres is down", sockets_stay=False):
        await rig.fleet.postgres.stop()
        await asyncio.gather(*(lacks(rig, member, "postgres") for member in rig.fleet.members))
        await rig.some_lose_their_connection()
        dropped = crowd.clients[:STAY_AWAY]
        await eventually(lambda: all(client.connected and (client.state or {})["pending"] for client in dropped), 20)
        refused = await system.ask(first, customer, "POST", "/api/pairings", headers={"Idempotency-Key": "k"}, json={})
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        assert (await system.beacon(first))["state"] == "live"
        await rig.fleet.postgres.start()


async def test_postgres_hangs_for_longer_than_the_grace(rig: Rig) -> None:
    async with rig.trial("Postgres hangs for longer than the grace", sockets_stay=False):
        with rig.fleet.postgres_frozen():
            await rig.through(1)
            await rig.some_lose_their_connection()
            await rig.through(GRACE_S + 1)


# both down


@pytest.mark.parametrize("for_s", [2, DEAD_S + 1])
async def test_both_stores_are_away(rig: Rig, for_s: float) -> None:
    """The longer outage makes all instances' rows as old as those of dead ones, and beats older than they may be."""
    async with rig.trial(f"Both stores are away for {for_s:.0f} s"):
        rig.fleet.valkey.kill()
        await rig.fleet.postgres.stop()
        await rig.crowd.all_say("stale")
        await rig.through(for_s)
        await rig.fleet.postgres.start()
        await rig.fleet.valkey.start()


# one instance


async def test_an_instance_is_killed(rig: Rig) -> None:
    victim = rig.fleet.members[0]
    async with Patient.on(rig, victim, 3) as patients:
        async with rig.trial("An instance is killed and started again", sockets_stay=False, all_answer=False):
            await victim.kill()
            killed = time.monotonic()
            await rig.some_are_away()
            await rig.some_are_back()
            await victim.start()
        await eventually(patients.proven_dead, DEAD_S + 30)
        print(f"whoever did not come back is suspect {time.monotonic() - killed:.1f} s after the kill, or sooner")


@pytest.mark.parametrize("how", ["cut", "blackhole"])
async def test_an_instance_is_cut_off_from_valkey(rig: Rig, how: str) -> None:
    """The leader, so that nobody else does its work; in the blackhole for as long as would prove a death."""
    victim = await rig.fleet.leader()
    other = next(member for member in rig.fleet.members if member is not victim)
    mitra, operator = await rig.system.account(), await rig.system.account("operator")
    phone = await rig.system.phone(victim.served, mitra)
    rig.beside = 1
    async with rig.trial(f"The leader is cut off from Valkey ({how})"):
        getattr(victim.to_valkey, how)()
        await lacks(rig, victim, "valkey")
        await phone.ask(type="ping")  # not its own silence is to end it
        url = f"{other.served.inner_url}/api/internal/mitras/{mitra.id}/deactivate"
        told = time.monotonic()
        assert (await rig.system.http.post(url, headers=operator.bearer)).status_code == 200
        assert await phone.ended(20) == 4502
        print(f"a deactivation reached the instance without Valkey in {time.monotonic() - told:.1f} s")
        await rig.through(3 if how == "cut" else max(rig.system.config().postgres_fresh_s, DEAD_S) + 1)
        victim.to_valkey.heal()
    rig.beside = 0


@pytest.mark.parametrize("how", ["cut", "blackhole"])
async def test_an_instance_is_cut_off_from_postgres(rig: Rig, how: str) -> None:
    """The leader; in the blackhole for as long as would prove a death."""
    victim = await rig.fleet.leader()
    async with rig.trial(f"The leader is cut off from Postgres ({how})"):
        getattr(victim.to_postgres, how)()
        began = time.monotonic()
        await lacks(rig, victim, "postgres")
        await rig.through(2 if how == "cut" else DEAD_S + 1 - (time.monotonic() - began))
        victim.to_postgres.heal()


async def test_an_instance_freezes_and_comes_back_after_its_grace(rig: Rig) -> None:
    victim = rig.fleet.members[1]
    # After an outage of Postgres its row may be so old that it is proven dead before its apps have noticed anything.
    await eventually(lambda: rig.system.sql.fetchval(BEATING), 20)
    async with Patient.on(rig, victim, 3) as patients:
        async with rig.trial("An instance freezes and comes back", sockets_stay=False, all_answer=False):
            with victim.frozen():
                await patients.become("offline", DEAD_S + LONG_GRACE_S + 20)
            back_s = await patients.become("online", 20)
            assert patients.closed() == []
            await patients.leave()
        print(f"whoever had waited on it: online again {back_s:.1f} s after the thaw")
        assert ("online", "back") in await patients.log()


# slow or hostile clients


async def test_slow_and_hostile_clients_beside_the_crowd(rig: Rig) -> None:
    served = rig.fleet.served[0]
    deaf, loud, wrong = await rig.system.accounts(3)
    silent = socket.create_connection(("127.0.0.1", served.public_port))
    rig.beside = 3
    try:
        async with rig.trial("Slow and hostile clients"):
            raw = await raw_socket(served, deaf)
            ping = bytes((0x89, 0x80 | 125)) + b"\0\0\0\0" + b"x" * 125
            flooding = asyncio.create_task(flood(raw, ping))
            noisy = await rig.system.phone(served, loud)
            crooked = await rig.system.phone(served, wrong)
            for _ in range(80):
                await noisy.send(type="sync")
            for _ in range(11):
                await crooked.send(type="nonsense")
            assert await noisy.ended(20) == 4004
            assert await crooked.ended(20) == 4004
            await asyncio.wait_for(flooding, 20)
            raw.close()
            await rig.through(1)
            for each in (deaf, loud, wrong):
                await eventually(partial(was_suspect, rig.system, each), 20)
    finally:
        rig.beside = 0
        silent.close()


# helpers


async def was_suspect(system: System, mitra: Account) -> bool:
    return "suspect" in [state for state, _ in await system.log_of(mitra)]


async def lacks(rig: Rig, member: Member, store: str) -> None:
    async def says_so() -> bool:
        return store in (await rig.system.http.get(f"{member.served.url}/ready")).json().get("why", ())

    await eventually(says_so, 20)


class Patient:
    """Mitras beside the crowd, on one instance, who beat and never notice anything."""

    def __init__(self, rig: Rig, accounts: list[Account], phones: list[Phone]) -> None:
        self._rig = rig
        self._accounts, self._phones = accounts, phones

    @classmethod
    @asynccontextmanager
    async def on(cls, rig: Rig, member: Member, count: int) -> AsyncIterator[Patient]:
        accounts = await rig.system.accounts(count)
        phones = [await rig.system.phone(member.served, account) for account in accounts]
        patients = cls(rig, accounts, phones)
        rig.beside = count
        await patients.become("online", 20)  # a hello may come before its claim stands
        beating = asyncio.create_task(patients._beat())
        try:
            yield patients
        finally:
            beating.cancel()
            await asyncio.wait([beating])
            await patients.leave()
            rig.beside = 0

    async def _beat(self) -> None:
        while True:
            for phone in self._phones:
                if phone.closed_with is None:
                    await phone.send(type="ping")
            await asyncio.sleep(INTERVAL_S)

    async def become(self, state: str, within: float) -> float:
        """Waits until all are in a state; answers the seconds that took."""
        began = time.monotonic()
        for account in self._accounts:
            await self._rig.system.becomes(account, state, within)
        return time.monotonic() - began

    async def leave(self) -> None:
        await asyncio.gather(*(phone.goodbye() for phone in self._phones if phone.closed_with is None))

    def closed(self) -> list[int]:
        return [phone.closed_with for phone in self._phones if phone.closed_with is not None]

    async def proven_dead(self) -> bool:
        """Whether each has been suspected, because its instance died or, where that came first, for its silence."""
        for account in self._accounts:
            suspected = [line for line in await self._rig.system.log_of(account) if line[0] == "suspect"]
            assert suspected in ([("suspect", "instance_died")], [("suspect", "stale")])
        return True

    async def log(self) -> set[tuple[str, str]]:
        return {line for account in self._accounts for line in await self._rig.system.log_of(account)}

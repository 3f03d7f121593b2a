"""Callers that are cancelled at every one of their awaits, in turn: what they began is finished, or was never begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.errors import Refused
from hadir.realtime.bus import Bus
from hadir.realtime.keys import Keys
from hadir.realtime.node import Node
from hadir.realtime.peer import Login
from hadir.realtime.presence import Claim, Outcome, TakeOffline
from hadir.realtime.transitions import Request, Result
from hadir.realtime.valkey import Valkey
from hadir.realtime.verify import opened
from tests.faults.test_interleavings import CALM, cut_off_from_postgres, node_of
from tests.support import eventually
from tests.support.barriers import Interrupted, interrupt
from tests.support.system import Account, Phone, System

AWAITS_MAX = 100
LONG = {**CALM, "MITRA_OFFLINE_GRACE_SECONDS": "30"}
WHEN = pytest.mark.parametrize("late", [False, True], ids=["while it waits", "as it is woken"])


async def at_every_await(begin: Callable[[], Coroutine[Any, Any, Any]], late: bool) -> AsyncIterator[Interrupted[Any]]:
    """Once for each await that there is: what `begin` makes, cancelled there; the last one ran to its end."""
    for at in range(1, AWAITS_MAX):
        interrupted = await interrupt(begin(), at, late=late)
        yield interrupted
        if interrupted.over:
            assert at > 1, "it has no await"
            return
    raise AssertionError("it has too many awaits")


async def nothing_held(node: Node) -> None:
    """Nothing of Postgres is held, and nothing waits to be written."""
    await eventually(lambda: node.postgres.in_use[0] == 0 and node.transitions.waiting == 0, 10)


@WHEN
@pytest.mark.parametrize("pending", [False, True], ids=["claimed", "pending"])
async def test_a_connect_that_is_cancelled_leaves_no_socket_and_owns_no_row(
    database: str, valkey: EmbeddedValkey, pending: bool, late: bool
) -> None:
    async with System(database, valkey.url, LONG) as system:
        node, mitra = node_of(await system.instance()), await system.account()
        login = Login(mitra.id, mitra.role, mitra.sid, 600)

        async def connects() -> None:
            async for interrupted in at_every_await(lambda: node.sockets.admit(login, None, node.market), late):
                assert len(node.registry.of(mitra.id)) == interrupted.over

        if pending:
            await eventually(node.mirror.counts)
            async with cut_off_from_postgres(node):
                await connects()
                assert node.sockets._pending == 1
        else:
            await connects()
        await nothing_held(node)
        (last,) = node.registry.of(mitra.id)  # the one that was not cancelled
        row = await system.row(mitra)
        assert (row["state"], row["connection_id"], row["instance_id"]) == ("online", last.connection_id, node.id)
        assert node.sockets._pending == 0
        last.ended(1000)
        await node.transitions.join()
        row = await system.row(mitra)
        assert (row["state"], row["instance_id"]) == ("offline", None)
        assert len(node.registry) == 0
        await system.no_drift()


async def test_whoever_no_longer_waits_for_a_transition_has_it_written_all_the_same(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, LONG) as system:
        served, mitra = await system.instance(), await system.account()
        node, phone = node_of(served), await system.phone(served, mitra)

        async def take_offline() -> Outcome:
            return (await node.transitions.submit(mitra.id, TakeOffline("an operator"))).outcome

        assert not (await interrupt(take_offline(), 1, late=False)).over
        await system.becomes(mitra, "offline")
        assert await take_offline() is Outcome.UNCHANGED
        assert (await phone.ask(type="ping"))["type"] == "pong"
        await nothing_held(node)


@WHEN
async def test_a_flush_that_is_cancelled_wrote_everything_or_nothing_and_may_be_repeated(
    database: str, valkey: EmbeddedValkey, late: bool
) -> None:
    async with System(database, valkey.url, LONG) as system:
        node, mitras = node_of(await system.instance()), iter(await system.accounts(2 * AWAITS_MAX))
        pairs: list[tuple[Account, Account]] = []

        def flush() -> Coroutine[Any, Any, Any]:
            pairs.append((next(mitras), next(mitras)))
            return node.transitions._flush([claim(node, each) for each in pairs[-1]])

        async for _ in at_every_await(flush, late):
            await nothing_held(node)
            ids = [each.id for each in pairs[-1]]
            claimed = "SELECT count(*) FROM mitra_presence WHERE is_online AND mitra_id = ANY ($1::uuid[])"
            assert await system.sql.fetchval(claimed, ids) in (0, 2), "one transaction"

            async def repeated() -> bool:
                results = await node.transitions._flush([claim(node, each) for each in pairs[-1]])
                # Postgres may be about to find out that nobody waits for what it still does, and holds the rows.
                return all(isinstance(each, Result) and each.outcome is Outcome.DONE for each in results)

            await eventually(repeated, 10)
            for each in pairs[-1]:
                assert await system.log_of(each) == [("online", "connected")]
        assert node.postgres.available
        assert await node.mirror.beats_by_age(oldest_s=None, youngest_s=0, limit=1000) is not None
        online = await system.sql.fetchval("SELECT count(*) FROM mitra_presence WHERE is_online")
        assert await system.valkey.scard("mitras:online") == online == 2 * len(pairs)


def claim(node: Node, mitra: Account) -> Request:
    return Request(mitra.id, Claim(f"of {mitra.id}", node.id, mitra.sid, True), time.monotonic())


@WHEN
async def test_a_seed_that_is_cancelled_is_in_nobodys_way(
    database: str, valkey: EmbeddedValkey, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hadir.realtime.valkey.DEADLINE_S", 10.0)
    async with System(database, valkey.url, LONG) as system, opened(system.config()) as (verifier, seeder):
        await system.accounts(3)
        await system.sql.execute("UPDATE mitra_presence SET is_online = true")
        async for interrupted in at_every_await(lambda: seeder.seed("test"), late):
            seeded = await seeder._mirror.is_seeded()
            assert seeded or not interrupted.over
            await eventually(lambda: seeder.seed("test"), 3)
            async for page in verifier._pages():
                assert await verifier._differ(page) == {}
            await system.valkey.flushall()


async def test_a_drain_that_is_cancelled_can_be_begun_again_and_loses_no_close(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, {**LONG, "DRAIN_SECONDS": "0.1"}) as system:
        node, mitra = node_of(served := await system.instance()), await system.account()
        async for interrupted in at_every_await(node.drain, late=False):
            if not interrupted.over:
                await node.drain()
            assert len(node.registry) == 0
            await nothing_held(node)
            assert await system.sql.fetchval("SELECT count(*) FROM instances") == 0
            assert await system.sql.fetchval("SELECT count(*) FROM mitra_presence WHERE instance_id IS NOT NULL") == 0
            # It serves again, as if it had just been started.
            node.state, node.sockets.draining, node.liveness._left = "ready", False, False
            await system.phone(served, mitra)
        assert "offline" not in [state for state, _ in await system.log_of(mitra)]


# the market


class Deal:
    """One customer's way from a pairing to the end of a session; each step may be asked for again."""

    def __init__(self, system: System, node: Node, mitra: Account, customer: Account, app: Phone) -> None:
        self._system, self._node = system, node
        self._mitra, self._customer, self.app = mitra, customer, app
        self.pairing = self.session = ""

    async def create(self) -> None:
        self.pairing = (await self._node.market.pairings.create(self._customer.id, "key", "")).id

    async def accept(self) -> None:
        accepted = await self._node.market.pairings.accept(self.pairing, self._mitra.id)
        assert accepted.session is not None
        self.session = accepted.session.id

    async def send(self) -> None:
        message = await self._node.market.sessions.send(self.session, self._customer.id, "1", "Halo")
        assert message.seq == 1

    async def end(self) -> None:
        try:
            await self._node.market.sessions.end(self.session, None, "operator")
        except Refused as refusal:  # it had ended when it was asked for again
            if refusal.code != "wrong_state":
                raise

    async def until(self, step: str) -> None:
        """Everything before a step."""
        if step == "create":
            return
        await self.create()
        await self.hears(await self.done())  # the end of what it was not told would be no news
        offered = "INSERT INTO pairing_offers (pairing_id, mitra_id, wave) VALUES ($1, $2, 1)"
        await self._system.sql.execute(offered, self.pairing, self._mitra.id)
        if step == "accept":
            return
        await self.accept()
        paid = "UPDATE chat_sessions SET status = 'active', expires_at = now() + interval '1 hour' WHERE id = $1"
        await self._system.sql.execute(paid, self.session)
        self._node.market.bell.ring(customers=[self._customer.id])
        await self.hears(await self.done())

    async def done(self) -> tuple[str, ...]:
        """What Postgres has of it."""
        record = await self._system.sql.fetchrow(
            "SELECT coalesce((SELECT string_agg(status, ' ') FROM pairings WHERE customer_id = $1), '') AS pairing, "
            "coalesce((SELECT string_agg(status, ' ') FROM chat_sessions WHERE customer_id = $1), '') AS session, "
            "(SELECT count(*)::text FROM chat_messages WHERE sender_id = $1) AS messages",
            self._customer.id,
        )
        assert record is not None
        return tuple(record)

    async def hears(self, done: tuple[str, ...]) -> None:
        """Waits until the app was told all of that, by whichever way."""
        await eventually(lambda: self._told() == done, 15)

    def _told(self) -> tuple[str, ...]:
        heard = ["", "", "0"]
        for message in self.app.received:
            match message["type"]:
                case "pairing.updated":
                    heard[0] = message["pairing"]["status"]
                case "session.updated":
                    heard[1] = message["session"]["status"]
        heard[2] = str(sum(message["type"] == "chat.message" for message in self.app.received))
        return tuple(heard)


ENDS = {
    "create": ("searching", "", "0"),
    "accept": ("accepted", "pending_payment", "0"),
    "send": ("accepted", "active", "1"),
    "end": ("accepted", "ended", "0"),
}


@WHEN
@pytest.mark.parametrize("step", ENDS)
async def test_a_call_that_is_cancelled_did_it_once_or_not_at_all_and_who_is_concerned_hears_it(
    database: str, valkey: EmbeddedValkey, step: str, late: bool
) -> None:
    async with System(database, valkey.url, {**LONG, "PAIRING_WAVE_SECONDS": "600"}) as system:
        served, mitra = await system.instance(), await system.account()
        node = node_of(served)
        await system.sql.execute("UPDATE mitras SET max_sessions = 1000 WHERE id = $1", mitra.id)
        deals: list[Deal] = []
        for at in range(1, AWAITS_MAX):
            customer = await system.account("customer")
            deal = Deal(system, node, mitra, customer, await system.customer(served, customer))
            deals.append(deal)
            await deal.until(step)
            before = await deal.done()
            interrupted = await interrupt(getattr(deal, step)(), at, late=late)
            assert await deal.done() in (before, ENDS[step])
            if interrupted.over:
                break
        await nothing_held(node)
        for deal in deals:  # what was committed is told, though whoever asked for it was gone before it could ring
            await deal.hears(await deal.done())
        for deal in deals:
            await getattr(deal, step)()
            assert await deal.done() == ENDS[step]
            await deal.hears(ENDS[step])
        assert node.postgres.available
        open_sessions = (await system.row(mitra))["open_sessions"]
        assert open_sessions == (len(deals) if step in ("accept", "send") else 0)


async def ends_when_cancelled(task: asyncio.Task[None], goes_on: asyncio.Event) -> None:
    """Cancelled once, while its group waits for the task that `goes_on` lets end."""
    task.cancel()
    await asyncio.sleep(0)  # it is woken, and its group has lost the cancellation
    goes_on.set()
    ended, _ = await asyncio.wait([task], timeout=5)
    task.cancel()  # or it would keep the test from ending
    await asyncio.wait([task], timeout=5)
    assert ended == {task}


async def test_a_stop_that_meets_a_lost_subscription_is_heeded(valkey: EmbeddedValkey) -> None:
    """The group of both has just failed and waits for its other task: what is cancelled then must end all the same."""
    async with Valkey(valkey.url) as link:
        bus = Bus(valkey.url, link, Keys(), "i1")
        subscribed, ending, goes_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        bus.on_gap.append(subscribed.set)

        async def ends_late() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await goes_on.wait()

        bus._fail_on_demand = ends_late  # type: ignore[method-assign]
        listening = asyncio.create_task(bus._listener())
        async with asyncio.timeout(10):
            await subscribed.wait()
            await valkey.stop()
            await ending.wait()
        await ends_when_cancelled(listening, goes_on)


async def test_a_stop_that_meets_a_crash_is_heeded(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, LONG) as system:
        node = node_of(await system.instance())
        ending, goes_on, begun = asyncio.Event(), asyncio.Event(), []

        async def ends_late() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await goes_on.wait()

        async def crashes() -> None:
            raise ZeroDivisionError

        async def run() -> None:
            begun.append(1)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(ends_late())
                tasks.create_task(crashes())

        running = asyncio.create_task(node._keep_running(run))
        await asyncio.wait_for(ending.wait(), 5)
        node.state = "stopped"
        await ends_when_cancelled(running, goes_on)
        assert begun == [1]

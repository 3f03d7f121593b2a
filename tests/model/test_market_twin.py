"""The twin of the functions of pairings and sessions against the functions themselves: same answers, same tables."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import asyncpg
import pytest

from hadir.db.queries import sql as query
from hadir.realtime.pairing import LATE_S
from hadir.realtime.presence import Row
from hadir.realtime.rows import COLUMNS
from hadir.realtime.session import Event, steps
from tests.model.market import DECIDE, Locked, Work
from tests.model.postgres import EPOCH, Transaction, Truth

MITRAS = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(6)]
CUSTOMERS = [f"{n:08x}-0000-4000-8000-00000000000c" for n in range(4)]
ROUNDS = 3_000
TIMEOUT_S, WAVE_S, PAYMENT_S, SESSION_S = 250.0, 150.0, 450.0, 750.0
"""Far from every sum of pauses: the real clock goes on between two calls, and must decide nothing."""
PAUSE_S = 100.0
TIMES = {
    "pairings": ("created_at", "expires_at", "next_wave_at"),
    "chat_sessions": ("created_at", "payment_due_at", "expires_at"),
    "mitra_presence": ("last_session_at",),
}
PAST = {name: ", ".join(f"{at} = {at} - $1 * interval '1 s'" for at in times) for name, times in TIMES.items()}


class Clock:
    """All that the twin needs of a loop."""

    now = 0.0


class Both:
    """A database and its twin. Ids that a function makes are compared by who made them first."""

    def __init__(self, sql: asyncpg.Connection, dice: Random) -> None:
        self.sql = sql
        self.dice = dice
        self.clock = Clock()
        self.twin = Truth(self.clock, lambda before, row: None)  # type: ignore[arg-type] # it only asks for the time
        self.twin.bazaar.customers.update(CUSTOMERS)
        self.sessions: list[tuple[str, str]] = []
        """Ids there and here."""
        self.pairings: list[str] = []
        self.results: dict[str, set[str]] = {}

    async def begin(self) -> None:
        nothing: dict[str, Any] = dict.fromkeys(COLUMNS)
        fields = {"is_active": True, "wants_online": True, "is_online": True, "open_sessions": 0, "version": 1}
        for n, mitra in enumerate(MITRAS):
            most = 1 + n % 2
            await self.sql.execute("INSERT INTO mitras (id, max_sessions) VALUES ($1, $2)", mitra, most)
            await self.sql.execute("UPDATE mitra_presence SET is_online = true WHERE mitra_id = $1", mitra)
            more = {"mitra_id": mitra, "max_sessions": most, "changed_at": EPOCH, "reason": "created"}
            self.twin.insert(Row(**nothing | fields | more))
        await self.sql.executemany("INSERT INTO customers (id) VALUES ($1)", [(each,) for each in CUSTOMERS])

    async def call(self, name: str, *args: Any, there: tuple[Any, ...] | None = None) -> tuple[Any, Any]:
        """A function's answers, but for what is a time."""
        real = [dict(each) for each in await self.sql.fetch(query(name), *(there or args))]
        transaction = Transaction()
        twin = [dict(each) for each in self.twin.ask(query(name), args, transaction)]
        self.twin.commit(transaction)
        assert self._plain(real) == self._plain(twin), (name, args, real, twin)
        for each in twin:
            self.results.setdefault(name, set()).add(str(each.get("result", each.get("outcome", "one"))))
        return real, twin

    def _plain(self, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        plain = [
            {k: v for k, v in each.items() if k not in ("late_s", "waited_s", "first_offer_s")} for each in answers
        ]
        for each in plain:
            each |= {k: sorted(v) for k, v in each.items() if k == "mitras"}
            each |= {k: str(self._here(v)) for k, v in each.items() if k in ("session_id", "id")}
        return sorted(plain, key=str)

    def _here(self, name: Any) -> Any:
        """A session that is new is nobody's yet, and no answer of a function tells one from another."""
        known = dict(self.sessions)
        mine = {mine for _, mine in self.sessions}
        return known.get(name) or (name if name in mine or name in self.pairings else name is not None)

    async def same(self) -> None:
        """All that both hold, but times."""
        bazaar = self.twin.bazaar
        here = {mine: there for there, mine in self.sessions}
        pairings = await self.sql.fetch(
            "SELECT id::text, customer_id::text, status, mitra_id::text, session_id::text, reroute, wave, version,"
            " idempotency_key, next_wave_at IS NULL, decided_at IS NULL FROM pairings"
        )
        assert {tuple(each) for each in pairings} == {
            (s.id, s.customer_id, s.status, s.mitra_id, here.get(s.session_id or ""), s.reroute, s.wave, s.version,
             s.idempotency_key, s.next_wave_at is None, s.decided_at is None)
            for s in bazaar.searches.values()
        }  # fmt: skip
        offers = await self.sql.fetch("SELECT pairing_id::text, mitra_id::text, wave, status FROM pairing_offers")
        assert {tuple(each) for each in offers} == {
            (o.pairing_id, o.mitra_id, o.wave, o.status) for each in bazaar.offers.values() for o in each.values()
        }
        works = await self.sql.fetch(
            "SELECT id::text, customer_id::text, mitra_id::text, status, extensions, version, end_reason,"
            " started_at IS NULL, ended_at IS NULL FROM chat_sessions"
        )
        assert {tuple(each) for each in works} == {
            (here[w.id], w.customer_id, w.mitra_id, w.status, w.extensions, w.version, w.end_reason,
             w.started_at is None, w.ended_at is None)
            for w in bazaar.works.values()
        }  # fmt: skip
        rows = await self.sql.fetch(
            "SELECT mitra_id::text, is_active, is_online, suspect_since IS NULL, open_sessions FROM mitra_presence"
        )
        assert {tuple(each) for each in rows} == {
            (r.mitra_id, r.is_active, r.is_online, r.suspect_since is None, r.open_sessions)
            for r in self.twin.rows.values()
        }

    # one random call of each

    async def create(self) -> None:
        customer = self.dice.choice([*CUSTOMERS, MITRAS[0]])
        key = str(self.dice.randrange(40))
        name, body = f"{len(self.pairings):08x}-0000-4000-8000-00000000000a", self.dice.choice("aaab")
        self.pairings.append(name)
        await self.call("pairing_create", name, customer, key, body, "", TIMEOUT_S)

    async def reroute(self) -> None:
        if self.sessions:
            there, mine = self.dice.choice(self.sessions[-8:])
            name = f"{len(self.pairings):08x}-0000-4000-8000-00000000000a"
            self.pairings.append(name)
            customer = self.dice.choice([None, *CUSTOMERS])
            rest = customer, steps(Event.REROUTED)[0], TIMEOUT_S, None
            await self.call("pairing_reroute", name, mine, *rest, there=(name, there, *rest))

    async def waves(self) -> None:
        searching = sorted(self.twin.bazaar.searching)
        waves = [self.twin.bazaar.searches[each].wave + self.dice.randint(0, 2) for each in searching]
        candidates = self.dice.sample(MITRAS, self.dice.randint(0, len(MITRAS)))
        size, most = self.dice.randint(1, 3), self.dice.randint(1, 8)
        asked = searching, waves, candidates, size, WAVE_S, most, self.dice.randint(1, 4)
        await self.call("pairing_waves", *asked)

    async def accept(self) -> None:
        if self.pairings:
            pairing = self._pairing()
            offered = [*self.twin.bazaar.offers.get(pairing, ()), self._mitra()]
            asked = pairing, self.dice.choice(offered), PAYMENT_S, LATE_S
            (real,), (twin,) = await self.call("pairing_accept", *asked)
            if twin["session_id"] is not None:
                ids = str(real["session_id"]), twin["session_id"]
                known = [each for each in self.sessions if each[0] == ids[0] or each[1] == ids[1]]
                assert known in ([], [ids])
                self.sessions += [] if known else [ids]

    async def decline(self) -> None:
        if self.pairings:
            asked = self._pairing(), self._mitra()
            told = await self.sql.fetchval(query("pairing_decline"), *asked)
            assert self._twin("pairing_decline", *asked)["result"] == told

    async def cancel(self) -> None:
        if self.pairings:
            asked = self._pairing(), self.dice.choice(CUSTOMERS)
            done = await self.sql.fetchval(query("pairing_cancel"), *asked)
            assert self._twin("pairing_cancel", *asked)["done"] == done

    async def expire(self) -> None:
        await self.call("pairings_expire", LATE_S, 200)

    async def due(self) -> None:
        await self.call("sessions_due", 200)

    async def next(self) -> None:
        await self.call("pairings_next", 20)

    async def happen(self) -> None:
        if self.sessions:
            there, mine = self.dice.choice(self.sessions[-8:])
            event = self.dice.choice([Event.PAID, Event.PAID, Event.EXTENDED, Event.END])
            party = self.dice.choice([None, self.dice.choice(CUSTOMERS), self._mitra()])
            seconds = 0.0 if event is Event.END else SESSION_S
            rest = party, *steps(event), "customer", seconds, int(event is Event.EXTENDED), None
            await self.call("session_change", mine, *rest, there=(there, *rest))

    async def offers(self) -> None:
        rest = [self.dice.choice(self.pairings or MITRAS) for _ in range(3)]
        asked = self.dice.sample(MITRAS, 2), rest, [self._mitra() for _ in rest]
        real = await self.sql.fetch(query("offers_for"), *asked)
        twin = self._asked("offers_for", *asked)
        names = ("pairing_id", "mitra_id", "status", "reroute")
        assert sorted(str([r[n] for n in names]) for r in real) == sorted(str([t[n] for n in names]) for t in twin)

    async def begin_work(self) -> None:
        """Another program's."""
        customer, mitra = self.dice.choice(CUSTOMERS), self._mitra()
        if self.twin.rows[mitra].has_capacity:
            work = self.twin.begin_work(customer, mitra)
            assert isinstance(work, Work)
            await self.sql.execute(
                "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) VALUES ($1, $2, $3, 'active')",
                work.id, customer, mitra,
            )  # fmt: skip
            self.sessions.append((work.id, work.id))

    async def end_work(self) -> None:
        for there, mine in self.dice.sample(self.sessions[-8:], min(1, len(self.sessions))):
            work = self.twin.bazaar.works[mine]
            if work.is_open:
                assert self.twin.write_work(work, status="ended")
                await self.sql.execute("UPDATE chat_sessions SET status = 'ended' WHERE id = $1", there)

    async def row(self) -> None:
        """A mitra's presence is another matter: here it changes as it likes."""
        mitra = self._mitra()
        how = self.dice.choice(["online"] * 6 + ["suspect", "offline", "inactive"])
        active, online, suspect = how != "inactive", how in ("online", "suspect"), how == "suspect"
        since = self.twin.now if suspect else None
        self.twin.write(mitra, is_active=active, is_online=online, suspect_since=since)
        await self.sql.execute(
            "UPDATE mitra_presence SET is_active = $2, is_online = $3,"
            " suspect_since = CASE WHEN $4 THEN clock_timestamp() END WHERE mitra_id = $1",
            mitra, active, online, suspect,
        )  # fmt: skip

    async def pause(self) -> None:
        """Time goes by: here the clock moves, there everything becomes older, without a word to the triggers."""
        self.clock.now += PAUSE_S
        await self.sql.execute("SET session_replication_role = replica")
        for table, older in PAST.items():
            await self.sql.execute(f"UPDATE {table} SET {older}", PAUSE_S)
        await self.sql.execute("SET session_replication_role = DEFAULT")

    def _asked(self, name: str, *args: Any) -> list[dict[str, Any]]:
        transaction = Transaction()
        found = self.twin.ask(query(name), args, transaction)
        self.twin.commit(transaction)
        return found

    def _twin(self, name: str, *args: Any) -> dict[str, Any]:
        (found,) = self._asked(name, *args)
        self.results.setdefault(name, set()).add(str(found.get("result", found.get("done"))))
        return found

    def _pairing(self) -> str:
        return self.dice.choice([*self.pairings[-6:], *sorted(self.twin.bazaar.searching)])

    def _mitra(self) -> str:
        return self.dice.choice(MITRAS)


async def test_the_twin_decides_what_the_functions_decide(sql: asyncpg.Connection) -> None:
    both = Both(sql, Random(7))
    await both.begin()
    calls = [both.create, both.create, both.waves, both.waves, both.accept, both.accept, both.accept, both.decline]
    calls += [both.cancel, both.expire, both.due, both.happen, both.offers, both.next, both.reroute, both.begin_work]
    calls += [both.end_work, both.end_work, both.row, both.row, both.accept, both.waves, both.pause]
    for n in range(ROUNDS):
        await both.dice.choice(calls)()
        if n % 5 == 0:
            await both.same()
    assert both.results["pairing_accept"] == {"won", "taken", "expired", "busy", "withdrawn"}
    assert both.results["pairing_create"] == {"created", "same", "reused", "searching", "unknown"}
    assert {each.__name__ for each in DECIDE} == both.results.keys() - {"pairings_next"}


def test_a_statement_that_meets_a_lock_waits() -> None:
    """As its transaction would: it decides nothing meanwhile."""
    truth = Truth(Clock(), lambda before, row: None)  # type: ignore[arg-type]
    nothing: dict[str, Any] = dict.fromkeys(COLUMNS)
    fields = {"is_active": True, "is_online": True, "open_sessions": 0, "max_sessions": 1, "version": 1}
    truth.insert(replace(Row(**nothing | fields | {"mitra_id": MITRAS[0], "changed_at": EPOCH})))
    work = truth.begin_work(CUSTOMERS[0], MITRAS[0])
    assert work is not None
    keeper = Transaction()
    assert truth._lock(keeper, MITRAS[0])
    asked = (work.id, None, *steps(Event.END), "customer", 0.0, 0, None)
    with pytest.raises(Locked):
        truth.ask(query("session_change"), asked, Transaction())
    assert work.is_open
    truth.rollback(keeper)
    truth.ask(query("session_change"), asked, Transaction())
    assert not work.is_open

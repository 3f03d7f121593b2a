"""The simulated Postgres: presence rows with their trigger, locks and transactions, and each instance's pool."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Self

from hadir.db.pool import PROBE_S
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable
from hadir.realtime.presence import AuthSession, Row
from hadir.realtime.rows import COLUMNS, STORED
from tests.model.loop import VirtualLoop
from tests.model.market import DECIDE, READ, Bazaar, Locked, Work, keep
from tests.model.server import Line

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LOCK_TIMEOUT_S = 4.0
Record = dict[str, Any]


@dataclass(eq=False, slots=True)
class Transaction:
    """Row locks and writes that nobody sees before the commit."""

    locked: set[str] = field(default_factory=set)
    written: dict[str, Row] = field(default_factory=dict)
    over: bool = False


@dataclass
class Lease:
    holder: str
    until: datetime


@dataclass
class Beat:
    """A row of `instances`."""

    id: str
    name: str
    version: str
    started_at: datetime
    beat_at: datetime
    state: str
    sockets: int


class Truth:
    """The database. `on_commit` hears of every row that changed: before, after."""

    def __init__(self, loop: VirtualLoop, on_commit: Callable[[Row, Row], None]) -> None:
        self.loop = loop
        self.up = True
        self.outages = 0
        self.rows: dict[str, Row] = {}
        self.logins: dict[str, AuthSession] = {}
        self.instances: dict[str, Beat] = {}
        self.lease: Lease | None = None
        self.held_since: datetime | None = None
        self.released = False
        self.bazaar = Bazaar()
        self.suspects: set[str] = set()
        self.online = 0
        self._on_commit = on_commit
        self._locks: dict[str, Transaction] = {}
        self._changes: list[tuple[datetime, str]] = []
        self._ids = 0

    @property
    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.loop.now)

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:08x}-0000-4000-8000-0000000000ff"

    def ask(self, query: str, args: Sequence[Any], transaction: Transaction) -> list[Record]:
        """One statement inside a transaction."""
        if transaction.over:
            raise PostgresUnavailable("The connection is gone.")
        return QUERIES[query](self, transaction, *args)

    def commit(self, transaction: Transaction) -> None:
        if transaction.over:
            raise PostgresUnavailable("The connection is gone.")
        for mitra_id, row in transaction.written.items():
            before = self.rows[mitra_id]
            self._store(before, row)
        self.rollback(transaction)

    def rollback(self, transaction: Transaction) -> None:
        for mitra_id in transaction.locked:
            del self._locks[mitra_id]
        transaction.locked.clear()
        transaction.written.clear()
        transaction.over = True

    def insert(self, row: Row) -> None:
        self.rows[row.mitra_id] = row
        self._changes.append((row.changed_at, row.mitra_id))

    def write(self, mitra_id: str, **fields: Any) -> bool:
        """Another program's UPDATE; it gives up on a row that somebody holds."""
        if mitra_id in self._locks:
            return False
        transaction = Transaction()
        self._lock(transaction, mitra_id)
        self._update(transaction, replace(self.rows[mitra_id], **fields), changed=True)
        self.commit(transaction)
        return True

    def begin_work(self, customer_id: str, mitra_id: str) -> Work | None:
        """Another program's session; None where somebody holds its mitra's row."""
        work = Work(self.new_id(), customer_id, mitra_id, self.now, self.now, version=0)
        return work if self.write_work(work, status="active") else None

    def pay(self, work: Work, seconds: float) -> None:
        if work.status == "pending_payment":
            self.write_work(work, status="active", expires_at=self.now + timedelta(seconds=seconds))

    def write_work(self, work: Work, **fields: Any) -> bool:
        """Another program's write; it gives up on a mitra that somebody holds."""
        if work.mitra_id in self._locks:
            return False
        transaction = Transaction()
        self._lock(transaction, work.mitra_id)
        keep(self, transaction, work, **fields)
        self.commit(transaction)
        return True

    def _store(self, before: Row, row: Row) -> None:
        self.rows[row.mitra_id] = row
        if row.version != before.version:
            self._changes.append((self.now, row.mitra_id))
            self.online += row.is_online - before.is_online
            (self.suspects.add if row.suspect_since else self.suspects.discard)(row.mitra_id)
        if before.is_active and not row.is_active:
            for sid, login in self.logins.items():
                if login.subject_id == row.mitra_id and login.revoked_at is None:
                    self.logins[sid] = replace(login, revoked_at=self.now)
            self.bazaar.deactivated(row.mitra_id)
        if row.open_sessions > 0 and before.is_online != row.is_online:
            for work in self.bazaar.of_mitra(row.mitra_id):
                work.version += 1
                self.bazaar.touch("sessions", work, self.now)
        self._on_commit(before, row)

    def _lock(self, transaction: Transaction, mitra_id: str) -> bool:
        """Whether the row is there and nobody else's."""
        if mitra_id not in self.rows or self._locks.setdefault(mitra_id, transaction) is not transaction:
            return False
        transaction.locked.add(mitra_id)
        return True

    def _read(self, transaction: Transaction, mitra_id: str) -> Row:
        return transaction.written.get(mitra_id) or self.rows[mitra_id]

    def _update(self, transaction: Transaction, row: Row, *, changed: bool) -> Row:
        """As the trigger has it: every change but a beat makes a version later than any before."""
        if changed:
            micros = (self.now - EPOCH) // timedelta(microseconds=1)
            before = self._read(transaction, row.mitra_id)
            row = replace(row, version=max(before.version + 1, micros), changed_at=self.now)
        transaction.written[row.mitra_id] = row
        return row

    def _record(self, row: Row) -> Record:
        record = {name: getattr(row, name) for name in COLUMNS}
        record["now"] = self.now
        return record


Query = Callable[..., list[Record]]
QUERIES: dict[str, Query] = {}


def query(name: str) -> Callable[[Query], Query]:
    def register(function: Query) -> Query:
        QUERIES[sql(name) if " " not in name else name] = function
        return function

    return register


@query("presence_lock")
def presence_lock(truth: Truth, transaction: Transaction, ids: Sequence[str], sids: Sequence[str | None]) -> Any:
    found = []
    for mitra_id, sid in sorted(zip(ids, sids, strict=True)):
        if truth._lock(transaction, mitra_id):
            login = truth.logins.get(sid or "")
            found.append(
                truth._record(truth._read(transaction, mitra_id))
                | {
                    "subject_id": login and login.subject_id,
                    "role": login and login.role,
                    "expires_at": login and login.expires_at,
                    "revoked_at": login and login.revoked_at,
                }
            )
    return found


@query("presence_store")
def presence_store(truth: Truth, transaction: Transaction, *columns: Sequence[Any]) -> Any:
    *values, changed = columns
    found = []
    for fields, more in zip(zip(*values, strict=True), changed, strict=True):
        before = truth._read(transaction, fields[0])
        row = replace(before, **dict(zip(STORED, fields, strict=True)))
        found.append(truth._record(truth._update(transaction, row, changed=more)))
    return found


@query("presence_known")
def presence_known(truth: Truth, _: Transaction, ids: Sequence[str]) -> Any:
    return [{"mitra_id": mitra_id} for mitra_id in ids if mitra_id in truth.rows]


@query("presence_by_id")
def presence_by_id(truth: Truth, _: Transaction, ids: Sequence[str]) -> Any:
    return [truth._record(truth.rows[mitra_id]) for mitra_id in sorted(ids) if mitra_id in truth.rows]


@query("presence_page")
def presence_page(truth: Truth, _: Transaction, after: str, limit: int) -> Any:
    found = sorted(mitra_id for mitra_id in truth.rows if mitra_id > after)[:limit]
    return [truth._record(truth.rows[mitra_id]) for mitra_id in found]


@query("presence_changed")
def presence_changed(truth: Truth, _: Transaction, since: datetime, after: str, limit: int) -> Any:
    start = bisect_left(truth._changes, (since, ""))  # by when they were committed, which is never before
    ids = {mitra_id for _, mitra_id in truth._changes[start:]}
    rows = [truth.rows[mitra_id] for mitra_id in ids]
    rows = [row for row in rows if row.changed_at >= since and (row.changed_at, row.mitra_id) > (since, after)]
    return [truth._record(row) for row in sorted(rows, key=lambda row: (row.changed_at, row.mitra_id))[:limit]]


@query("expiry_due")
def expiry_due(
    truth: Truth, _: Transaction, grace_s: float, long_s: float, long: Sequence[str], limit: int, proven: bool
) -> Any:
    found = []
    for mitra_id in truth.suspects:
        row = truth.rows[mitra_id]
        grace = timedelta(seconds=max(grace_s, long_s) if row.reason in long else grace_s)
        if row.suspect_since and row.suspect_since <= truth.now - grace:
            found.append(row)
    unproven = sum(row.reason != "instance_died" for row in found)
    found = [row for row in found if row.reason == "instance_died" or not proven]
    found.sort(key=lambda row: (row.suspect_since, row.mitra_id))
    return [
        {"mitra_id": row.mitra_id, "version": row.version, "reason": row.reason, "unproven": unproven}
        for row in found[:limit]
    ]


@query("expiry_hold")
def expiry_hold(truth: Truth, _: Transaction, due: int) -> Any:
    if due > 0 and truth.held_since is None:
        truth.held_since, truth.released = truth.now, False
    elif due == 0:
        truth.held_since, truth.released = None, False
    held_s = None if truth.held_since is None else (truth.now - truth.held_since).total_seconds()
    return [{"held_s": held_s, "released": truth.released}]


@query("online_count")
def online_count(truth: Truth, _: Transaction) -> Any:
    return [{"count": truth.online}]


@query("counts")
def counts(truth: Truth, _: Transaction, fresh_s: float, living: Sequence[str]) -> Any:
    online = [row for row in truth.rows.values() if row.is_online]
    sure = [row for row in online if row.suspect_since is None]
    fresh_from = truth.now - timedelta(seconds=fresh_s)
    available = [
        row
        for row in sure
        if row.has_capacity and (row.instance_id in living or (row.last_heartbeat_at or EPOCH) >= fresh_from)
    ]
    return [
        {
            "online": len(online),
            "suspect": len(online) - len(sure),
            "available": len(available),
            "busy": sum(not row.has_capacity for row in sure),
            "deactivated": sum(not row.is_active for row in truth.rows.values()),
            "now": truth.now,
        }
    ]


@query("beats_store")
def beats_store(truth: Truth, transaction: Transaction, ids: Sequence[str], ages: Sequence[float]) -> Any:
    for mitra_id, age in sorted(zip(ids, ages, strict=True)):
        if truth._lock(transaction, mitra_id):
            row, beat = truth._read(transaction, mitra_id), truth.now - timedelta(seconds=age)
            if row.last_heartbeat_at is None or row.last_heartbeat_at < beat:
                truth._update(transaction, replace(row, last_heartbeat_at=beat), changed=False)
    return []


@query("instance_beat")
def instance_beat(
    truth: Truth, _: Transaction, name_id: str, name: str, version: str, state: str, sockets: int, *vitals: float | None
) -> Any:
    row = truth.instances.setdefault(name_id, Beat(name_id, name, version, truth.now, truth.now, state, sockets))
    row.beat_at, row.state, row.sockets = truth.now, state, sockets
    return []


@query("instances_all")
def instances_all(truth: Truth, _: Transaction) -> Any:
    return [
        {
            "id": each.id,
            "name": each.name,
            "version": each.version,
            "started_at": each.started_at,
            "state": each.state,
            "sockets": each.sockets,
            "beats_per_s": None,
            "loop_lag_s": None,
            "age_s": (truth.now - each.beat_at).total_seconds(),
        }
        for each in truth.instances.values()
    ]


def _is_silent(truth: Truth, name: str, seconds: float) -> bool:
    each = truth.instances.get(name)
    return each is not None and each.beat_at < truth.now - timedelta(seconds=seconds)


@query("instance_rows")
def instance_rows(truth: Truth, _: Transaction, name: str, seconds: float, limit: int) -> Any:
    if not _is_silent(truth, name, seconds):
        return []
    found = sorted(row.mitra_id for row in truth.rows.values() if row.instance_id == name)
    return [{"mitra_id": mitra_id} for mitra_id in found[:limit]]


@query("instance_sockets")
def instance_sockets(truth: Truth, _: Transaction, name: str) -> Any:
    return [
        {
            "mitra_id": row.mitra_id,
            "connection_id": row.connection_id,
            "silent_s": 0.0 if row.last_heartbeat_at is None else (truth.now - row.last_heartbeat_at).total_seconds(),
        }
        for row in truth.rows.values()
        if row.instance_id == name
    ]


@query("instance_forget")
def instance_forget(truth: Truth, _: Transaction, name: str, seconds: float) -> Any:
    if _is_silent(truth, name, seconds):
        del truth.instances[name]
    return []


@query("lease_take")
def lease_take(truth: Truth, _: Transaction, name: str, holder: str, seconds: float) -> Any:
    before = truth.lease
    if before is not None and before.holder != holder and before.until >= truth.now:
        return []
    truth.lease = Lease(holder, truth.now + timedelta(seconds=seconds))
    return [{"ended": before and before.until}]


@query("lease_drop")
def lease_drop(truth: Truth, _: Transaction, name: str, holder: str) -> Any:
    if truth.lease is not None and truth.lease.holder == holder:
        truth.lease.until = min(truth.lease.until, truth.now)
    return []


@query("revoked_since")
def revoked_since(truth: Truth, _: Transaction, since: datetime) -> Any:
    return [
        {"id": sid, "subject_id": login.subject_id, "role": login.role}
        for sid, login in truth.logins.items()
        if login.revoked_at is not None and login.revoked_at > since
    ]


@query("revoked_by_id")
def revoked_by_id(truth: Truth, _: Transaction, sids: Sequence[str]) -> Any:
    return [
        {"id": sid, "subject_id": truth.logins[sid].subject_id}
        for sid in sids
        if sid in truth.logins and truth.logins[sid].revoked_at is not None
    ]


@query("capacity_resize")
def capacity_resize(truth: Truth, _: Transaction, after: str, limit: int) -> Any:
    return [{"mitra_id": None, "last": None}]


@query("SELECT clock_timestamp()")
def clock_timestamp(truth: Truth, _: Transaction) -> Any:
    return [{"now": truth.now}]


@query("SELECT extract(epoch FROM clock_timestamp())::float8")
def epoch(truth: Truth, _: Transaction) -> Any:
    return [{"now": truth.now.timestamp()}]


def nothing(truth: Truth, _: Transaction, *args: Any) -> Any:
    return []


@query("pairings_standing")
def pairings_standing(truth: Truth, _: Transaction) -> Any:
    return [{"waiting": 0, "oldest_s": None, "accept_p50_s": None, "accept_p95_s": None}]


for unused in ("config_all", "log_months", "sessions_by_state", "series_store", "series_thin", "audit_mitras"):
    QUERIES[sql(unused)] = nothing
for market in (*DECIDE, *READ):
    QUERIES[sql(market.__name__)] = market
DECISIONS = {sql(each.__name__) for each in DECIDE}


class Pool:
    """Of one instance: what `hadir.db.pool.Postgres` offers. Statements take a moment; an outage fails them."""

    def __init__(self, truth: Truth, line: Line, dice: Random) -> None:
        self.truth = truth
        self.line = line
        self.dice = dice
        self.unknown = 0.0
        """How likely the outcome of a COMMIT is lost."""
        self.available_since: float | None = None
        self.on_back: list[Callable[[], None]] = []
        self.on_lost: list[Callable[[], None]] = []
        self.open: set[Transaction] = set()
        self.in_use = (0, 0)
        self._outages = truth.outages
        self._doubted = asyncio.Event()
        self._doubted.set()

    @property
    def available(self) -> bool:
        return self.available_since is not None

    async def __aenter__(self) -> Self:
        self._prober = asyncio.create_task(self._probe())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.available_since = None
        self._prober.cancel()
        await asyncio.wait([self._prober])

    @property
    def _reached(self) -> bool:
        return self.truth.up and self.line.open

    async def _probe(self) -> None:
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            await asyncio.sleep(0.002)
            if not self._reached:
                self._lose()
                await asyncio.sleep(PROBE_S)
                self._doubted.set()
            elif not self.available:
                self.available_since = self.truth.loop.now
                self._outages = self.truth.outages
                for tell in self.on_back:
                    tell()

    def _lose(self) -> None:
        if self.available:
            self.available_since = None
            self._doubted.set()
            for tell in self.on_lost:
                tell()

    async def _trip(self) -> None:
        await asyncio.sleep(self.dice.uniform(0.001, 0.01))
        if not self._reached or self._outages != self.truth.outages:  # its connections are of before
            self._lose()
            raise PostgresUnavailable("Postgres failed.")

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Record]:
        async with self.transaction(alone=True) as connection:
            found = await connection.fetch(query, *args)
        if query in DECISIONS:
            self._may_lose_it()
        return found

    def _may_lose_it(self) -> None:
        if self.unknown and self.dice.random() < self.unknown:
            raise PostgresUnavailable("The connection was lost in COMMIT.")

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Record | None:
        records = await self.fetch(query, *args)
        return records[0] if records else None

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        record = await self.fetchrow(query, *args)
        return None if record is None else next(iter(record.values()))

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> None:
        await self.fetch(query, *args)

    @asynccontextmanager
    async def transaction(self, *, alone: bool = False) -> AsyncIterator[_Connection]:
        if not self.available:
            raise PostgresUnavailable("Postgres cannot be reached.")
        transaction = Transaction()
        self.open.add(transaction)
        try:
            yield _Connection(self, transaction)
            if not alone:
                await self._trip()
            self.truth.commit(transaction)
            if not alone:
                self._may_lose_it()
        finally:
            self.truth.rollback(transaction)
            self.open.discard(transaction)

    def abandon(self) -> None:
        """The server sees that this client's connections are gone."""
        for transaction in self.open:
            self.truth.rollback(transaction)


class _Connection:
    def __init__(self, pool: Pool, transaction: Transaction) -> None:
        self._pool = pool
        self._transaction = transaction

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        asked_at = self._pool.truth.loop.now
        while True:
            await self._pool._trip()
            try:
                return self._pool.truth.ask(query, args, self._transaction)
            except Locked:
                if self._pool.truth.loop.now - asked_at > LOCK_TIMEOUT_S:
                    raise PostgresUnavailable("Somebody keeps a lock.") from None

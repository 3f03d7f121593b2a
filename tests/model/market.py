"""The simulated Postgres' pairings, offers and sessions: a twin of the functions of migration 0003 that decide.

`test_market_twin.py` holds it to the functions themselves on a real server.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from hadir.realtime.session import OPEN

if TYPE_CHECKING:
    from tests.model.postgres import Transaction, Truth

Record = dict[str, Any]


class Locked(Exception):
    """Somebody else's transaction has a row that this statement has to wait for."""


@dataclass
class Search:
    """A row of `pairings`."""

    id: str
    customer_id: str
    expires_at: datetime
    created_at: datetime
    changed_at: datetime
    next_wave_at: datetime | None
    idempotency_key: str | None = None
    body_hash: str | None = None
    note: str = ""
    session_id: str | None = None
    reroute: bool = False
    status: str = "searching"
    mitra_id: str | None = None
    mitra_name: str | None = None
    wave: int = 0
    decided_at: datetime | None = None
    version: int = 1


@dataclass
class Offered:
    """A row of `pairing_offers`."""

    pairing_id: str
    mitra_id: str
    wave: int
    offered_at: datetime
    status: str = "open"


@dataclass
class Work:
    """A row of `chat_sessions`."""

    id: str
    customer_id: str
    mitra_id: str
    created_at: datetime
    changed_at: datetime
    status: str = "pending_payment"
    payment_due_at: datetime | None = None
    started_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None
    extensions: int = 0
    messages: int = 0
    version: int = 1

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


@dataclass
class Bazaar:
    """The tables, and what is searched, offered and open now."""

    customers: set[str] = field(default_factory=set)
    searches: dict[str, Search] = field(default_factory=dict)
    offers: dict[str, dict[str, Offered]] = field(default_factory=dict)
    """By pairing, by mitra."""
    works: dict[str, Work] = field(default_factory=dict)
    searching: dict[str, Search] = field(default_factory=dict)
    offered: dict[str, dict[str, Offered]] = field(default_factory=dict)
    """The open ones, by mitra, by pairing."""
    open: dict[str, Work] = field(default_factory=dict)
    touched: dict[str, list[tuple[datetime, str]]] = field(default_factory=lambda: {"pairings": [], "sessions": []})
    on_decided: Callable[[Search], None] = lambda _: None

    def of_mitra(self, mitra_id: str) -> list[Work]:
        return [work for work in self.open.values() if work.mitra_id == mitra_id]

    def close(self, offer: Offered, status: str) -> None:
        offer.status = status
        self.offered.get(offer.mitra_id, {}).pop(offer.pairing_id, None)

    def touch(self, table: str, row: Search | Work, now: datetime) -> None:
        row.changed_at = now
        self.touched[table].append((now, row.id))

    def changed(self, table: str, since: datetime, after: str, limit: int) -> list[Any]:
        found = [row for row in self.touched_since(table, since) if (row.changed_at, row.id) > (since, after)]
        return sorted(found, key=lambda row: (row.changed_at, row.id))[:limit]

    def touched_since(self, table: str, since: datetime) -> list[Any]:
        rows: dict[str, Any] = self.searches if table == "pairings" else self.works
        touched = self.touched[table]
        return [rows[name] for name in {name for _, name in touched[bisect_left(touched, (since, "")) :]}]

    def begin(self, search: Search) -> Search:
        self.searches[search.id] = self.searching[search.id] = search
        self.offers[search.id] = {}
        self.touch("pairings", search, search.created_at)
        return search

    def decide(self, search: Search, status: str, now: datetime, **more: Any) -> bool:
        """As the triggers have it: only a search is decided, and then it has no open offers."""
        if search.status != "searching":
            return False
        del self.searching[search.id]
        search.status, search.decided_at, search.next_wave_at = status, now, None
        for name, value in more.items():
            setattr(search, name, value)
        search.version += 1
        self.touch("pairings", search, now)
        left = {"accepted": "taken", "expired": "expired"}.get(status, "cancelled")
        for offer in self.offers[search.id].values():
            if offer.status == "open":
                self.close(offer, left)
        self.on_decided(search)
        return True

    def deactivated(self, mitra_id: str) -> None:
        for offer in list(self.offered.get(mitra_id, {}).values()):
            self.close(offer, "withdrawn")


def lock(truth: Truth, transaction: Transaction, mitras: Iterable[str]) -> None:
    for mitra_id in sorted(set(mitras)):
        if mitra_id in truth.rows and not truth._lock(transaction, mitra_id):
            raise Locked


def keep(truth: Truth, transaction: Transaction, work: Work, **more: Any) -> None:
    """Writes a session as the triggers have it: times, the searches for it, and the count of whom it concerns."""
    bazaar, now, mitras = truth.bazaar, truth.now, {work.mitra_id: False}
    was_open = work.id in bazaar.open
    for name, value in more.items():
        setattr(work, name, value)
    mitras.setdefault(work.mitra_id, True)
    if work.id not in bazaar.works:
        mitras[work.mitra_id] = True
    if not work.is_open:
        work.ended_at = work.ended_at or now
        work.end_reason = work.end_reason or "external"
        bazaar.open.pop(work.id, None)
    else:
        if work.status == "active":
            work.started_at = work.started_at or now
        bazaar.open[work.id] = work
    bazaar.works[work.id] = work
    work.version += 1
    bazaar.touch("sessions", work, now)
    if was_open and not work.is_open:
        for search in [each for each in bazaar.searching.values() if each.session_id == work.id]:
            bazaar.decide(search, "cancelled", now)
    for mitra_id, comes in mitras.items():
        recount(truth, transaction, mitra_id, work.created_at if comes else None)


def recount(truth: Truth, transaction: Transaction, mitra_id: str, newest: datetime | None) -> None:
    row = truth._read(transaction, mitra_id)
    count, last = len(truth.bazaar.of_mitra(mitra_id)), max(filter(None, (row.last_session_at, newest)), default=None)
    if (count, last) != (row.open_sessions, row.last_session_at):
        truth._update(transaction, replace(row, open_sessions=count, last_session_at=last), changed=True)


# what decides


def pairing_create(
    truth: Truth, _: Transaction, name: str, customer: str, key: str, body: str, note: str, seconds: float
) -> Any:
    bazaar, now = truth.bazaar, truth.now
    if customer not in bazaar.customers:
        return [{"outcome": "unknown", "pairing_id": None}]
    for search in bazaar.searches.values():
        if search.customer_id == customer and search.idempotency_key == key:
            if search.created_at >= now - timedelta(hours=24):
                return [{"outcome": "same" if search.body_hash == body else "reused", "pairing_id": search.id}]
            search.idempotency_key = None
    for search in bazaar.searching.values():
        if search.customer_id == customer:
            return [{"outcome": "searching", "pairing_id": search.id}]
    ends = now + timedelta(seconds=seconds)
    bazaar.begin(Search(name, customer, ends, now, now, now, key, body, note))
    return [{"outcome": "created", "pairing_id": name}]


def pairing_reroute(
    truth: Truth,
    _: Transaction,
    name: str,
    session: str,
    customer: str | None,
    before: Sequence[str],
    seconds: float,
    actor: str | None,
) -> Any:
    bazaar, now = truth.bazaar, truth.now
    work = bazaar.works.get(session)
    if work is None or customer not in (None, work.customer_id):
        return [{"outcome": "unknown", "pairing_id": None}]
    if work.status not in before:
        return [{"outcome": work.status, "pairing_id": None}]
    for search in bazaar.searching.values():
        if search.customer_id == work.customer_id:
            return [{"outcome": "same" if search.session_id == session else "searching", "pairing_id": search.id}]
    ends = now + timedelta(seconds=seconds)
    bazaar.begin(Search(name, work.customer_id, ends, now, now, now, session_id=session, reroute=True))
    return [{"outcome": "created", "pairing_id": name}]


def pairing_cancel(truth: Truth, _: Transaction, name: str, customer: str) -> Any:
    search = truth.bazaar.searching.get(name)
    done = search is not None and search.customer_id == customer
    return [{"done": done and search is not None and truth.bazaar.decide(search, "cancelled", truth.now)}]


def pairings_next(truth: Truth, _: Transaction, limit: int) -> Any:
    bazaar, now = truth.bazaar, truth.now
    due = [each for each in bazaar.searching.values() if each.next_wave_at and each.next_wave_at <= now]
    due = sorted((each for each in due if each.expires_at > now), key=lambda each: each.next_wave_at or now)
    return [
        {
            "id": each.id,
            "wave": each.wave + 1,
            "offers": len(bazaar.offers[each.id]),
            "late_s": (now - (each.next_wave_at or now)).total_seconds(),
        }
        for each in due[:limit]
    ]


def pairing_waves(
    truth: Truth,
    _: Transaction,
    names: Sequence[str],
    waves: Sequence[int],
    candidates: Sequence[str],
    size: int,
    seconds: float,
    max_offers: int,
    max_open: int,
) -> Any:
    bazaar, now, made = truth.bazaar, truth.now, []
    for name, wave in sorted(zip(names, waves, strict=True)):
        search = bazaar.searching.get(name)
        is_next = search and search.wave == wave - 1 and search.next_wave_at and search.next_wave_at <= now
        if search is None or not (search.wave == wave or is_next):
            continue
        offers = bazaar.offers[name]
        for offer in offers.values():
            if offer.status == "open" and not truth.rows[offer.mitra_id].is_active:
                bazaar.close(offer, "withdrawn")
        wanted = max(0, min(size - sum(each.wave == wave for each in offers.values()), max_offers - len(offers)))
        fit = (mitra_id for mitra_id in candidates if _may_have(truth, search, mitra_id, max_open))
        chosen = [mitra_id for mitra_id, _ in zip(fit, range(wanted), strict=False)]
        for mitra_id in chosen:
            offer = offers[mitra_id] = Offered(name, mitra_id, wave, now)
            bazaar.offered.setdefault(mitra_id, {})[name] = offer
        if search.wave < wave:
            search.wave, search.next_wave_at = wave, now + timedelta(seconds=seconds)
        bazaar.touch("pairings", search, now)
        first = (now - search.created_at).total_seconds() if wave == 1 else None
        made.append({"pairing_id": name, "mitras": chosen, "missing": wanted - len(chosen), "first_offer_s": first})
    return made


def _may_have(truth: Truth, search: Search, mitra_id: str, max_open: int) -> bool:
    bazaar, row = truth.bazaar, truth.rows.get(mitra_id)
    if row is None or not (row.is_active and row.is_online and row.has_capacity) or row.suspect_since is not None:
        return False
    if mitra_id in bazaar.offers[search.id] or len(bazaar.offered.get(mitra_id, {})) >= max_open:
        return False
    if search.session_id is None:
        return True
    had = {each.mitra_id for each in bazaar.searches.values() if each.session_id == search.session_id}
    return mitra_id not in had | {bazaar.works[search.session_id].mitra_id}


def pairing_accept(
    truth: Truth, transaction: Transaction, name: str, mitra_id: str, payment_s: float, late_s: float
) -> Any:
    bazaar, now = truth.bazaar, truth.now
    search = bazaar.searches.get(name)
    answer: Record = {"session_id": None, "customer_id": None, "moved": [], "decided": False, "waited_s": None}
    if search is None:
        return [answer | {"result": "withdrawn"}]
    answer["customer_id"] = search.customer_id
    before = bazaar.works.get(search.session_id or "")
    if search.status == "searching":
        lock(truth, transaction, [mitra_id, *([before.mitra_id] if before else [])])
    offer = bazaar.offers[name].get(mitra_id)
    if search.status == "accepted" and search.mitra_id == mitra_id:
        return [answer | {"result": "won", "session_id": search.session_id}]
    if offer is None or offer.status in ("declined", "withdrawn", "cancelled") or search.status == "cancelled":
        return [answer | {"result": "withdrawn"}]
    if search.status == "accepted":
        return [answer | {"result": "taken"}]
    if search.status == "expired" or now > search.expires_at + timedelta(seconds=late_s):
        return [answer | {"result": "expired", "decided": bazaar.decide(search, "expired", now)}]
    row = truth._read(transaction, mitra_id)
    if not row.is_active:
        bazaar.close(offer, "withdrawn")
        return [answer | {"result": "withdrawn"}]
    if not row.has_capacity:
        return [answer | {"result": "busy"}]
    moved = [mitra_id]
    if search.reroute:
        if before is None or not before.is_open:
            return [answer | {"result": "withdrawn", "decided": bazaar.decide(search, "cancelled", now)}]
        moved.append(before.mitra_id)
        work = before
        keep(truth, transaction, work, mitra_id=mitra_id)
    else:
        work = Work(truth.new_id(), search.customer_id, mitra_id, now, now, version=0)
        keep(truth, transaction, work, payment_due_at=now + timedelta(seconds=payment_s))
    bazaar.close(offer, "accepted")
    bazaar.decide(search, "accepted", now, mitra_id=mitra_id, mitra_name="M", session_id=work.id)
    row = truth._read(transaction, mitra_id)
    if row.suspect_since is not None:
        truth._update(transaction, replace(row, suspect_since=now), changed=True)
    waited = (now - search.created_at).total_seconds()
    return [answer | {"result": "won", "session_id": work.id, "moved": moved, "decided": True, "waited_s": waited}]


def pairing_decline(truth: Truth, _: Transaction, name: str, mitra_id: str) -> Any:
    bazaar = truth.bazaar
    offer = bazaar.offers.get(name, {}).get(mitra_id)
    if offer is None:
        return [{"result": "withdrawn"}]
    if offer.status == "open":
        bazaar.close(offer, "declined")
        bazaar.touch("pairings", bazaar.searches[name], truth.now)
    told = {"accepted": "won", "declined": "declined", "taken": "taken", "expired": "expired"}
    return [{"result": told.get(offer.status, "withdrawn")}]


def pairings_expire(truth: Truth, _: Transaction, late_s: float, limit: int) -> Any:
    bazaar, now = truth.bazaar, truth.now
    late = timedelta(seconds=late_s)
    due = sorted((each.expires_at, each.id) for each in bazaar.searching.values() if each.expires_at <= now - late)
    ended = [bazaar.searching[name] for _, name in due[:limit]]
    for search in ended:
        bazaar.decide(search, "expired", now)
    return [
        {"id": each.id, "customer_id": each.customer_id, "late_s": (now - each.expires_at - late).total_seconds()}
        for each in ended
    ]


def session_change(
    truth: Truth,
    transaction: Transaction,
    name: str,
    party: str | None,
    before: Sequence[str],
    become: Sequence[str],
    reason: str,
    seconds: float,
    extension: int,
    actor: str | None,
) -> Any:
    work, now = truth.bazaar.works.get(name), truth.now
    nothing = {"state": None, "mitra_id": None, "customer_id": None}
    if work is not None:
        lock(truth, transaction, [work.mitra_id])
    if work is None or party not in (None, work.customer_id, work.mitra_id):
        return [nothing | {"outcome": "unknown"}]
    concerned = {"mitra_id": work.mitra_id, "customer_id": work.customer_id}
    if work.status not in before:
        return [concerned | {"outcome": "refused", "state": work.status}]
    status = become[before.index(work.status)]
    more: dict[str, Any] = {"status": status, "extensions": max(work.extensions, extension)}
    if status == "active":
        more["expires_at"] = max(work.expires_at or now, now) + timedelta(seconds=seconds)
    else:
        more |= {"ended_at": now, "end_reason": reason}
    keep(truth, transaction, work, **more)
    return [concerned | {"outcome": "done", "state": status}]


def sessions_due(truth: Truth, transaction: Transaction, limit: int) -> Any:
    now = truth.now
    ended: list[Record] = []
    for work in list(truth.bazaar.open.values()):
        until = work.payment_due_at if work.status == "pending_payment" else work.expires_at
        if until is None or until > now or len(ended) >= 2 * limit or not truth._lock(transaction, work.mitra_id):
            continue
        status, why = ("expired", "payment_timeout") if work.status == "pending_payment" else ("ended", "time")
        keep(truth, transaction, work, status=status, ended_at=now, end_reason=why)
        ended.append(
            {
                "id": work.id,
                "customer_id": work.customer_id,
                "mitra_id": work.mitra_id,
                "status": status,
                "late_s": (now - until).total_seconds(),
            }
        )
    return ended


# what is read


def pairing_by_id(truth: Truth, _: Transaction, name: str) -> Any:
    return [asdict(truth.bazaar.searches[name])] if name in truth.bazaar.searches else []


def _seen(truth: Truth, work: Work) -> Record:
    return asdict(work) | {"mitra_name": "M", "mitra_reachable": truth.rows[work.mitra_id].is_online}


def session_by_id(truth: Truth, _: Transaction, name: str) -> Any:
    return [_seen(truth, truth.bazaar.works[name])] if name in truth.bazaar.works else []


def offers_for(truth: Truth, _: Transaction, mitras: Sequence[str], names: Sequence[str], whose: Sequence[str]) -> Any:
    bazaar = truth.bazaar
    chosen = [offer for mitra_id in mitras for offer in bazaar.offered.get(mitra_id, {}).values()]
    told = (bazaar.offers.get(name, {}).get(mitra_id) for name, mitra_id in zip(names, whose, strict=True))
    chosen += [offer for offer in told if offer is not None and offer.status != "open"]
    return [
        {
            name: getattr(bazaar.searches[offer.pairing_id], name)
            for name in ("expires_at", "note", "reroute", "session_id")
        }
        | asdict(offer)
        for offer in sorted(chosen, key=lambda offer: (offer.offered_at, offer.pairing_id, offer.mitra_id))
    ]


def sessions_for(
    truth: Truth, _: Transaction, mitras: Sequence[str], customers: Sequence[str], told: Sequence[str]
) -> Any:
    bazaar = truth.bazaar
    found = {each.id for each in bazaar.open.values() if each.mitra_id in mitras or each.customer_id in customers}
    found.update(name for name in told if name in bazaar.works)
    since = truth.now - timedelta(minutes=1)
    lately = (each for each in bazaar.touched_since("sessions", since) if each.created_at > since)
    found.update(each.id for each in lately if each.mitra_id in mitras or each.customer_id in customers)
    works = sorted((bazaar.works[name] for name in found), key=lambda work: (work.created_at, work.id))
    return [_seen(truth, work) | {"lately": work.created_at > since} for work in works]


def offers_receipts(
    truth: Truth, _: Transaction, names: Sequence[str], mitras: Sequence[str], seen: Sequence[bool]
) -> Any:
    return [{"pairing_id": name, "mitra_id": mitra_id} for name, mitra_id in zip(names, mitras, strict=True)]


def pairings_offered(truth: Truth, _: Transaction, names: Sequence[str], over: Sequence[str]) -> Any:
    bazaar = truth.bazaar
    searches = {*names, *(each.id for each in bazaar.searches.values() if each.reroute and each.session_id in over)}
    return [{"mitra_id": each} for each in sorted({m for name in searches for m in bazaar.offers.get(name, ())})]


def pairings_changed(truth: Truth, _: Transaction, since: datetime, after: str, limit: int) -> Any:
    names = ("id", "customer_id", "changed_at")
    found = truth.bazaar.changed("pairings", since, after, limit)
    return [{name: getattr(each, name) for name in names} for each in found]


def sessions_changed(truth: Truth, _: Transaction, since: datetime, after: str, limit: int) -> Any:
    bazaar = truth.bazaar
    return [
        {
            "id": each.id,
            "customer_id": each.customer_id,
            "changed_at": each.changed_at,
            "mitras": [
                each.mitra_id,
                *(s.mitra_id for s in bazaar.searches.values() if s.session_id == each.id and s.mitra_id),
            ],
        }
        for each in bazaar.changed("sessions", since, after, limit)
    ]


def customers_of(truth: Truth, _: Transaction, mitras: Sequence[str]) -> Any:
    found = {work.customer_id for work in truth.bazaar.open.values() if work.mitra_id in mitras}
    return [{"customer_id": each} for each in sorted(found)]


def available_pool(truth: Truth, _: Transaction, fresh_s: float, living: Sequence[str], limit: int) -> Any:
    fresh_from = truth.now - timedelta(seconds=fresh_s)
    found = [
        (row.open_sessions, row.last_session_at.timestamp() if row.last_session_at else 0.0, row.mitra_id)
        for row in truth.rows.values()
        if row.is_online and row.suspect_since is None and row.has_capacity
        and (row.instance_id in living or (row.last_heartbeat_at and row.last_heartbeat_at >= fresh_from))
    ]  # fmt: skip
    return [{"mitra_id": mitra_id} for *_, mitra_id in sorted(found)[:limit]]


DECIDE = (
    pairing_accept, pairing_cancel, pairing_create, pairing_decline, pairing_reroute, pairing_waves, pairings_expire,
    session_change, sessions_due,
)  # fmt: skip
READ = (
    available_pool, customers_of, offers_for, offers_receipts, pairing_by_id, pairings_changed, pairings_next,
    pairings_offered, session_by_id, sessions_changed, sessions_for,
)  # fmt: skip

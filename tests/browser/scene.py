"""An evening of the marketplace for the page to show: mitras with sockets that beat, customers who ask, a past."""

from __future__ import annotations

import asyncio
import math
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import websockets

from tests.support import eventually
from tests.support.system import FAST, Account, Phone, Served, System

CALM = {
    **FAST,
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "20",
    "MITRA_HEARTBEAT_STALE_SECONDS": "600",
    "MITRA_OFFLINE_GRACE_SECONDS": "600",
    "PAIRING_WAVE_SIZE": "8",
    "PAIRING_WAVE_SECONDS": "4",
    "PAIRING_TIMEOUT_SECONDS": "45",
    "PAYMENT_TIMEOUT_SECONDS": "900",
    "SESSION_SECONDS": "3600",
}
"""Nobody goes by itself while somebody looks."""
FIRST = [
    "Siti",
    "Budi",
    "Dewi",
    "Agus",
    "Rina",
    "Eko",
    "Putri",
    "Hendra",
    "Wulan",
    "Dimas",
    "Ayu",
    "Rizky",
    "Nur",
    "Bayu",
    "Ratna",
    "Fajar",
    "Indah",
    "Yusuf",
    "Lestari",
    "Arif",
    "Maya",
    "Joko",
    "Intan",
    "Galih",
]
LAST = [
    "Rahmawati",
    "Santoso",
    "Wijaya",
    "Pratama",
    "Nugroho",
    "Kusuma",
    "Hidayat",
    "Saputra",
    "Permata",
    "Siregar",
    "Halim",
    "Utami",
    "Setiawan",
]
LONG_NAME = "Raden Ajeng Kartika Sekarwangi Purnamasari Kusumaningtyas Hadiwinata-Soerjaningrat"
NOTES = ("", "Bisa sekarang?", "Untuk besok pagi", "", "Tolong yang berpengalaman", "")
HERO = "5171a000-0000-4000-8000-000000000001"
HOUR_S = 3600
STEP_S = 10


@dataclass
class Scene:
    """Who is there; `life` beats and trades until the end of the block."""

    system: System
    instances: list[Served]
    operator: Account
    mitras: list[Account]
    phones: list[Phone]
    hero: Account
    life: list[asyncio.Task[None]] = field(default_factory=list)
    taken: set[Phone] = field(default_factory=set)
    random: random.Random = field(default_factory=lambda: random.Random(7))

    async def act(self, method: str, path: str, body: Any = None) -> Any:
        """The operator does something."""
        url = f"{self.instances[0].inner_url}/api/internal{path}"
        answer = await self.system.http.request(method, url, headers=self.operator.bearer, json=body or {})
        assert answer.is_success, answer.text
        return answer.json()

    async def wins(self, customer: Account) -> dict[str, Any]:
        """A customer asks, somebody who is offered it sees it and accepts; answers the session."""
        pairing = await self.system.pair(self.instances[0], customer, self.random.choice(NOTES))

        def offered() -> Phone | None:
            idle = (each for each in self.phones if each not in self.taken and _has_offer(each, pairing["id"]))
            return next(idle, None)

        phone = await eventually(offered, 20)
        assert phone is not None
        self.taken.add(phone)
        await phone.ask(type="offer.seen", pairing_id=pairing["id"])
        await asyncio.sleep(self.random.uniform(0.3, 1.8))
        answer = await phone.ask(type="offer.accept", pairing_id=pairing["id"])
        assert answer["result"] == "won", answer
        session: dict[str, Any] = answer["session"]
        return session


def _has_offer(phone: Phone, pairing_id: str) -> bool:
    return any(each["type"] == "offer" and each["pairing_id"] == pairing_id for each in phone.received)


@asynccontextmanager
async def scene(system: System, *, mitras: int, trades: int) -> AsyncIterator[Scene]:
    """Two instances, so many mitras with sockets, some without, a past hour, and so many sessions begun just now."""
    operator = await system.account("operator", sub="0a11ce00-0000-4000-8000-000000000001")
    first = await system.instance(HADIR_INSTANCE_ID="jakarta-1")
    second = await system.instance(HADIR_INSTANCE_ID="surabaya-1")
    people = await system.accounts(mitras + mitras // 4)
    hero = await system.account(sub=HERO)
    people.append(hero)
    await _named(system, people)
    await _past_of(system, hero, operator)
    with_socket = [*people[:mitras], hero]
    phones = [await system.phone((first, second)[n % 2], each) for n, each in enumerate(with_socket)]
    made = Scene(system, [first, second], operator, people, phones, hero)
    made.life.append(asyncio.create_task(_beats(made)))
    try:
        await _market(made, trades)
        await _hour(made, trades)
        yield made
    finally:
        for task in made.life:
            task.cancel()
        await asyncio.gather(*made.life, return_exceptions=True)


async def _named(system: System, people: list[Account]) -> None:
    names = [f"{FIRST[n % len(FIRST)]} {LAST[(n * 5 + n // len(FIRST)) % len(LAST)]}" for n in range(len(people))]
    names[0], names[-1] = LONG_NAME, "Siti Rahmawati"
    statement = "UPDATE mitras SET display_name = $2 WHERE id = $1"
    await system.sql.executemany(statement, [(each.id, name) for each, name in zip(people, names, strict=True)])


async def _hour(made: Scene, trades: int) -> None:
    """The last hour as the leader would have counted it, up to what is true now."""
    now, chance, mitras = datetime.now(UTC), random.Random(3), len(made.phones)
    end = now - timedelta(seconds=now.timestamp() % STEP_S)
    waiting, rows = 2.0, []
    for n in range(HOUR_S // STEP_S, -1, -1):
        hour = n * STEP_S / HOUR_S
        online = round(mitras * (1 - 0.26 * hour**1.4 + 0.05 * math.sin(6 * hour)) + chance.gauss(0, mitras * 0.003))
        busy = round(trades * (1 - 0.5 * math.sin(3 * hour) + 0.2 * math.sin(11 * hour)) + chance.gauss(0, 0.5))
        suspect = max(0, round(mitras * (0.012 + (0.05 if 0.52 < hour < 0.55 else 0)) + chance.gauss(0, 0.6)))
        waiting = max(0.0, 2 + 0.9 * (waiting - 2) + chance.gauss(0, 0.5) + (0.6 if 0.3 < hour < 0.5 else 0))
        accept = 2.1 + 0.9 * math.sin(7 * hour) + chance.gauss(0, 0.08)
        counts = (
            online,
            suspect,
            online - busy - suspect,
            busy,
            round(mitras * (0.033 - 0.008 * (hour > 0.7))),
            online,
        )
        work = (trades // 4 + round(2 * math.sin(9 * hour)), round(busy * 0.75), round(waiting), accept)
        rows.append((end - timedelta(seconds=n * STEP_S), *counts, *work, online / 12.5 + chance.gauss(0, 0.6)))
    await made.system.sql.execute("DELETE FROM centre_series")  # counted while the scene was set
    await made.system.sql.executemany(
        "INSERT INTO centre_series (at, online, suspect, available, busy, deactivated, sockets, pending_payment, "
        "active, waiting, accept_p50_s, beats_per_s) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
        "ON CONFLICT DO NOTHING",
        rows,
    )


async def _past_of(system: System, hero: Account, operator: Account) -> None:
    """Two days of one mitra, told by its log: why was it offline?"""
    now = datetime.now(UTC)
    lines = [
        (44.0, "online", "connected", None),
        (41.2, "suspect", "lost", None),
        (41.19, "online", "back", None),
        (38.5, "offline", "goodbye", None),
        (22.0, "online", "connected", None),
        (18.4, "suspect", "stale", None),
        (18.39, "offline", "stale", None),
        (17.9, "online", "connected", None),
        (14.5, "offline", "operator", operator.id),
        (7.2, "online", "connected", None),
        (3.1, "suspect", "instance_died", None),
        (3.098, "online", "back", None),
        (1.4, "suspect", "lost", None),
        (1.395, "offline", "lost", None),
    ]
    await system.sql.executemany(
        "INSERT INTO presence_log (at, recorded_at, mitra_id, state, reason, connection_id, instance_id, actor) "
        "VALUES ($1, $1, $2, $3, $4, $5, $6, $7)",
        [
            (now - timedelta(hours=hours), hero.id, state, reason, str(uuid.uuid4()), "jakarta-1", actor)
            for hours, state, reason, actor in lines
        ],
    )


async def _market(made: Scene, trades: int) -> None:
    """What happened: sessions of every state by the real way, a history of pairings, what an operator did."""
    system = made.system
    customers = await system.accounts(trades + 60, "customer")
    await _asked_before(made, customers[:40])
    sessions = await asyncio.gather(*(made.wins(customers.pop()) for _ in range(trades)))
    for session in sessions[: trades * 3 // 4]:
        await made.act("POST", f"/sessions/{session['id']}/paid", {"amount": 150_000})
    free = made.mitras[-max(3, len(made.mitras) // 30) : -1]  # the last one is the hero
    for mitra in free:
        await made.act("POST", f"/mitras/{mitra.id}/deactivate")
    await made.act("POST", f"/mitras/{free[-1].id}/activate")
    await made.act("PUT", "/config/max_sessions", {"value": 1})
    await made.act("PUT", "/config/app_notice", {"value": "Hujan deras di Jakarta: hati-hati di jalan."})
    if sessions:
        await made.act("POST", f"/sessions/{sessions[0]['id']}/end")
    for phone in made.phones[3 : 3 + max(1, len(made.phones) // 80)]:
        phone.cut()
    for customer in customers[-2:]:
        await system.pair(made.instances[1], customer, "Tolong yang berpengalaman")


async def _asked_before(made: Scene, customers: list[Account]) -> None:
    """Pairings of the last quarter of an hour, as they were decided."""
    now, chance = datetime.now(UTC), made.random
    rows, offers = [], []
    for customer in customers:
        created = now - timedelta(seconds=chance.uniform(60, 870))
        status = chance.choices(["accepted", "expired", "cancelled"], weights=[34, 3, 3])[0]
        took = abs(chance.gauss(2.2, 1.3)) + 0.6 if status == "accepted" else chance.uniform(14, 50)
        pairing, winner = uuid.uuid4(), chance.choice(made.mitras).id
        decided = created + timedelta(seconds=took)
        mitra = winner if status == "accepted" else None
        rows.append((pairing, customer.id, status, mitra, created, created + timedelta(seconds=45), decided))
        for offered in {winner, *(chance.choice(made.mitras).id for _ in range(6))}:
            became = "accepted" if offered == mitra else "taken" if mitra else "expired"
            offers.append((pairing, offered, became, created + timedelta(seconds=0.2)))
    await made.system.sql.executemany(
        "INSERT INTO pairings (id, customer_id, status, mitra_id, created_at, expires_at, decided_at, wave, "
        "next_wave_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, NULL)",
        rows,
    )
    await made.system.sql.executemany(
        "INSERT INTO pairing_offers (pairing_id, mitra_id, wave, status, offered_at, delivered_at, seen_at, "
        "answered_at) VALUES ($1, $2, 1, $3, $4::timestamptz, $4::timestamptz + interval '0.1 s', "
        "$4::timestamptz + interval '0.9 s', "
        "CASE WHEN $3 = 'accepted' THEN $4::timestamptz + interval '2 s' END)",
        offers,
    )


async def _beats(made: Scene) -> None:
    """Every socket beats each twelve seconds or so, one after the other."""
    while True:
        for phone in made.phones:
            with suppress(websockets.ConnectionClosed):
                await phone.send(type="ping")
            await asyncio.sleep(12.5 / len(made.phones))

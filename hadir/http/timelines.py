"""`/api/internal/…/timeline`: what happened to a mitra, a pairing, a session, each line with a sentence for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from hadir.db.queries import sql
from hadir.http import sentences
from hadir.http.auth import reader
from hadir.http.market import pairing_asked_for
from hadir.http.mitras import unknown_mitra
from hadir.http.pages import LATEST, Position, page
from hadir.http.pairings import shown
from hadir.http.requests import json_response, node_of, path_id
from hadir.realtime import rows as presence_rows
from hadir.realtime.pairing import PairingStatus
from hadir.realtime.told import fields_of

Entry = dict[str, Any]
LAST: Position = {"at": LATEST, "tie": chr(0x10FFFF)}
MITRA_FIELDS = ("at", "until", "kind", "state", "reason", "actor", "connection_id", "instance_id", "subject")
OFFERS_OF_WAVE = 100
"""Offers of one wave that are listed; the wave says how many there are."""
OFFERS_LISTED = 1_000
WAVES_LISTED = 1_000
PARTS_LISTED = 200
"""Searches, payments and acts of one session."""
OVER: Mapping[str, tuple[str, str]] = {
    "accepted": ("taken", "Other mitras were told that it is taken."),
    "expired": ("expired", "Nobody accepted in time."),
    "cancelled": ("cancelled", "Its customer gave up, or the session that it was for ended."),
}
"""How a decision ends the offers that are open, and what it means."""
DONE_WITH_OFFER: Sequence[tuple[str, str, str]] = (
    ("offered_at", "offered", "It was offered to this mitra."),
    ("delivered_at", "delivered", "The offer reached this mitra's app."),
    ("seen_at", "seen", "This mitra's app showed the offer."),
)
PAYMENTS: Mapping[str, str] = {"expired": "invoice_expired"}
"""What happened, where it is not what the payment's state is called: a session expires, too."""
ANSWERS: Mapping[str, str] = {
    "declined": "This mitra declined.",
    "accepted": "This mitra accepted and won.",
    "withdrawn": "The offer was withdrawn: this mitra was taken out of service.",
}


async def mitra(request: Request) -> Response:
    """Why was it offline? A page of what happened to a mitra, newest first."""
    node = node_of(request)
    await reader(node, request)
    mitra_id = path_id(request, "id")
    found, following = await page(request, sql("mitra_timeline"), LAST, first=(mitra_id,))
    if not found and not (await presence_rows.read(node.postgres, [mitra_id])).rows:
        raise unknown_mitra()
    entries = [{name: each[name] for name in MITRA_FIELDS} | {"why": sentences.of_mitra(each)} for each in found]
    return json_response({"entries": entries, "next": following})


async def pairing(request: Request) -> Response:
    """What became of a pairing, oldest first: waves, offers, answers, the decision."""
    node, found = node_of(request), await pairing_asked_for(request)
    waves = await node.postgres.fetch(sql("pairing_waves_made"), found.id, WAVES_LISTED)
    offers = await node.postgres.fetch(sql("pairing_offers_listed"), found.id, OFFERS_OF_WAVE, OFFERS_LISTED)
    closed = dict(await node.postgres.fetch(sql("pairing_offers_closed"), found.id))
    what = fields_of(found)
    entries = [
        _entry(found.created_at, "created", "The customer asked for a mitra."),
        *(_wave(each) for each in waves),
        *_of_offers(offers, found.decided_at),
        *_decision(what, closed),
    ]
    shown_pairing = await shown(node, found) | {"waves": len(waves)}
    return json_response({"pairing": shown_pairing, "entries": _in_order(entries, found.created_at)})


async def session(request: Request) -> Response:
    """What became of a session, oldest first: payments, searches for another mitra, its end."""
    node = node_of(request)
    await reader(node, request)
    found = await node.market.sessions.read(path_id(request, "id"))
    searches = (await node.postgres.fetch(sql("session_pairings"), found.id))[:PARTS_LISTED]
    payments = (await node.postgres.fetch(sql("session_payments"), found.id))[:PARTS_LISTED]
    acts = await node.postgres.fetch(sql("audit_of"), found.id, PARTS_LISTED)
    what = fields_of(found)
    entries = [
        *_beginning(what, searches),
        *(_payment(each) for each in payments),
        *(entry for each in searches if each["reroute"] for entry in _search(each)),
        *(_entry(each["at"], each["action"], sentences.ACTS.get(each["action"], "")) for each in acts),
        *_ending(what),
    ]
    return json_response({"session": what, "entries": _in_order(entries, found.created_at)})


def _entry(
    at: datetime,
    what: str,
    why: str,
    *,
    wave: int | None = None,
    mitra: tuple[str, str] | None = None,
    count: int | None = None,
) -> Entry:
    mitra_id, display_name = mitra or (None, None)
    named = {"mitra_id": mitra_id, "display_name": display_name}
    return {"at": at, "what": what, "wave": wave, **named, "count": count, "why": why}


def _in_order(entries: Iterable[Entry], began: datetime) -> list[Entry]:
    """By time; what happened at the same time stays as it was."""
    ordered = sorted(entries, key=lambda each: each["at"])
    return [each | {"after_s": round((each["at"] - began).total_seconds(), 3)} for each in ordered]


# pairings


def _wave(made: asyncpg.Record) -> Entry:
    count = made["offers"]
    why = f"Wave {made['wave']}: it was offered to {count} mitra{'s' if count != 1 else ''}."
    return _entry(made["at"], "wave", why, wave=made["wave"], count=count)


def _of_offers(offers: Sequence[asyncpg.Record], decided_at: datetime | None) -> Iterable[Entry]:
    for each in offers:
        mitra = each["mitra_id"], each["display_name"]
        steps = [(each[column], what, why) for column, what, why in DONE_WITH_OFFER if each[column] is not None]
        if each["status"] in ANSWERS:
            # When an offer was withdrawn is not recorded: not before the last that is known of it.
            at = each["answered_at"] or decided_at or steps[-1][0]
            steps.append((at, each["status"], ANSWERS[each["status"]]))
        for at, what, why in steps:
            yield _entry(at, what, why, wave=each["wave"], mitra=mitra)


def _decision(pairing: Mapping[str, Any], closed: Mapping[str, int]) -> Iterable[Entry]:
    at, status = pairing["decided_at"], pairing["status"]
    if at is None or status == PairingStatus.SEARCHING:
        return
    what, why = OVER[status]
    if status != PairingStatus.ACCEPTED or closed.get(what):
        yield _entry(at, what, why, count=closed.get(what, 0))
    if status == PairingStatus.ACCEPTED:
        winner = None if pairing["mitra_id"] is None else (pairing["mitra_id"], pairing["mitra_name"])
        yield _entry(at, "decided", "A mitra was found.", mitra=winner)


# sessions


def _beginning(session: Mapping[str, Any], searches: Sequence[asyncpg.Record]) -> Iterable[Entry]:
    first = next((each for each in searches if not each["reroute"] and each["mitra_id"] is not None), None)
    mitra = (session["mitra_id"], session["mitra_name"])
    if first is not None:
        mitra = (first["mitra_id"], first["mitra_name"])
    yield _entry(session["created_at"], "created", "A mitra accepted the customer.", mitra=mitra)
    if session["started_at"] is not None:
        yield _entry(session["started_at"], "started", "Its time began.")


def _payment(payment: asyncpg.Record) -> Entry:
    what = PAYMENTS.get(payment["state"], payment["state"])
    if what == "paid" and payment["extension"]:
        what = "extended"
    return _entry(payment["changed_at"], what, sentences.of_payment(payment), count=payment["extension"] or None)


def _search(search: asyncpg.Record) -> Iterable[Entry]:
    yield _entry(search["created_at"], "rerouting", "Another mitra was searched for.")
    if search["decided_at"] is None:
        return
    if search["status"] == PairingStatus.ACCEPTED:
        winner = None if search["mitra_id"] is None else (search["mitra_id"], search["mitra_name"])
        yield _entry(search["decided_at"], "rerouted", "Another mitra accepted it.", mitra=winner)
    else:
        yield _entry(search["decided_at"], "not_rerouted", "No other mitra was found; it stayed where it was.")


def _ending(session: Mapping[str, Any]) -> Iterable[Entry]:
    if session["ended_at"] is not None:
        why = sentences.of_end(session["status"], session["end_reason"])
        yield _entry(session["ended_at"], session["status"], why)

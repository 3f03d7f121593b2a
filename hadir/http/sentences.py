"""Why something is as it is, as one English sentence for people: of states, acts, offers, sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hadir.realtime.session import END_REASONS

NOTICED_LATE_S = 1.0

LOSSES: Mapping[str, str] = {
    "lost": "its connection was lost without a goodbye",
    "drained": "its instance stopped before its app had moved to another one",
    "token_expired": "its token ran out and no new one came in time",
    "silent": "nothing came over its connection for too long",
    "stale": "nothing was heard of it for too long",
    "slow": "its app did not read what it was sent",
    "too_fast": "its app sent too much, or too much that was wrong",
    "rotated": "its app did not open another connection when it was asked to",
    "instance_died": "the instance that held its connection died",
}
"""How a suspicion begins; it keeps its reason when it ends offline."""
ONLINE: Mapping[str, str] = {
    "connected": "Its app connected.",
    "back": "Its app was heard of again in time.",
    "status": "It switched itself online in its app.",
    "http": "Its app said over HTTP that it is online.",
    "postgres_outage": "Its app connected while the database was away; that was written afterwards.",
    "external": "Another program put it online.",
}
OFFLINE: Mapping[str, str] = {
    "goodbye": "Its app said goodbye.",
    "status": "It switched itself offline in its app.",
    "http": "Its app said over HTTP that it is offline.",
    "operator": "An operator took it offline.",
    "deactivated": "An operator took it out of service.",
    "revoked": "Its login was revoked.",
    "protocol_error": "Its app broke the protocol.",
    "external": "Another program put it offline.",
}
ACTS: Mapping[str, str] = {
    "activate": "An operator took it back into service.",
    "deactivate": "An operator took it out of service.",
    "offline": "An operator took it offline.",
    "revoke": "An operator revoked one of its logins.",
    "end_session": "An operator ended it.",
    "reroute": "An operator asked for another mitra.",
    "paid": "An operator said that it was paid for elsewhere.",
}
OFFERS: Mapping[str, str] = {
    "open": "It was offered a customer and has not answered yet.",
    "accepted": "It was offered a customer and won.",
    "declined": "It was offered a customer and declined.",
    "taken": "It was offered a customer; another mitra was faster.",
    "expired": "It was offered a customer; nobody accepted in time.",
    "cancelled": "It was offered a customer who then gave up, or whose session ended.",
    "withdrawn": "It was offered a customer; the offer was withdrawn because it was taken out of service.",
}
SESSIONS: Mapping[str, str] = {
    "pending_payment": "It has a session that waits for its payment",
    "active": "It has a session that goes on",
    "ended": "It had a session",
    "expired": "It had a session that was never paid for",
    "cancelled": "It had a session that ended unpaid",
}


def of_mitra(entry: Mapping[str, Any]) -> str:
    """Of a row of `mitra_timeline`."""
    match entry["kind"]:
        case "presence":
            return of_state(entry["state"], entry["reason"], entry["was"], entry["noticed_s"])
        case "operator":
            return ACTS.get(entry["reason"], f"An operator did this: {entry['reason']}.")
        case "offer":
            return OFFERS[entry["state"]]
        case _:
            return of_session(entry["state"], entry["reason"])


def of_state(state: str, reason: str, was: str | None, noticed_s: float) -> str:
    """`was`: the state before; `noticed_s`: how long after its beginning it was written."""
    known = _of_state(state, reason, was)
    if state != "online" and reason in LOSSES and noticed_s >= NOTICED_LATE_S:
        return f"{known} That was noticed {noticed_s:.0f} s after the last sign of life."
    return known


def _of_state(state: str, reason: str, was: str | None) -> str:
    if state == "suspect":
        why = LOSSES.get(reason, f"the reason given is {reason}")
        return f"It is offered nothing until it is heard of again: {why}."
    if state == "online":
        return ONLINE.get(reason, f"It is online; the reason given is {reason}.")
    if reason in LOSSES:
        return f"It did not come back in time: {LOSSES[reason]}." if was == "suspect" else f"It left: {LOSSES[reason]}."
    if reason == "operator" and was == "offline":
        return ACTS["activate"]
    return OFFLINE.get(reason, f"It is offline; the reason given is {reason}.")


def of_session(status: str, end_reason: str | None) -> str:
    said = SESSIONS[status]
    if end_reason is None:
        return f"{said}."
    return f"{said}: {END_REASONS.get(end_reason, f'the reason given is {end_reason}')}."


def of_end(status: str, end_reason: str | None) -> str:
    """Of the end of a session."""
    why = END_REASONS.get(end_reason or "", f"the reason given is {end_reason}")
    return f"It is {status}: {why}."


def of_payment(payment: Mapping[str, Any]) -> str:
    what = f"its extension {payment['extension']}" if payment["extension"] else "it"
    match payment["state"]:
        case "paid":
            by = " An operator said so." if payment["invoice_id"].startswith("operator:") else ""
            return f"The payment for {what} came.{by}"
        case "refund_due":
            return f"Money for {what} came that buys nothing any more: give it back."
        case _:
            return f"An invoice for {what} ran out unpaid."

"""Operations of the marketplace: offers, pairings, sessions, payments."""

from __future__ import annotations

from typing import Any

from hadir.http.market import EXTENSION_MAX, PAYMENT_STATES
from hadir.http.openapi_schemas import (
    ANY,
    BODY,
    BOOLEAN,
    CLIENT_ID,
    COUNT,
    NEXT,
    NOTE,
    RUPIAH,
    TEXT,
    UUID,
    Schema,
    listing,
    nullable,
    one_of,
    record,
    ref,
)
from hadir.http.openapi_table import (
    CURSOR,
    CUSTOMER,
    ID,
    INTERNAL,
    MITRA,
    OPERATOR,
    PUBLIC,
    READER,
    SIDES,
    WAIT,
    Answer,
    Operation,
    act,
    get,
    in_path,
    json,
    limit,
    query,
)
from hadir.http.pages import LIMIT, LIMIT_MAX
from hadir.http.requests import TEXT_MAX
from hadir.http.sessions import SEQ_MAX
from hadir.realtime.pairing import DeclineResult, PairingStatus
from hadir.realtime.session import SessionStatus

PAIRING_ID = in_path("pairing_id", UUID)
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": TEXT_MAX, "pattern": "^[!-~]+$"},
    "description": "The same key and body within 24 hours is the same pairing.",
}
CALLBACK_TOKEN = {
    "name": "X-Callback-Token",
    "in": "header",
    "schema": TEXT,
    "description": "The one that was agreed with the provider (`XENDIT_CALLBACK_TOKEN`).",
}
PAGE = (limit(LIMIT, LIMIT_MAX), CURSOR)
SESSIONS = json("The page, newest first", record({"sessions": listing(ref("Session")), "next": NEXT}))
MESSAGES = json("What was found", record({"messages": listing(ref("Message")), "more": BOOLEAN}))
TO_PAY = json("What to pay with, the same until it is paid", record({"external_id": TEXT, "session": ref("Session")}))
AFTER: Schema = {"type": "integer", "minimum": 0, "maximum": SEQ_MAX, "default": 0}
THE_SESSION = json("The session then", "Session")
THE_PAIRING = json("The pairing, with its session", "PairingWithSession")
SEARCHING = json("The pairing that searches; the same where one did already", "PairingWithSession")


def only(name: str, values: Schema) -> dict[str, Any]:
    return query(name, values, f"Only those of this {name}.")


def of_session(on: str, action: str, summary: str, answer: Answer, roles: tuple[str, ...], **more: Any) -> Operation:
    path = f"{'/api/internal' if on == INTERNAL else '/api'}/sessions/{{id}}/{action}"
    refuses = (404, 409, *more.pop("refuses", ()))
    return act(on, path, summary, answer, roles=roles, refuses=refuses, parameters=(ID,), **more)


MARKET = (
    act(
        PUBLIC,
        "/api/mitra/offers/{pairing_id}/accept",
        "Accepts an offer; `busy`: no capacity now, the offer stays open",
        json("What it came to", record({"result": ref("AcceptResult"), "session": nullable(ref("Session"))})),
        roles=MITRA,
        parameters=(PAIRING_ID,),
    ),
    act(
        PUBLIC,
        "/api/mitra/offers/{pairing_id}/decline",
        "Declines an offer",
        json("What it came to; or what had been decided before", record({"result": one_of(*DeclineResult)})),
        roles=MITRA,
        parameters=(PAIRING_ID,),
    ),
    act(
        PUBLIC,
        "/api/pairings",
        "Asks to be paired",
        json("The pairing; as it is now where this key asked before", "PairingWithSession"),
        status=201,
        roles=CUSTOMER,
        refuses=(409, 429),
        parameters=(IDEMPOTENCY_KEY,),
        body=record({"note": nullable(NOTE)}, optional=("note",), takes_more=True),
    ),
    get(
        (PUBLIC,),
        "/api/pairings/{id}",
        "A pairing; with `wait` as soon as it is decided",
        THE_PAIRING,
        roles=CUSTOMER,
        refuses=(404, 422),
        parameters=(ID, WAIT),
    ),
    Operation(
        on=(PUBLIC,),
        method="delete",
        path="/api/pairings/{id}",
        summary="Ends a search",
        answers={200: THE_PAIRING},
        roles=CUSTOMER,
        refuses=(404, 409, 422),
        parameters=(ID,),
    ),
    get((PUBLIC,), "/api/sessions", "One's own sessions", SESSIONS, roles=SIDES, refuses=(422,), parameters=PAGE),
    get(
        (PUBLIC,),
        "/api/sessions/{id}",
        "One of one's own sessions",
        json("The session", "Session"),
        roles=SIDES,
        refuses=(404, 422),
        parameters=(ID,),
    ),
    of_session(PUBLIC, "end", "Ends a session; one that was not paid for is cancelled", THE_SESSION, SIDES),
    of_session(
        PUBLIC,
        "extend",
        "What to pay for the next extension with; its payment extends the session",
        TO_PAY,
        CUSTOMER,
    ),
    of_session(
        PUBLIC,
        "reroute",
        "Searches another mitra for a session that goes on",
        SEARCHING,
        CUSTOMER,
        status=201,
        refuses=(429,),
    ),
    get(
        (PUBLIC,),
        "/api/sessions/{id}/messages",
        "The messages after a number, in order",
        MESSAGES,
        roles=SIDES,
        refuses=(404, 422),
        parameters=(ID, query("after", AFTER, "The last known `seq`."), limit(LIMIT, LIMIT_MAX)),
    ),
    of_session(
        PUBLIC,
        "messages",
        "Sends a message; the same `client_id` again is the same message",
        json("The message", "Message"),
        SIDES,
        status=201,
        refuses=(429,),
        body=record({"client_id": CLIENT_ID, "body": BODY}, takes_more=True),
        body_required=True,
    ),
    act(
        PUBLIC,
        "/webhooks/xendit",
        "What the payment provider says: stored, and dealt with afterwards; 404 while no token is agreed",
        json("It is stored", record({"stored": BOOLEAN})),
        refuses=(401, 404),
        parameters=(CALLBACK_TOKEN,),
        body=ANY | {"minProperties": 1, "description": "An event of an invoice."},
        body_required=True,
    ),
    get(
        (INTERNAL,),
        "/api/internal/pairings",
        "A page of pairings",
        json("The page, newest first", record({"pairings": listing(ref("Pairing")), "next": NEXT})),
        roles=READER,
        refuses=(422,),
        parameters=(only("status", one_of(*PairingStatus)), *PAGE),
    ),
    get(
        (INTERNAL,),
        "/api/internal/pairings/{id}",
        "A pairing with its offers, wave after wave",
        json("The pairing", "PairingWithOffers"),
        roles=READER,
        refuses=(404, 422),
        parameters=(ID,),
    ),
    get(
        (INTERNAL,),
        "/api/internal/sessions",
        "A page of sessions",
        SESSIONS,
        roles=READER,
        refuses=(422,),
        parameters=(only("status", one_of(*SessionStatus)), *PAGE),
    ),
    get(
        (INTERNAL,),
        "/api/internal/sessions/{id}",
        "A session with its pairings and payments",
        json("The session", "SessionWithPayments"),
        roles=READER,
        refuses=(404, 422),
        parameters=(ID,),
    ),
    of_session(INTERNAL, "end", "Ends a session", THE_SESSION, OPERATOR),
    of_session(INTERNAL, "reroute", "Searches another mitra for a session", SEARCHING, OPERATOR, status=201),
    of_session(
        INTERNAL,
        "paid",
        "Says that a session, or its extension `extension`, was paid for elsewhere",
        THE_SESSION,
        OPERATOR,
        body=record(
            {"extension": nullable(COUNT | {"maximum": EXTENSION_MAX}), "amount": nullable(RUPIAH)},
            optional=("extension", "amount"),
            takes_more=True,
        ),
    ),
    get(
        (INTERNAL,),
        "/api/internal/payments",
        "A page of payments",
        json("The page, last changed first", record({"payments": listing(ref("Payment")), "next": NEXT})),
        roles=READER,
        refuses=(422,),
        parameters=(only("state", one_of(*PAYMENT_STATES)), *PAGE),
    ),
)

"""Messages of the wire as values."""

from __future__ import annotations

from typing import Any

import pytest

from hadir.dev.told import Fate, Offered, Over, Pairing, Said, Session, State, answer, read

PAIRING: dict[str, Any] = {
    "id": "p1", "customer_id": "c1", "status": "accepted", "note": None, "created_at": "…", "expires_at": "…",
    "decided_at": "…", "mitra_id": "m1", "mitra_name": "Ani", "session_id": "s1", "reroute": False, "version": 7,
}  # fmt: skip
SESSION: dict[str, Any] = {
    "id": "s1", "customer_id": "c1", "mitra_id": "m1", "mitra_name": "Ani", "status": "active", "created_at": "…",
    "payment_due_at": None, "started_at": "…", "expires_at": "…", "ended_at": None, "end_reason": None,
    "extensions": 1, "messages": 3, "mitra_reachable": True, "version": 9,
}  # fmt: skip
MESSAGE = {"id": "x1", "session_id": "s1", "seq": 3, "sender": "mitra", "client_id": "k", "body": "hai", "at": "…"}
P, S = Pairing("p1", "c1", "accepted", "m1", "s1", False, 7), Session("s1", "c1", "m1", "active", None, 1, 3, 9)
M = Said("x1", "s1", 3, "mitra", "k", "hai")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "offer", "pairing_id": "p1"}, [(Over.PUSH, Offered("p1"))]),
        ({"type": "offer.closed", "pairing_id": "p1", "reason": "taken"}, [(Over.PUSH, Fate("p1", "taken", True))]),
        (
            {"type": "offer.result", "pairing_id": "p1", "result": "won", "session": SESSION, "re": "1"},
            [(Over.ANSWER, Fate("p1", "won", False)), (Over.ANSWER, S)],
        ),
        ({"type": "offer.result", "pairing_id": "p1", "result": "busy"}, [(Over.PUSH, Fate("p1", "busy", False))]),
        ({"type": "pairing.updated", "pairing": PAIRING}, [(Over.PUSH, P)]),
        ({"type": "session.updated", "session": SESSION}, [(Over.PUSH, S)]),
        ({"type": "chat.message", "message": MESSAGE}, [(Over.PUSH, M)]),
        ({"type": "ack", "re": "1", "message": MESSAGE}, [(Over.ANSWER, M)]),
        ({"type": "ack", "re": "1"}, []),
        ({"type": "something.new"}, []),
        (
            {"type": "hello", "state": {"pending": False, "sessions": [SESSION], "offers": [{"pairing_id": "p2"}]}},
            [
                (Over.STATE, State(("s1",), (), pending=False, greets=True)),
                (Over.STATE, S),
                (Over.STATE, Offered("p2")),
            ],
        ),
        (
            {"type": "sync", "state": {"sessions": [], "pairings": [PAIRING]}},
            [(Over.STATE, State((), ("p1",), pending=False, greets=False)), (Over.STATE, P)],
        ),
    ],
)
def test_what_a_message_tells(message: dict[str, Any], told: list[Any]) -> None:
    assert list(read(message)) == told


@pytest.mark.parametrize(
    "message",
    [
        {"type": "offer.result", "pairing_id": "p1", "result": "won", "session": {}},
        {"type": "session.updated", "session": {**SESSION, "messages": None}},
        {"type": "hello"},
    ],
)
def test_what_is_not_of_the_protocol_is_an_error(message: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        list(read(message))


def test_what_an_answer_over_http_tells() -> None:
    assert [what for _, what in answer({**PAIRING, "session": SESSION})] == [P, S]
    assert [what for _, what in answer({**PAIRING, "session": None})] == [P]
    assert [what for _, what in answer(SESSION)] == [S]
    assert [what for _, what in answer({"external_id": "s1:2", "session": SESSION})] == [S]
    assert list(answer({"messages": [], "more": False})) == []

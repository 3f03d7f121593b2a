"""The checker of histories against rows: a sound one passes, and each check fails on a history that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hadir.dev.history import History, Rows, inconsistencies
from hadir.dev.told import Over, State, Told
from tests.dev.histories import ACCEPTED, ACTIVE, ENDED, PAIRING, SAID, SESSION, closed, offered, result, to

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def minutes(count: float) -> datetime:
    return NOON + timedelta(minutes=count)


def pairing(name: str = "p1", **fields: Any) -> dict[str, Any]:
    sound = {"status": "accepted", "mitra_id": "m1", "session_id": "s1", "decided_at": minutes(1)}
    return {"id": name, "customer_id": "c1", **sound, **fields}


def session(name: str = "s1", **fields: Any) -> dict[str, Any]:
    sound = {"mitra_id": "m1", "status": "ended", "end_reason": "customer", "ended_at": minutes(5)}
    return {"id": name, "customer_id": "c1", **sound, **fields}


def message(name: str = "x1", **fields: Any) -> dict[str, Any]:
    sound = {"session_id": "s1", "seq": 1, "sender": "customer", "client_id": "k1", "body": "halo"}
    sound["sender_id"] = "c1"
    return {"id": name, **sound, **fields}


def offers(**statuses: str) -> list[dict[str, Any]]:
    return [{"pairing_id": "p1", "mitra_id": mitra, "status": status} for mitra, status in statuses.items()]


@dataclass
class Story:
    """A sound one: m1 won, m2 was too late, they talked, the customer ended it."""

    told: list[Told] = field(
        default_factory=lambda: [
            to("c1", PAIRING), offered("m1"), offered("m2"), result("m1", "won"), closed("m2", "taken"),
            to("c1", ACCEPTED), to("m1", SESSION), to("c1", ACTIVE), to("m1", SAID), to("c1", ENDED),
        ]
    )  # fmt: skip
    pairings: Sequence[dict[str, Any]] = field(default_factory=lambda: [pairing()])
    offers: Sequence[dict[str, Any]] = field(default_factory=lambda: offers(m1="accepted", m2="taken"))
    sessions: Sequence[dict[str, Any]] = field(default_factory=lambda: [session()])
    messages: Sequence[dict[str, Any]] = field(default_factory=lambda: [message()])

    def check(self, capacity: int = 1) -> list[str]:
        rows = Rows(self.pairings, self.offers, self.sessions, self.messages)
        return inconsistencies(self.told, rows, capacity=capacity)


def test_a_sound_history_has_no_inconsistency() -> None:
    assert Story().check() == []
    assert Story(told=[]).check() == []
    assert Story(told=[], pairings=[], offers=[], sessions=[], messages=[]).check() == []


def test_ids_may_be_of_any_type() -> None:
    name, mitra = UUID(int=1), UUID(int=2)
    rows = [{"id": name, "status": "accepted", "mitra_id": mitra, "session_id": None, "decided_at": NOON}]
    offer = {"pairing_id": name, "mitra_id": mitra, "status": "accepted"}
    told = [result(str(mitra), "won", str(name))]
    assert Story(told=told, pairings=rows, offers=[offer], sessions=[], messages=[]).check() == []


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (result("m3", "won"), "pairing p1 is won by m3, expected one winner, and that was m1"),
        (result("m1", "taken"), "mitra m1 is told taken of pairing p1, expected won, as before"),
        (to("c1", replace(ACTIVE, version=4)), "session s1 is told to be active at version 4, expected nothing that"),
        (to("c1", replace(SAID, body="hai")), "message x1 is told as seq 1 of session s1 by customer: 'hai'"),
    ],
)
def test_what_contradicts_what_was_told_before(told: Told, sentence: str) -> None:
    story = Story()
    story.told.append(replace(told, at=200))
    assert any(found.startswith(sentence) for found in story.check())


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (offered("m3"), "mitra m3 was offered pairing p1: there is no such row"),
        (result("m2", "won"), "mitra m2 was told won of pairing p1: its row says accepted, by m1"),
        (result("m1", "taken"), "mitra m1 was told taken of pairing p1: its row says accepted, by m1"),
        (closed("m2", "expired"), "mitra m2 was told expired of pairing p1: its row says accepted, by m1"),
        (closed("m2", "cancelled"), "mitra m2 was told cancelled of pairing p1: its row says accepted, by m1"),
        (result("m1", "won", "p9"), "mitra m1 was told won of pairing p9: there is no such row"),
        (to("c1", replace(PAIRING, id="p9")), "pairing p9 was told: there is no such row"),
        (
            to("c1", replace(ACCEPTED, mitra_id="m2")),
            "pairing p1 was told as accepted, m2, s1: its row says accepted, m1, s1",
        ),
        (
            to("c1", replace(PAIRING, status="expired")),
            "pairing p1 was told as expired, none, none: its row says accepted, m1, s1",
        ),
        (to("c1", replace(SESSION, id="s9")), "session s9 was told: there is no such row"),
        (
            to("c1", replace(ENDED, end_reason="time")),
            "session s1 was told as ended, time: its row says ended, customer",
        ),
        (to("m1", replace(SAID, id="x9")), "message x9 was told: there is no such row"),
        (
            to("m1", replace(SAID, body="hai")),
            "message x1 was told as s1, 1, customer, k1, hai: its row says s1, 1, customer, k1, halo",
        ),
    ],
)
def test_what_contradicts_the_rows(told: Told, sentence: str) -> None:
    assert sentence in Story(told=[told]).check()


def test_a_row_may_not_be_behind_what_was_told() -> None:
    behind = [session(status="pending_payment", end_reason=None, ended_at=None)]
    assert (
        "session s1 was told as active: its row says pending_payment"
        in Story(told=[to("c1", ACTIVE)], sessions=behind).check()
    )
    assert Story(told=[to("c1", SESSION)], sessions=behind).check() == []


def test_an_accept_that_was_too_late_for_a_cancelled_pairing_may_be_called_expired() -> None:
    cancelled = [pairing(status="cancelled", mitra_id=None, session_id=None)]
    rest: dict[str, Any] = {"pairings": cancelled, "offers": offers(m1="cancelled"), "sessions": [], "messages": []}
    assert Story(told=[result("m1", "expired"), closed("m1", "cancelled")], **rest).check() == []
    assert Story(told=[closed("m1", "expired")], **rest).check() == [
        "mitra m1 was told expired of pairing p1: its row says cancelled"
    ]


def test_one_list_that_was_told_may_not_exceed_the_capacity() -> None:
    state = State(("s1", "s2"), (), pending=False, greets=True)
    story = Story(told=[to("m1", state, over=Over.STATE)])
    assert story.check() == ["mitra m1 was told of 2 open sessions, capacity 1"]
    assert story.check(capacity=2) == []
    assert Story(told=[to("c1", state, over=Over.STATE)]).check() == []


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"offers": offers(m1="accepted", m2="accepted")}, "pairing p1 is accepted, by m1: its offers say m1, m2"),
        ({"offers": offers(m1="taken", m2="accepted")}, "pairing p1 is accepted, by m1: its offers say m2"),
        ({"offers": offers(m1="open")}, "pairing p1 is accepted, by m1: its offers say nobody"),
        ({"pairings": [pairing(status="expired")]}, "pairing p1 is expired: its row names m1"),
        ({"messages": [message(), message("x2", seq=3, client_id="k2")]}, "session s1 has messages with seq 1, 3"),
        ({"messages": [message(seq=2)]}, "session s1 has messages with seq 2"),
        (
            {"messages": [message(), message("x2", seq=2)]},
            "client_id k1 of c1 in session s1 is stored 2 times",
        ),
    ],
)
def test_rows_that_contradict_each_other(rows: dict[str, Any], sentence: str) -> None:
    assert sentence in Story(told=[], **rows).check()


def overlapping(begins: float, ends: float | None) -> Story:
    """m1 has s1 from minute 1 to 5, and s2 besides."""
    second = pairing("p2", session_id="s2", decided_at=minutes(begins))
    over = {"ended_at": minutes(ends)} if ends is not None else {"status": "active", "ended_at": None}
    both = [*offers(m1="accepted"), {"pairing_id": "p2", "mitra_id": "m1", "status": "accepted"}]
    return Story([], [pairing(), second], both, [session(), session("s2", **over)])


def test_nobody_has_more_sessions_at_a_time_than_its_capacity() -> None:
    assert overlapping(3, 4).check() == [f"mitra m1 had 2 open sessions at {minutes(3).isoformat()}, capacity 1"]
    assert overlapping(3, None).check()
    assert overlapping(0.5, None).check()
    assert overlapping(3, 4).check(capacity=2) == []
    assert overlapping(5, 6).check() == []
    assert overlapping(4.95, 6).check() == [], "three seconds: it may have waited for the other's lock"
    assert overlapping(6, None).check() == []


def test_a_session_counts_for_who_has_it() -> None:
    story = overlapping(3, 4)
    handed_over = pairing("p3", mitra_id="m2", decided_at=minutes(2))
    story.pairings = [*story.pairings, handed_over]
    story.offers = [*story.offers, {"pairing_id": "p3", "mitra_id": "m2", "status": "accepted"}]
    assert story.check() == []


def test_a_history_keeps_what_it_is_given() -> None:
    history = History()
    history.record(offered("m1"))
    assert history.events() == [offered("m1")]

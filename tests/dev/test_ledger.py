"""What is wrong among all that was told, and what lateness explains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hadir.dev.ledger import KEPT, Recent
from hadir.dev.told import Over, Said, What
from tests.dev.histories import (
    ACCEPTED,
    ACTIVE,
    ENDED,
    PAIRING,
    SAID,
    SESSION,
    closed,
    greeted,
    offered,
    result,
    says,
    to,
    wrongs,
)


def test_a_whole_sound_story_has_nothing_wrong() -> None:
    assert not wrongs(
        greeted("m1"), greeted("m2"), greeted("c1"),
        to("c1", PAIRING), offered("m1"), offered("m2"),
        result("m1", "won"), to("m1", SESSION), closed("m2", "taken"), result("m2", "taken"),
        to("c1", ACCEPTED), to("c1", SESSION), to("c1", ACTIVE), to("m1", ACTIVE),
        to("c1", says(1), over=Over.ANSWER), to("m1", says(1)), to("c1", says(1)), to("c1", says(1)), to("m1", says(2)),
        result("m1", "won"), to("m1", ENDED), to("c1", ENDED),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "now"),
    [("won", "taken"), ("taken", "won"), ("won", "expired"), ("taken", "cancelled"), ("expired", "won")],
)
def test_nobody_is_told_two_outcomes(before: str, now: str) -> None:
    (sentence,) = wrongs(result("m1", before), result("m1", now))
    assert sentence == f"mitra m1 is told {now} of pairing p1, expected {before}, as before".replace(
        "expected expired", "expected nobody"
    )


@pytest.mark.parametrize("word", ["busy", "withdrawn", "declined"])
def test_what_concerns_one_mitra_is_no_outcome_of_the_pairing(word: str) -> None:
    assert not wrongs(result("m1", word), result("m1", "won"), result("m2", word), result("m2", "taken"))


def test_too_late_for_a_cancelled_pairing_may_be_called_expired() -> None:
    assert not wrongs(
        closed("m1", "cancelled"), result("m1", "expired"), to("c1", replace(PAIRING, status="cancelled"))
    )


def test_a_pairing_has_one_winner_whoever_is_told() -> None:
    assert wrongs(result("m1", "won"), result("m2", "won")) == [
        "pairing p1 is won by m2, expected one winner, and that was m1"
    ]
    assert wrongs(to("c1", ACCEPTED), result("m2", "won"))
    assert wrongs(to("c1", ACCEPTED), result("m1", "taken"))
    assert wrongs(result("m2", "won"), to("c1", ACCEPTED))
    assert not wrongs(result("m1", "won"), result("m1", "won", "p2"))


def test_who_wins_and_that_nobody_does_exclude_each_other() -> None:
    assert wrongs(closed("m2", "expired"), result("m1", "won"))
    assert wrongs(result("m1", "won"), closed("m2", "expired"))
    assert wrongs(result("m1", "won"), to("c1", replace(PAIRING, status="cancelled", version=2)))


def test_a_decided_pairing_stays_as_it_is() -> None:
    expired = replace(PAIRING, status="expired", version=2)
    assert wrongs(to("c1", expired), to("c1", replace(expired, status="cancelled", version=3)))
    assert wrongs(to("c1", expired), to("c1", replace(PAIRING, version=3)))
    assert wrongs(to("c1", PAIRING), to("c1", replace(expired, version=1))), "one version says one thing"
    assert not wrongs(to("c1", expired), to("c1", PAIRING, over=Over.ANSWER)), "the answer was overtaken"
    assert not wrongs(to("c1", expired), to("c1", replace(expired, version=3)))


def test_a_session_never_goes_backwards() -> None:
    assert wrongs(to("c1", ACTIVE), to("m1", replace(SESSION, version=3)))
    assert wrongs(to("c1", ENDED), to("c1", replace(ACTIVE, version=4)))
    assert wrongs(to("c1", ENDED), to("c1", replace(ENDED, status="expired", version=4)))
    assert not wrongs(to("c1", ENDED), to("m1", ACTIVE)), "the other side is told later"
    assert not wrongs(to("c1", ACTIVE), to("c1", replace(ACTIVE, mitra_id="m2", version=3))), "handed over"


@pytest.mark.parametrize(("older", "newer"), [(ACTIVE, ENDED), (PAIRING, ACCEPTED)])
def test_what_is_pushed_comes_in_order(older: What, newer: What) -> None:
    assert len(wrongs(greeted("c1"), to("c1", newer), to("c1", older))) == 1
    assert not wrongs(greeted("c1"), to("c1", newer), to("c1", older, over=Over.ANSWER))
    assert not wrongs(greeted("c1", at=95), to("c1", newer), to("c1", older)), "over the connection before"


def test_customers_are_told_of_their_own_only() -> None:
    assert wrongs(to("c2", PAIRING))
    assert wrongs(to("c2", SESSION))
    assert not wrongs(to("m2", SESSION)), "it was handed over"


@pytest.mark.parametrize("change", [{"body": "hai"}, {"seq": 2}, {"sender": "mitra"}, {"client_id": "k2"}])
def test_a_message_is_the_same_for_everybody(change: dict[str, object]) -> None:
    assert wrongs(to("c1", SAID, over=Over.ANSWER), to("m1", replace(SAID, **change)))  # type: ignore[arg-type]


def test_no_two_messages_share_a_number_or_a_client_id() -> None:
    twin = replace(SAID, id="x2")
    assert len(wrongs(to("c1", SAID, over=Over.ANSWER), to("c1", twin, over=Over.ANSWER))) == 2
    other = replace(SAID, id="x2", seq=2, sender="mitra")
    another = replace(other, id="x3", seq=3)
    assert not wrongs(to("c1", SAID), to("c1", other), to("c1", another)), "everybody has their own"


def test_messages_come_in_order_and_without_gaps() -> None:
    assert wrongs(greeted("m1"), to("m1", SESSION), to("m1", says(2))) == [
        "mitra m1 gets message seq 2 of session s1 by customer: 'halo', expected seq 1 next"
    ]
    assert wrongs(greeted("m1"), to("m1", says(1)), to("m1", says(3)))
    assert wrongs(greeted("m1"), to("m1", says(2)), to("m1", says(1)))
    assert not wrongs(greeted("m1"), to("m1", says(4)), to("m1", says(5))), "nothing was known of the session"


def test_what_was_stored_before_the_hello_is_no_gap_and_what_came_after_is() -> None:
    before = (greeted("m1"), to("m1", SESSION), to("m1", says(1)))
    again = (greeted("m1", "s1", at=50), to("m1", replace(ACTIVE, messages=3), over=Over.STATE))
    assert not wrongs(*before, *again, to("m1", says(4)))
    assert not wrongs(*before, *again, to("m1", says(3)), to("m1", says(4))), "it was on its way"
    assert wrongs(*before, *again, to("m1", says(5)))


def test_after_a_pending_hello_nothing_is_known_of_where_messages_go_on() -> None:
    before = (greeted("m1"), to("m1", SESSION), to("m1", says(1)))
    assert not wrongs(*before, greeted("m1", at=50, pending=True), to("m1", says(4)))


def test_while_two_connections_overlap_old_messages_may_come_late() -> None:
    again = (greeted("m1", "s1", at=95), to("m1", replace(ACTIVE, messages=2), 95, Over.STATE))
    assert not wrongs(greeted("m1"), to("m1", SESSION), *again, to("m1", says(3)), to("m1", says(2)), to("m1", says(4)))
    late = to("m1", says(2), at=120)
    assert wrongs(greeted("m1"), to("m1", SESSION), *again, to("m1", says(3)), to("m1", says(4)), late)


def test_numbers_are_of_one_session() -> None:
    other: Said = says(1, session_id="s2")
    assert not wrongs(greeted("m1"), to("m1", says(1)), to("m1", other), to("m1", says(2)))


def test_it_remembers_no_more_than_so_much() -> None:
    recent: Recent[int, None] = Recent()
    for number in range(KEPT + 10):
        recent[number] = None
    assert len(recent) == KEPT
    assert 9 not in recent

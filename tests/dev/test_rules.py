"""What the simulation calls wrong, and what it must not; how it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hadir.client import Beacon, Ended, Failed, Opened, Replied, Verdict
from hadir.dev import rules
from hadir.dev.rates import Rates
from hadir.dev.tally import Latency, Tally

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ENDED = Ended("c1", 4002, "server", Verdict.AGAIN, beat_age_s=5.0, lived_s=60.0, sent=4, froze=False)
SEEN = Beacon(3, 5, NOON.isoformat(), 10.0, "live", None, 0.0)
ON, OFF = {"online": True, "wants_online": True}, {"online": False, "wants_online": False}


@pytest.mark.parametrize("code", [1000, 1009, 1012, 1013, 4001, 4005, 4006, 4501, 4502, 4503, 4504])
def test_codes_of_the_protocol_are_right_at_any_time(code: int) -> None:
    assert rules.ending(replace(ENDED, code=code), 60) is None


@pytest.mark.parametrize("code", [1001, 1002, 1005, 1006, 1011, 4000, 4007, 4500, 4505])
def test_other_codes_are_wrong_from_the_server_only(code: int) -> None:
    assert rules.ending(replace(ENDED, code=code), 60) is not None
    assert rules.ending(replace(ENDED, code=code, by="client"), 60) is None
    assert rules.ending(replace(ENDED, code=code, by="network"), 60) is None


def test_silent_is_wrong_only_where_an_answered_beat_is_too_young_for_it() -> None:
    assert rules.ending(replace(ENDED, beat_age_s=53.9), 60) is not None
    assert rules.ending(replace(ENDED, beat_age_s=60.0), 60) is None
    assert rules.ending(replace(ENDED, beat_age_s=53.9, froze=True), 60) is not None, "it was answered all the same"


def test_slow_and_too_fast_are_wrong_only_for_who_reads_and_is_not() -> None:
    assert rules.ending(replace(ENDED, code=4003), 60) is not None
    assert rules.ending(replace(ENDED, code=4003, froze=True), 60) is None
    assert rules.ending(replace(ENDED, code=4004, sent=30, lived_s=2), 60) is not None
    assert rules.ending(replace(ENDED, code=4004, sent=31, lived_s=2), 60) is None


@pytest.mark.parametrize(
    ("acknowledged", "state", "right"),
    [
        (True, ON, True),
        (False, OFF, True),
        (True, OFF, False),
        (False, ON, False),
        (True, {"online": False, "wants_online": True}, False),
        (False, {"online": True, "wants_online": False}, False),
        (True, {**OFF, "pending": True}, True),
        (True, {}, False),
    ],
)
def test_the_state_agrees_with_what_was_acknowledged(acknowledged: bool, state: Mapping[str, Any], right: bool) -> None:
    assert (rules.agreement(acknowledged, state) is None) is right


def test_a_beacon_may_be_as_much_older_than_the_newest_as_it_is_valid() -> None:
    assert rules.beacon(SEEN, None) is None
    assert rules.beacon(SEEN, NOON + timedelta(seconds=11.9)) is None
    assert rules.beacon(SEEN, NOON + timedelta(seconds=12.1)) is not None
    assert rules.beacon(replace(SEEN, state="stale"), NOON + timedelta(seconds=100)) is None, "it says so itself"


def test_a_beacon_counts_no_more_available_than_online() -> None:
    assert rules.beacon(replace(SEEN, available=5), None) is None
    assert rules.beacon(replace(SEEN, available=6), None) is not None
    assert rules.beacon(replace(SEEN, available=-1), None) is not None


def test_rates_are_of_the_last_ten_seconds_and_of_all_the_time() -> None:
    rates = Rates(0, {"beats": 0})
    for second in range(1, 101):
        assert rates.due(second)
        rates.sample(second, {"beats": max(0, second - 90) * 3})
    assert not rates.due(100.5)
    assert rates.lately() == {"beats": 3.0}
    assert rates.overall() == {"beats": 0.3}


def test_latencies_are_told_by_their_quantiles() -> None:
    latency = Latency()
    for ms in range(100):
        latency.add(ms / 1000)
    assert str(latency) == "p50 50.0, p95 95.0, p99 99.0, max 99.0 ms"
    alone = Latency()
    alone.add(0.0015)
    assert str(alone) == "p50 1.5, p95 1.5, p99 1.5, max 1.5 ms"


def test_what_apps_met_with_is_counted() -> None:
    tally = Tally()
    for event in (
        ENDED,
        ENDED,
        Failed("", 429, "too_many", None, None),
        Failed("", 502, None, None, None),
        Failed("", None, None, 4999, None),
        Failed("", None, None, None, None),
        Opened("c1", 0.1),
        Replied("sync", 0.1),
        Replied("status", 0.1),
    ):
        tally.heard(event)
    assert tally.endings == {(4002, "came back"): 2}
    assert tally.refusals == {"429 too_many": 1, "502": 1, "closed with 4999": 1, "no answer": 1}
    assert set(tally.latencies) == {"connect to hello", "status to ack"}


def test_one_breach_is_told_once() -> None:
    tally = Tally()
    wrong = rules.Wrong("the beacon says 3", "4 to 5")
    for key in ("a", "a", "b"):
        tally.take_down(wrong, key)
    assert len(tally.breaches) == 2
    assert str(tally.breaches[0]).endswith(": the beacon says 3, expected 4 to 5")

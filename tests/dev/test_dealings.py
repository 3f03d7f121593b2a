"""What is counted of pairings, sessions and messages, and how long they took."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from hadir.dev.dealings import ACCEPTED, FIRST_OFFER, KNOWN, Dealings
from hadir.dev.tally import Latency
from hadir.dev.told import Over
from tests.dev.histories import ACCEPTED as PAIRED
from tests.dev.histories import ACTIVE, ENDED, PAIRING, SESSION, offered, says, to


@pytest.fixture
def latencies() -> defaultdict[str, Latency]:
    return defaultdict(Latency)


@pytest.fixture
def dealings(latencies: defaultdict[str, Latency]) -> Dealings:
    return Dealings(latencies)


def test_outcomes_count_once_whoever_tells_them(dealings: Dealings) -> None:
    dealings.hear(to("c1", PAIRING))
    assert (dealings.searching, dealings.pairings.total()) == (1, 0)
    for over in Over:
        dealings.hear(to("c1", PAIRED, over=over))
    dealings.hear(to("c1", PAIRING))
    assert (dealings.searching, dealings.pairings) == (0, {"accepted": 1})
    dealings.hear(to("c1", replace(PAIRED, id="p2", reroute=True)))
    dealings.hear(to("c1", replace(PAIRING, id="p3", status="expired")))
    assert dealings.pairings == {"accepted": 1, "rerouted": 1, "expired": 1}


def test_sessions_count_by_how_they_ended(dealings: Dealings) -> None:
    for told in (SESSION, ACTIVE, ENDED, ACTIVE, ENDED):
        dealings.hear(to("m1", told))
        dealings.hear(to("c1", told))
    dealings.hear(to("c1", replace(SESSION, id="s2")))
    assert (dealings.open, dealings.sessions) == (1, {"ended by customer": 1})


def test_a_message_is_sent_once_and_delivered_once(dealings: Dealings) -> None:
    for told in (
        to("c1", says(1), over=Over.ANSWER),
        to("c1", says(1)),
        to("m1", says(1)),
        to("m1", says(1)),
        to("c1", says(2), over=Over.ANSWER),
        to("m1", says(2), over=Over.ANSWER),
    ):
        dealings.hear(told)
    assert (dealings.sent, dealings.delivered) == (2, 1)


@pytest.mark.parametrize("request_first", [True, False])
def test_the_first_offer_is_timed_from_the_request(
    dealings: Dealings, latencies: defaultdict[str, Latency], request_first: bool
) -> None:
    if request_first:
        dealings.asked("p1", 99.0)
    dealings.hear(offered("m1"))
    if not request_first:
        dealings.asked("p1", 99.0)
    dealings.hear(replace(offered("m2"), at=150.0))
    dealings.asked("p1", 10.0)
    assert str(latencies[FIRST_OFFER]).endswith("max 1000.0 ms")


@pytest.mark.parametrize("request_first", [True, False])
def test_the_accept_is_timed_from_the_request(
    dealings: Dealings, latencies: defaultdict[str, Latency], request_first: bool
) -> None:
    if request_first:
        dealings.asked("p1", 98.0)
    dealings.hear(to("c1", PAIRED))
    dealings.asked("p1", 98.0)
    dealings.hear(to("c1", PAIRED, at=200.0))
    assert str(latencies[ACCEPTED]).endswith("max 2000.0 ms")


@pytest.mark.parametrize("told_first", [True, False])
def test_the_customers_knowing_is_timed_from_the_accept_that_won(
    dealings: Dealings, latencies: defaultdict[str, Latency], told_first: bool
) -> None:
    dealings.accepted("p1", "taken", 50.0)
    if told_first:
        dealings.hear(to("c1", PAIRED))
    dealings.accepted("p1", "won", 99.5)
    if not told_first:
        dealings.hear(to("c1", PAIRED))
    dealings.accepted("p1", "won", 10.0)
    assert dealings.accepts == {"taken": 1, "won": 2}
    assert str(latencies[KNOWN]).endswith("max 500.0 ms")

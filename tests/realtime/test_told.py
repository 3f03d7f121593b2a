"""What a socket is told, whatever order readings come in: nothing twice, nothing left out, no gap (R8)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hadir.realtime.pairing import Offer, OfferNews, OfferStatus, Pairing, PairingStatus
from hadir.realtime.session import Message, Session, SessionStatus
from hadir.realtime.told import MESSAGES_AT_ONCE, OVER_MAX, News, Told, Work

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ME, OTHER, CUSTOMER = "me", "other", "customer"


def offer(name: str, status: OfferStatus = OfferStatus.OPEN, session: str | None = None) -> OfferNews:
    return OfferNews(Offer(name, NOW, NOW + timedelta(seconds=60), "", False), status, session)


def pairing(name: str, version: int, status: PairingStatus = PairingStatus.SEARCHING) -> Pairing:
    return Pairing(name, CUSTOMER, status, "", NOW, NOW, None, None, None, None, False, version)


def session(
    name: str, version: int = 1, *, status: SessionStatus = SessionStatus.ACTIVE, messages: int = 0, mitra: str = ME
) -> Session:
    ended = None if status in (SessionStatus.ACTIVE, SessionStatus.PENDING_PAYMENT) else NOW
    return Session(name, CUSTOMER, mitra, mitra, status, NOW, NOW, NOW, NOW, ended, None, 0, messages, True, version)


def message(name: str, seq: int) -> Message:
    return Message(f"{name}-{seq}", name, seq, "customer", str(seq), "Halo", NOW)


def frames(news: News) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in news.frames]


def kinds(news: News) -> list[str]:
    return [frame["type"] for frame in frames(news)]


@pytest.mark.parametrize(
    ("status", "reason"),
    [("declined", "withdrawn"), ("taken", "taken"), ("expired", "expired"), ("cancelled", "cancelled"),
     ("withdrawn", "withdrawn")],
)  # fmt: skip
def test_an_offer_is_told_once_and_its_end_once(status: str, reason: str) -> None:
    told = Told(ME)
    assert (kinds(told.hear(Work([offer("p")]))), kinds(told.hear(Work([offer("p")])))) == (["offer"], [])
    (closed,) = frames(told.hear(Work([offer("p", OfferStatus(status))])))
    assert closed == {"type": "offer.closed", "pairing_id": "p", "reason": reason}
    assert kinds(told.hear(Work([offer("p", OfferStatus(status)), offer("p")]))) == [], "a late reading opens nothing"
    assert told.offers == {}


def test_the_end_of_an_offer_that_was_not_told_is_no_news() -> None:
    assert kinds(Told(ME).hear(Work([offer("p", OfferStatus.TAKEN)]))) == []


def test_an_offer_that_was_accepted_elsewhere_ends_with_its_result_and_its_session() -> None:
    told = Told(ME)
    told.hear(Work([offer("p")]))
    won = frames(told.hear(Work([offer("p", OfferStatus.ACCEPTED, "s")], sessions=[session("s")])))
    assert [frame["type"] for frame in won] == ["offer.result", "session.updated"]
    assert (won[0]["result"], won[0]["session"]["id"]) == ("won", "s")


def test_what_began_and_ended_between_two_readings_is_told_once() -> None:
    over = Work(
        pairings=[replace(pairing("p", 2, PairingStatus.ACCEPTED), session_id="s")],
        sessions=[session("s", 2, status=SessionStatus.CANCELLED)],
    )
    told = Told(CUSTOMER)
    assert kinds(told.hear(over)) == ["pairing.updated", "session.updated"]
    assert (kinds(told.hear(over)), told.state(["pairings", "sessions"])) == ([], {"pairings": [], "sessions": []})


def test_whoever_accepts_again_what_is_over_by_now_has_its_answer_and_no_news() -> None:
    assert Told(ME).answered("p", session("s", 2, status=SessionStatus.ENDED)) == []


def test_what_was_answered_is_not_told_again() -> None:
    told = Told(ME)
    told.hear(Work([offer("p")]))
    told.answered("p")
    assert kinds(told.hear(Work([offer("p"), offer("p", OfferStatus.ACCEPTED)]))) == []


def test_offers_that_were_withheld_are_told_anew() -> None:
    told = Told(ME)
    told.hear(Work([offer("p")]))
    told.withhold_offers()
    assert kinds(told.hear(Work([offer("p")]))) == ["offer"]


def test_a_pairing_is_told_by_its_version() -> None:
    told = Told(CUSTOMER)
    assert kinds(told.hear(Work(pairings=[pairing("p", 2)]))) == ["pairing.updated"]
    assert kinds(told.hear(Work(pairings=[pairing("p", 2), pairing("p", 1)]))) == []
    assert kinds(told.hear(Work(pairings=[pairing("p", 3, PairingStatus.ACCEPTED)]))) == ["pairing.updated"]
    assert kinds(told.hear(Work(pairings=[pairing("p", 2), pairing("p", 3, PairingStatus.ACCEPTED)]))) == []


def test_the_last_messages_of_a_session_come_before_its_end() -> None:
    told = Told(ME)
    told.hear(Work(sessions=[session("s", messages=4)]))
    over = session("s", 2, status=SessionStatus.ENDED, messages=6)
    news = told.hear(Work(sessions=[over]))
    assert (kinds(news), news.behind) == ([], True), "it has to be read once more"
    news = told.hear(Work(sessions=[over], messages=[message("s", 5), message("s", 6)]))
    assert kinds(news) == ["chat.message", "chat.message", "session.updated"]
    assert (news.behind, told.sessions) == (False, {})


def test_what_was_told_before_hello_is_among_what_hello_says_was_missed() -> None:
    """The session was read first, then its messages, of which there were more; nobody could be sent them yet."""
    told = Told(CUSTOMER)
    told.hear(Work(sessions=[session("s", messages=4)]))
    told.hear(Work(sessions=[session("s", messages=5)], messages=[message("s", seq) for seq in (5, 6, 7)]))
    (said,) = told.state(["sessions"])["sessions"]
    assert said.messages == 7, "from the next reading on it hears what comes behind"
    (changed,) = frames(told.hear(Work(sessions=[session("s", 2, messages=6)])))
    assert changed["session"]["messages"] == 7


def test_messages_go_on_behind_one_that_was_deleted_and_none_comes_twice() -> None:
    """A reading has all that there are after the last one told: what is missing in it is nowhere."""
    told = Told(ME)
    told.hear(Work(sessions=[session("s")]))
    heard = frames(told.hear(Work(messages=[message("s", 1), message("s", 3), message("s", 3), message("s", 4)])))
    assert [frame["message"]["seq"] for frame in heard] == [1, 3, 4]
    assert kinds(told.hear(Work(messages=[message("s", 4)]))) == []


def test_behind_a_deleted_message_every_reading_of_many_gets_on() -> None:
    told = Told(ME)
    told.hear(Work(sessions=[session("s")]))
    many = [message("s", seq) for seq in range(2, 3 * MESSAGES_AT_ONCE)]
    told_of: list[int] = []
    for _ in range(4):
        left = [each for each in many if each.seq > told.sessions["s"].messages]
        news = told.hear(Work(messages=left, sessions=[session("s", messages=many[-1].seq)], complete=["s"]))
        told_of += [frame["message"]["seq"] for frame in frames(news) if frame["type"] == "chat.message"]
    assert (told_of, news.behind) == ([each.seq for each in many], False)


def test_a_session_that_was_handed_over_is_told_and_forgotten() -> None:
    told = Told(ME)
    told.hear(Work(sessions=[session("s")]))
    (handed,) = frames(told.hear(Work(sessions=[session("s", 2, mitra=OTHER)])))
    assert handed["session"]["mitra_id"] == OTHER
    assert told.sessions == {}
    assert kinds(told.hear(Work(sessions=[session("s", 3, mitra=OTHER)], messages=[message("s", 1)]))) == []


def test_what_is_over_is_remembered_within_bounds() -> None:
    told = Told(ME)
    for n in range(3 * OVER_MAX):
        told.hear(Work([offer(str(n))]))
        told.hear(Work([offer(str(n), OfferStatus.TAKEN)]))
    assert len(told._over) == OVER_MAX


# any order of readings of any history


@dataclass
class History:
    """What Postgres has, as it changes; a reading is of one moment, and of what its socket was told when it asked."""

    offers: dict[str, OfferNews] = field(default_factory=dict)
    pairings: dict[str, Pairing] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    messages: dict[str, list[Message]] = field(default_factory=dict)

    def change(self, kind: str, name: str) -> None:
        """The next thing that happens to the thing of that name."""
        match kind:
            case "offer":
                name = f"offer {name}"
                known = self.offers.get(name)
                if known is None:
                    self.offers[name] = offer(name)
                elif known.status is OfferStatus.OPEN:
                    ends = [OfferStatus.TAKEN, OfferStatus.EXPIRED, OfferStatus.ACCEPTED]
                    self.offers[name] = offer(name, ends[len(self.messages) % 3], "s0")
            case "pairing":
                name = f"pairing {name}"
                found = self.pairings.get(name)
                status = PairingStatus.CANCELLED if found is not None and found.version > 1 else PairingStatus.SEARCHING
                if found is None or found.is_open:
                    self.pairings[name] = pairing(name, found.version + 1 if found else 1, status)
            case "session" | "end" | "handover" | "message":
                self._change_session(kind, name)

    def _change_session(self, kind: str, name: str) -> None:
        known = self.sessions.get(name)
        if known is None:
            self.sessions[name] = session(name)
            self.messages[name] = []
        elif not known.is_open:
            return
        elif kind == "message":
            self.sessions[name] = replace(known, messages=known.messages + 1)
            self.messages[name].append(message(name, known.messages + 1))
        else:
            over = {"end": {"status": SessionStatus.ENDED}, "handover": {"mitra_id": OTHER}}.get(kind, {})
            self.sessions[name] = replace(known, version=known.version + 1, **over)  # type: ignore[arg-type]

    def read(self, told: Told, most: int = 2) -> Work:
        """As the server's reader does: what is open or began lately, and what became of what was told."""
        offers = [each for name, each in self.offers.items() if each.status is OfferStatus.OPEN or name in told.offers]
        pairings = [*self.pairings.values()]
        sessions = [each for each in self.sessions.values()
                    if each.id in told.sessions or each.mitra_id == told.subject_id]  # fmt: skip
        return deepcopy(Work(offers, pairings, sessions, self.messages_after(told, most)))

    def messages_after(self, told: Told, most: int = 2) -> list[Message]:
        """As the server's reader has them, who reads them last."""
        return [each for name, known in told.sessions.items() for each in self.messages[name][known.messages :][:most]]


class Judge:
    """Looks at every frame as an app does."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], int] = {}
        self.over: dict[tuple[str, str], int] = {}
        self.seqs: dict[str, int] = {}

    def look(self, told: Iterable[dict[str, Any]]) -> None:
        for frame in told:
            match frame["type"]:
                case "offer":
                    self._begins(("offer", frame["pairing_id"]))
                case "offer.closed" | "offer.result":
                    self._ends(("offer", frame["pairing_id"]))
                case "pairing.updated":
                    found = frame["pairing"]
                    self._version(("pairing", found["id"]), found["version"], found["status"] == "searching")
                case "session.updated":
                    found = frame["session"]
                    mine = found["mitra_id"] == ME and found["status"] == "active"
                    first = ("session", found["id"]) not in self.open
                    self._version(("session", found["id"]), found["version"], mine)
                    if first:
                        self.seqs[found["id"]] = found["messages"]
                    if found["mitra_id"] == ME:  # of one that was handed over, the rest is for somebody else
                        assert found["messages"] <= self.seqs[found["id"]], "its messages before it"
                case "chat.message":
                    found = frame["message"]
                    assert ("session", found["session_id"]) in self.open
                    assert found["seq"] == self.seqs[found["session_id"]] + 1, "no gap, none twice"
                    self.seqs[found["session_id"]] += 1

    def _begins(self, what: tuple[str, str]) -> None:
        assert what not in self.open, "told twice"
        assert what not in self.over, "it was over"
        self.open[what] = 0

    def _ends(self, what: tuple[str, str]) -> None:
        assert what in self.open, "an end before its beginning"
        del self.open[what]
        self.over[what] = 0

    def _version(self, what: tuple[str, str], version: int, is_open: bool) -> None:
        assert version > max(self.open.get(what, 0), self.over.get(what, 0)), "told before"
        self.open.pop(what, None)
        if is_open:
            self.open[what] = version
        else:
            self.over[what] = version


KINDS = [
    ("offer",),
    ("pairing",),
    ("session", "message", "message", "end", "handover"),
    ("offer", "pairing", "session"),
]
STEPS = st.tuples(st.sampled_from(["change", "ask", "messages", "deliver"]), st.integers(0, 19))


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(KINDS), st.lists(STEPS, min_size=12, max_size=40))
def test_readings_in_any_order_tell_everything_once_and_in_order(
    kinds: tuple[str, ...], steps: list[tuple[str, int]]
) -> None:
    history, told, judge = History(), Told(ME), Judge()
    waiting: list[Work] = []
    for step, n in steps:
        match step:
            case "change":
                history.change(kinds[n % len(kinds)], f"s{n % 2}")
            case "ask":
                waiting.append(history.read(told))
            case "messages" if waiting:  # were read after the rest
                waiting[n % len(waiting)].messages = history.messages_after(told)
            case "deliver" if waiting:  # in any order, and any number of times
                judge.look(frames(told.hear(waiting[n % len(waiting)])))
                assert all(judge.seqs[each.id] == each.messages for each in told.sessions.values()), "what was told"
    for late in waiting:
        judge.look(frames(told.hear(late)))
    for _ in range(100):
        news = told.hear(history.read(told))
        judge.look(frames(news))
        if not news.frames and not news.behind:
            break
    else:
        pytest.fail("it never came to rest")
    open_sessions = {each.id: each for each in history.sessions.values() if each.is_open and each.mitra_id == ME}
    assert told.sessions == open_sessions
    assert set(told.offers) == {name for name, each in history.offers.items() if each.status is OfferStatus.OPEN}
    assert told.pairings == {each.id: each for each in history.pairings.values() if each.is_open}
    heard = judge.open.keys() | judge.over.keys()
    everything = {("pairing", name) for name in history.pairings}
    everything |= {("session", name) for name, each in history.sessions.items() if each.mitra_id == ME}
    assert everything <= heard, "also what began and ended between two readings"
    assert {what for what in judge.open if what[0] == "session"} == {("session", name) for name in open_sessions}

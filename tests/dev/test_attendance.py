"""Attendance: intervals out of what apps did, by their own clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from hadir.client import Ended, Opened, Verdict
from hadir.dev.attendance import Attendance

JAKARTA = ZoneInfo("Asia/Jakarta")


def ended(
    name: str, code: int = 1006, by: Literal["server", "client", "network"] = "network", age_s: float = 0.5
) -> Ended:
    return Ended(name, code, by, Verdict.AGAIN, beat_age_s=age_s, lived_s=9.0, sent=1, froze=False)


def test_a_goodbye_ends_at_once_a_loss_at_the_last_beat() -> None:
    attendance = Attendance(5.0)
    for mitra, end in (("a", ended("1", code=1000, by="client")), ("b", ended("1", age_s=2.0))):
        attendance.hear(mitra, Opened("1", 0.1), 100.0)
        attendance.hear(mitra, end, 110.0)
    assert attendance.intervals("a", 200.0) == [(100.0, 110.0)]
    assert attendance.intervals("b", 200.0) == [(100.0, 108.0)]


def test_who_comes_back_soon_was_never_away() -> None:
    attendance = Attendance(5.0)
    attendance.hear("a", Opened("1", 0.1), 100.0)
    attendance.hear("a", ended("1"), 110.0)
    attendance.hear("a", Opened("2", 0.1), 114.0)
    assert attendance.intervals("a", 200.0) == [(100.0, 200.0)]
    attendance.hear("a", ended("2"), 120.0)
    attendance.hear("a", Opened("3", 0.1), 125.0)
    assert attendance.intervals("a", 200.0) == [(100.0, 119.5), (125.0, 200.0)]
    assert attendance.absences_s == [4.5, 5.5]


def test_an_old_connection_that_ends_behind_its_successor_ends_nothing() -> None:
    attendance = Attendance(5.0)
    attendance.hear("a", Opened("1", 0.1), 100.0)
    attendance.hear("a", Opened("2", 0.1), 110.0)
    attendance.hear("a", ended("1", code=4006, by="server"), 110.1)
    assert attendance.intervals("a", 200.0) == [(100.0, 200.0)]


def test_the_toggle_ends_and_begins_intervals() -> None:
    attendance = Attendance(5.0)
    attendance.hear("a", Opened("1", 0.1), 100.0)
    attendance.switched("a", False, 110.0)
    attendance.hear("a", ended("1"), 112.0)
    attendance.hear("a", Opened("2", 0.1), 113.0)
    assert attendance.intervals("a", 200.0) == [(100.0, 110.0)]
    attendance.switched("a", True, 120.0)
    assert attendance.intervals("a", 200.0) == [(100.0, 110.0), (120.0, 200.0)]


def test_who_is_lost_and_switches_itself_off_was_there_until_then_if_nobody_held_it_for_gone() -> None:
    attendance = Attendance(5.0)
    for mitra, off in (("soon", 113.0), ("late", 130.0)):
        attendance.hear(mitra, Opened("1", 0.1), 100.0)
        attendance.hear(mitra, ended("1"), 110.0)
        attendance.switched(mitra, False, off)
    assert attendance.intervals("soon", 200.0) == [(100.0, 113.0)]
    assert attendance.intervals("late", 200.0) == [(100.0, 109.5)]


def test_days_are_those_of_the_zone() -> None:
    attendance = Attendance(5.0)
    midnight = datetime(2026, 5, 2, tzinfo=JAKARTA).timestamp()
    attendance.hear("a", Opened("1", 0.1), midnight - 60)
    assert attendance.days("a", JAKARTA, midnight + 30) == {date(2026, 5, 1): (60.0, 1), date(2026, 5, 2): (30.0, 1)}
    assert attendance.days("a", ZoneInfo("UTC"), midnight + 30) == {date(2026, 5, 1): (90.0, 1)}
    moved = attendance.days("a", JAKARTA, midnight + 30, moved_s=-45.0)
    assert moved == {date(2026, 5, 1): (90.0, 1)}
    assert datetime.fromtimestamp(midnight, UTC).date() == date(2026, 5, 1)

"""The simulation's own record, and what it lets a beacon say."""

from hadir.dev.truth import GONE, Bounds, Standing, Truth

LIVE = Standing(sure=True, possible=True)
COVERED = Standing(sure=False, possible=True)


def test_it_counts_who_must_and_who_may_be_available() -> None:
    truth = Truth(0)
    truth.note("a", LIVE, 1)
    truth.note("b", LIVE, 2)
    truth.note("b", COVERED, 3)
    truth.note("c", COVERED, 4)
    assert truth.now == Bounds(1, 3)
    truth.note("c", GONE, 5)
    assert truth.now == Bounds(1, 2)


def test_a_beacon_may_lag_by_the_window_and_no_longer() -> None:
    truth = Truth(0)
    for number in range(10):
        truth.note(str(number), LIVE, 1)
    truth.note("0", GONE, 20)
    assert truth.over(2, 21.9).hold(10), "counted before the news"
    assert truth.over(2, 21.9).hold(9)
    assert not truth.over(2, 22.1).hold(10)
    assert not truth.over(2, 21.9).hold(8)


def test_a_moment_of_absence_within_the_window_counts() -> None:
    truth = Truth(0)
    truth.note("a", LIVE, 1)
    truth.note("a", COVERED, 10)
    truth.note("a", LIVE, 10.001)
    assert truth.over(2, 11).hold(0)
    assert not truth.over(2, 13).hold(0)


def test_what_is_older_than_two_minutes_is_forgotten_but_still_in_force() -> None:
    truth = Truth(0)
    truth.note("a", LIVE, 1)
    for step in range(1, 1000):
        truth.note("b", LIVE if step % 2 else GONE, float(step))
    assert truth.over(120, 1000) == Bounds(1, 2)
    assert len(truth._history) < 130


def test_where_something_fails_each_mitra_may_be_counted_as_it_was() -> None:
    """One became sure and another left: whoever counts the former late and the latter at once counts one too few."""
    truth = Truth(0)
    truth.note("leaves", LIVE, 0)
    truth.note("stays", LIVE, 0)
    truth.note("comes", LIVE, 10)
    truth.note("leaves", GONE, 11)
    assert truth.over(5, 12) == Bounds(2, 3)
    assert truth.each(5, 12) == Bounds(1, 3)
    assert truth.each(1.5, 12) == Bounds(2, 3)
    assert truth.each(0.5, 12) == Bounds(2, 2)

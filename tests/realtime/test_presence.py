"""The decisions, one rule a test: values in, values out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hadir.realtime import presence
from hadir.realtime.presence import (
    CLAIM_LATE,
    AuthSession,
    Claim,
    Close,
    Event,
    Expire,
    HttpBeat,
    HttpOffline,
    HttpOnline,
    InstanceDied,
    Moment,
    Outcome,
    Reclaim,
    Revoke,
    Row,
    Rules,
    SetActive,
    SetStatus,
    Stale,
    Standing,
    State,
    TakeOffline,
    decide,
    standing,
)

NOW = datetime(2026, 5, 25, 10, 0, tzinfo=UTC)
RULES = Rules(grace_s=15, long_grace_s=50, stale_s=60)
MITRA, SID, OTHER_SID = "m", "s", "t"
LOGIN = AuthSession(MITRA, "mitra", NOW + timedelta(hours=1), None)
OFFLINE = Row(
    MITRA,
    1,
    True,
    True,
    False,
    None,
    None,
    None,
    None,
    None,
    0,
    1,
    None,
    None,
    None,
    NOW - timedelta(days=1),
    "created",
    None,
)
ONLINE = replace(
    OFFLINE,
    is_online=True,
    connection_id="c1",
    instance_id="i1",
    sid=SID,
    claimed_at=None,
    online_since=NOW - timedelta(minutes=5),
    last_heartbeat_at=NOW - timedelta(seconds=5),
    reason="connected",
)
SUSPECT = replace(ONLINE, suspect_since=NOW - timedelta(seconds=3), instance_id=None, reason="lost")


def after(row: Row, event: Event, *, session: AuthSession | None = LOGIN, ago_s: float = 0) -> presence.Decision:
    return decide(row, event, session, Moment(NOW, NOW - timedelta(seconds=ago_s)), RULES)


def test_a_claim_owns_the_row_and_is_online() -> None:
    decision = after(OFFLINE, Claim("c2", "i2", SID))
    assert decision.outcome is Outcome.DONE
    assert decision.beat
    assert (decision.row.state, decision.row.connection_id, decision.row.instance_id) == (State.ONLINE, "c2", "i2")
    assert decision.row.last_heartbeat_at == NOW
    assert decision.row.reason == "connected"


def test_the_newest_claim_wins_and_keeps_the_time_online() -> None:
    row = after(ONLINE, Claim("c2", "i2", OTHER_SID)).row
    assert (row.connection_id, row.sid, row.online_since) == ("c2", OTHER_SID, ONLINE.online_since)


def test_a_claim_takes_a_suspect_back() -> None:
    row = after(SUSPECT, Claim("c2", "i2", SID)).row
    assert (row.state, row.reason) == (State.ONLINE, "back")


@pytest.mark.parametrize(("asked", "stored", "online"), [(None, True, True), (None, False, False), (True, False, True)])
def test_status_at_connect_is_a_command_and_its_absence_the_stored_intent(
    asked: bool | None, stored: bool, online: bool
) -> None:
    row = after(replace(OFFLINE, wants_online=stored), Claim("c2", "i2", SID, asked)).row
    assert (row.is_online, row.wants_online) == (online, online)


def test_a_claim_with_status_offline_switches_off() -> None:
    row = after(ONLINE, Claim("c2", "i2", SID, False)).row
    assert (row.state, row.wants_online, row.connection_id, row.reason) == (State.OFFLINE, False, "c2", "status")


def test_a_repeated_claim_changes_nothing() -> None:
    once = after(OFFLINE, Claim("c2", "i2", SID)).row
    assert after(once, Claim("c2", "i2", SID)).row == once


@pytest.mark.parametrize(
    "session",
    [
        None,
        replace(LOGIN, revoked_at=NOW),
        replace(LOGIN, expires_at=NOW),
        replace(LOGIN, subject_id="x"),
        replace(LOGIN, role="customer"),
    ],
)
def test_a_claim_needs_a_good_login(session: AuthSession | None) -> None:
    decision = after(OFFLINE, Claim("c2", "i2", SID), session=session)
    assert (decision.outcome, decision.row) == (Outcome.REVOKED, OFFLINE)


def test_deactivation_wins_over_revocation() -> None:
    inactive = replace(OFFLINE, is_active=False)
    assert after(inactive, Claim("c2", "i2", SID), session=None).outcome is Outcome.DEACTIVATED


def test_a_goodbye_is_offline_at_once_and_keeps_the_intent() -> None:
    row = after(ONLINE, Close("c1", True, "goodbye")).row
    assert (row.state, row.reason, row.wants_online, row.instance_id) == (State.OFFLINE, "goodbye", True, None)


def test_a_loss_is_suspect_from_when_it_happened_with_the_last_beat_as_last_sign() -> None:
    row = after(ONLINE, Close("c1", False, "lost", beat_age_s=4), ago_s=1).row
    assert (row.state, row.reason) == (State.SUSPECT, "lost")
    assert row.suspect_since == NOW - timedelta(seconds=1)
    assert row.last_heartbeat_at == NOW - timedelta(seconds=5)


def test_silence_is_suspect_since_the_last_beat_went_stale_not_since_it_was_noticed() -> None:
    row = after(replace(ONLINE, last_heartbeat_at=None), Close("c1", False, "silent", beat_age_s=63)).row
    assert row.suspect_since == NOW - timedelta(seconds=3)


def test_with_no_grace_the_close_itself_is_offline() -> None:
    rules = replace(RULES, grace_s=0)
    decision = decide(ONLINE, Close("c1", False, "lost"), None, Moment(NOW, NOW), rules)
    assert (decision.row.state, decision.row.reason) == (State.OFFLINE, "lost")


@pytest.mark.parametrize("close", [Close("c1", True, "goodbye"), Close("c1", False, "lost")])
def test_a_close_changes_only_a_row_that_it_still_owns(close: Close) -> None:
    row = replace(ONLINE, connection_id="c2")
    decision = after(row, close)
    assert (decision.outcome, decision.row) == (Outcome.NOT_OWNER, row)


def test_of_one_that_was_taken_for_gone_only_a_goodbye_counts() -> None:
    assert after(SUSPECT, Close("c1", False, "lost")).outcome is Outcome.NOT_OWNER
    assert after(SUSPECT, Close("c1", True, "goodbye")).row.state is State.OFFLINE


def test_a_claim_that_had_to_wait_gives_way_to_a_newer_owner() -> None:
    owned = replace(ONLINE, connection_id="c2", claimed_at=NOW - timedelta(seconds=3))
    claim = Claim("c3", "i1", SID)
    assert after(owned, claim, ago_s=10).outcome is Outcome.NOT_OWNER
    assert after(owned, claim, ago_s=3.5).outcome is Outcome.NOT_OWNER, "the same app may have tried twice in a second"
    assert after(owned, claim, ago_s=2.5).outcome is Outcome.DONE, "it came after the owner"
    at_once = replace(owned, claimed_at=NOW)
    assert after(at_once, claim, ago_s=0.5).outcome is Outcome.DONE, "neither had to wait: the last one written counts"
    assert after(replace(owned, instance_id=None), claim, ago_s=10).outcome is Outcome.DONE, "its socket is gone"


def test_a_close_keeps_a_suspicion_that_began_earlier() -> None:
    stale = replace(ONLINE, suspect_since=NOW - timedelta(seconds=9), reason="stale")
    row = after(stale, Close("c1", False, "lost")).row
    assert (row.suspect_since, row.reason, row.instance_id) == (stale.suspect_since, "stale", None)


@pytest.mark.parametrize(
    "row",
    [
        replace(SUSPECT, reason="instance_died"),
        replace(ONLINE, is_online=False, instance_id=None, reason="stale"),
        replace(ONLINE, suspect_since=NOW, reason="stale"),
    ],
)
def test_an_owner_taken_for_gone_takes_its_row_back(row: Row) -> None:
    decision = after(row, Reclaim("c1", "i1", SID))
    assert (decision.outcome, decision.row.state, decision.row.instance_id) == (Outcome.BACK, State.ONLINE, "i1")
    assert decision.row.reason == "back"


def test_a_reclaim_respects_owner_intent_activity_and_login() -> None:
    assert after(replace(SUSPECT, connection_id="c2"), Reclaim("c1", "i1", SID)).outcome is Outcome.NOT_OWNER
    assert after(replace(SUSPECT, is_active=False), Reclaim("c1", "i1", SID)).outcome is Outcome.DEACTIVATED
    assert after(SUSPECT, Reclaim("c1", "i1", SID), session=None).outcome is Outcome.REVOKED
    off = replace(ONLINE, is_online=False, wants_online=False)
    assert after(off, Reclaim("c1", "i1", SID)).row == off


def test_status_is_the_owners_and_is_stored() -> None:
    off = after(ONLINE, SetStatus("c1", False)).row
    assert (off.state, off.wants_online, off.reason, off.instance_id) == (State.OFFLINE, False, "status", "i1")
    assert after(off, SetStatus("c1", True)).row.state is State.ONLINE
    assert after(ONLINE, SetStatus("c2", False)).outcome is Outcome.NOT_OWNER


def test_http_owns_a_row_only_where_no_socket_does() -> None:
    assert after(OFFLINE, HttpOnline(SID)).row.connection_id == "http:s"
    held = after(replace(ONLINE, is_online=False, wants_online=False), HttpOnline(SID)).row
    assert (held.connection_id, held.state, held.reason) == ("c1", State.ONLINE, "http")
    assert after(SUSPECT, HttpOnline(SID)).row.connection_id == "http:s"


def test_an_http_beat_renews_its_own_row_and_takes_it_back_from_suspicion() -> None:
    own = replace(ONLINE, connection_id="http:s", instance_id=None)
    assert after(own, HttpBeat(SID)).row == replace(own, last_heartbeat_at=NOW)
    back = after(replace(own, suspect_since=NOW), HttpBeat(SID))
    assert (back.outcome, back.row.state) == (Outcome.BACK, State.ONLINE)
    assert after(ONLINE, HttpBeat(SID)).outcome is Outcome.NOT_OWNER
    assert after(replace(own, is_online=False), HttpBeat(SID)).outcome is Outcome.NOT_OWNER


def test_http_offline_can_be_fenced() -> None:
    assert after(ONLINE, HttpOffline(SID, "c0")).outcome is Outcome.NOT_OWNER
    assert after(ONLINE, HttpOffline(SID, "c1")).row.state is State.OFFLINE
    assert after(ONLINE, HttpOffline(SID)).row.wants_online is False


def test_deactivation_is_offline_and_records_who() -> None:
    row = after(ONLINE, SetActive(False, "boss")).row
    assert (row.is_active, row.state, row.reason, row.actor) == (False, State.OFFLINE, "deactivated", "boss")
    again = after(row, SetActive(True, "boss")).row
    assert (again.is_active, again.state) == (True, State.OFFLINE)


def test_an_operators_offline_switches_the_intent_off_or_the_next_beat_would_undo_it() -> None:
    row = after(ONLINE, TakeOffline("boss")).row
    assert (row.state, row.wants_online, row.reason) == (State.OFFLINE, False, "operator")


def test_a_revocation_concerns_only_its_own_login() -> None:
    assert after(ONLINE, Revoke(SID)).row.state is State.OFFLINE
    assert after(ONLINE, Revoke(OTHER_SID)).row == ONLINE


def test_stale_needs_both_witnesses_to_be_old() -> None:
    old = replace(ONLINE, last_heartbeat_at=NOW - timedelta(seconds=70))
    suspect = after(old, Stale(65)).row
    assert (suspect.state, suspect.reason) == (State.SUSPECT, "stale")
    assert suspect.suspect_since == NOW - timedelta(seconds=5)
    assert suspect.last_heartbeat_at == NOW - timedelta(seconds=65)
    assert after(ONLINE, Stale(65)).row == ONLINE
    assert after(old, Stale(59)).row == old


def test_what_is_from_before_the_clock_was_set_back_says_nothing_about_when() -> None:
    ahead = NOW + timedelta(hours=1)
    row = after(replace(ONLINE, claimed_at=ahead, last_heartbeat_at=ahead), Claim("c2", "i2", SID)).row
    assert (row.connection_id, row.claimed_at) == ("c2", NOW)
    late = after(replace(ONLINE, claimed_at=ahead), Claim("c2", "i2", SID), ago_s=CLAIM_LATE.total_seconds() + 1).row
    assert late.connection_id == "c2"
    silent = after(replace(ONLINE, last_heartbeat_at=ahead), Stale(70)).row
    assert (silent.state, silent.last_heartbeat_at) == (State.SUSPECT, NOW - timedelta(seconds=70))
    assert after(replace(ONLINE, last_heartbeat_at=ahead), Stale(50)).outcome is Outcome.UNCHANGED


def test_expiry_requires_the_version_it_judged_and_keeps_the_reason() -> None:
    row = after(SUSPECT, Expire(1)).row
    assert (row.state, row.reason, row.last_heartbeat_at) == (State.OFFLINE, "lost", SUSPECT.last_heartbeat_at)
    assert after(SUSPECT, Expire(0)).row == SUSPECT
    assert after(ONLINE, Expire(1)).row == ONLINE


def test_a_dead_instances_mitras_are_suspect_and_others_are_not() -> None:
    row = after(ONLINE, InstanceDied("i1")).row
    assert (row.state, row.reason, row.instance_id, row.connection_id) == (State.SUSPECT, "instance_died", None, "c1")
    assert after(ONLINE, InstanceDied("i2")).row == ONLINE


def test_a_burial_knows_of_later_beats_and_of_none_that_is_earlier() -> None:
    assert ONLINE.last_heartbeat_at is not None
    known_s = (NOW - ONLINE.last_heartbeat_at).total_seconds()
    later = after(ONLINE, InstanceDied("i1", known_s - 0.5)).row
    assert later.last_heartbeat_at == ONLINE.last_heartbeat_at + timedelta(seconds=0.5)
    for age_s in (known_s + 5, None):
        assert after(ONLINE, InstanceDied("i1", age_s)).row.last_heartbeat_at == ONLINE.last_heartbeat_at


def test_what_operators_do_is_on_record_by_its_name() -> None:
    acts = [presence.act_of(each) for each in (SetActive(True, "o"), SetActive(False, "o"), TakeOffline("o"))]
    assert acts == [presence.Act("o", action) for action in ("activate", "deactivate", "offline")]
    assert presence.act_of(Revoke(SID)) is None, "its line is written with the login"


@pytest.mark.parametrize(("due", "online", "held"), [(6, 20, False), (7, 20, True), (19, 19, False), (400, 1000, True)])
def test_expiry_is_held_when_suspiciously_many_are_due(due: int, online: int, held: bool) -> None:
    assert presence.expiry_is_held(due, online, 0.3) is held


def test_where_a_connection_stands() -> None:
    assert standing(ONLINE, "c1", SID) is Standing.OWNER
    assert standing(ONLINE, "c0", SID) is Standing.SUPERSEDED
    assert standing(ONLINE, "c0", OTHER_SID) is Standing.DISPLACED
    assert standing(SUSPECT, "c1", SID) is Standing.ASLEEP
    assert standing(replace(ONLINE, is_active=False), "c1", SID) is Standing.DEACTIVATED
    off = replace(ONLINE, is_online=False, wants_online=False)
    assert standing(off, "c1", SID) is Standing.OWNER

"""Presence as values: the row, what may happen to it, and what then becomes of it.

`decide` is the only place where a presence row changes in this program. It is called under the row's lock, so
what it compares (owner, version, activity) cannot change before its answer is committed. It reads no clock:
`now` is the store's, `occurred` is when the event happened on that same clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

HTTP_OWNER = "http:"
CLAIM_LATE = timedelta(seconds=1)
"""A claim that is written so late had to wait for Postgres; others count in the order in which they are written."""
CLOCK_SLACK = timedelta(seconds=1)
"""What is later than now by more was written before the store's clock was set back: it says nothing about when."""
LONG_GRACE_REASONS = frozenset({"instance_died", "drained"})
"""Their apps must first notice, or be taken in by fewer instances: see `Rules.grace_s`."""


class State(StrEnum):
    """What the world sees of a mitra; suspect still counts as online and is offered nothing."""

    ONLINE = "online"
    SUSPECT = "suspect"
    OFFLINE = "offline"


class Outcome(StrEnum):
    """What became of an event."""

    DONE = "done"
    UNCHANGED = "unchanged"
    BACK = "back"
    NOT_OWNER = "not_owner"
    UNKNOWN_SUBJECT = "unknown_subject"
    DEACTIVATED = "deactivated"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `mitra_presence`: all that is true of a mitra's presence."""

    mitra_id: str
    version: int
    is_active: bool
    wants_online: bool
    is_online: bool
    suspect_since: datetime | None
    connection_id: str | None
    """The last owner; it stays after the connection closed, so that only that connection can come back to it."""
    instance_id: str | None
    """Where the owner's socket is open; None once it closed, its instance died, or it never had one (HTTP)."""
    sid: str | None
    claimed_at: datetime | None
    """When the owner came, which may be long before its claim could be written."""
    open_sessions: int
    max_sessions: int
    last_session_at: datetime | None
    online_since: datetime | None
    last_heartbeat_at: datetime | None
    changed_at: datetime
    reason: str
    actor: str | None

    @property
    def state(self) -> State:
        if not self.is_online:
            return State.OFFLINE
        return State.ONLINE if self.suspect_since is None else State.SUSPECT

    @property
    def has_capacity(self) -> bool:
        return self.open_sessions < self.max_sessions

    @property
    def last_sign(self) -> datetime:
        """The last sign of life; a row that another program put online has none but that write."""
        return self.last_heartbeat_at or self.changed_at


@dataclass(frozen=True, slots=True)
class AuthSession:
    """The row of `auth_sessions` that a token's `sid` names."""

    subject_id: str
    role: str
    expires_at: datetime
    revoked_at: datetime | None

    def permits(self, subject_id: str, role: str, now: datetime) -> bool:
        return self.subject_id == subject_id and self.role == role and self.revoked_at is None and self.expires_at > now


@dataclass(frozen=True, slots=True)
class Rules:
    """The durations that decisions need, in seconds."""

    grace_s: float
    long_grace_s: float
    stale_s: float

    def grace(self, reason: str) -> timedelta:
        return timedelta(seconds=self.long_grace_s if reason in LONG_GRACE_REASONS else self.grace_s)


@dataclass(frozen=True, slots=True)
class Claim:
    """A new connection takes the row. `wants_online` None keeps the stored intent."""

    connection_id: str
    instance_id: str
    sid: str
    wants_online: bool | None = None
    after_outage: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """The socket of a connection is gone; `beat_age_s` is how long before that its last beat came."""

    connection_id: str
    offline: bool
    reason: str
    beat_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reclaim:
    """A beat came over a connection that the mirror does not hold as online and owning."""

    connection_id: str
    instance_id: str
    sid: str


@dataclass(frozen=True, slots=True)
class SetStatus:
    """The mitra's own toggle, over its socket."""

    connection_id: str
    online: bool


@dataclass(frozen=True, slots=True)
class HttpOnline:
    """The toggle over HTTP: owns the row as `http:<sid>` where no open socket does."""

    sid: str


@dataclass(frozen=True, slots=True)
class HttpOffline:
    """The toggle over HTTP; with `connection_id` only if that connection still owns the row."""

    sid: str
    connection_id: str | None = None


@dataclass(frozen=True, slots=True)
class HttpBeat:
    """A heartbeat over HTTP: renews, or takes back from suspicion, a row that HTTP owns."""

    sid: str


@dataclass(frozen=True, slots=True)
class SetActive:
    """An operator takes a mitra out of service, or back in."""

    active: bool
    actor: str


@dataclass(frozen=True, slots=True)
class TakeOffline:
    """An operator switches the mitra's toggle off."""

    actor: str


@dataclass(frozen=True, slots=True)
class Revoke:
    """The login `sid` is no longer valid (already committed in `auth_sessions`)."""

    sid: str


@dataclass(frozen=True, slots=True)
class Stale:
    """The mirror's last beat of this mitra is `beat_age_s` old."""

    beat_age_s: float


@dataclass(frozen=True, slots=True)
class Expire:
    """The grace of the suspicion seen at `version` is over."""

    version: int


@dataclass(frozen=True, slots=True)
class InstanceDied:
    """The instance that held the owner's socket is proven dead; the mirror's last beat is `beat_age_s` old.

    `beat_age_s` None: the mirror has none, or cannot be asked; then the row's own is the last that is known of.
    """

    instance_id: str
    beat_age_s: float | None = None


Event = (
    Claim
    | Close
    | Reclaim
    | SetStatus
    | HttpOnline
    | HttpOffline
    | HttpBeat
    | SetActive
    | TakeOffline
    | Revoke
    | Stale
    | Expire
    | InstanceDied
)


@dataclass(frozen=True, slots=True)
class Act:
    """What an operator does by an event, as the audit log has it."""

    actor: str
    action: str


def act_of(event: Event) -> Act | None:
    """None: nobody of the control centre asked for it."""
    match event:
        case SetActive(active, actor):
            return Act(actor, "activate" if active else "deactivate")
        case TakeOffline(actor):
            return Act(actor, "offline")
    return None


@dataclass(frozen=True, slots=True)
class Decision:
    """`row` is the row as it shall be (the same object: nothing to write); `beat`: it was a sign of life."""

    outcome: Outcome
    row: Row
    beat: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """When a decision is taken and when its cause happened, both on the store's clock."""

    now: datetime
    occurred: datetime

    def precedes(self, at: datetime) -> bool:
        """Whether this is before what was written earlier: the clock was set back meanwhile."""
        return at > self.now + CLOCK_SLACK


def decide(row: Row, event: Event, session: AuthSession | None, when: Moment, rules: Rules) -> Decision:
    """What `event` makes of `row`. Repeating an event that was already applied changes nothing more."""
    match event:
        case Claim():
            return _claim(row, event, session, when)
        case Close():
            return _close(row, event, when, rules)
        case Reclaim():
            return _reclaim(row, event, session, when)
        case SetStatus():
            return _set_status(row, event, when)
        case HttpOnline():
            return _http_online(row, event, session, when)
        case HttpOffline():
            return _http_offline(row, event, session, when)
        case HttpBeat():
            return _http_beat(row, event, session, when)
        case SetActive():
            return _set_active(row, event)
        case TakeOffline():
            changed = replace(_offline(row, "operator", event.actor), wants_online=False)
            return _changed_unless(not row.is_online and not row.wants_online, row, changed)
        case Revoke():
            mine = row.sid == event.sid and (row.is_online or row.instance_id is not None)
            return _changed_unless(not mine, row, replace(_offline(row, "revoked"), instance_id=None))
        case Stale():
            return _stale(row, event, when, rules)
        case Expire():
            due = row.state is State.SUSPECT and row.version == event.version
            return _changed_unless(not due, row, _offline(row, row.reason, row.actor))
        case InstanceDied():
            return _instance_died(row, event, when)


def expiry_is_held(due: int, online: int, max_fraction: float, *, floor: int = 20) -> bool:
    """R5: whether expiring `due` of `online` at once looks like our fault rather than theirs."""
    return online >= floor and due > online * max_fraction


def _changed_unless(same: bool, row: Row, changed: Row) -> Decision:
    return Decision(Outcome.UNCHANGED, row) if same else Decision(Outcome.DONE, changed)


def _refusal(row: Row, sid: str, session: AuthSession | None, now: datetime) -> Decision | None:
    """Deactivation wins over revocation: it is the truer reason, and revokes every session besides."""
    if not row.is_active:
        return Decision(Outcome.DEACTIVATED, row)
    if session is None or not session.permits(row.mitra_id, "mitra", now):
        return Decision(Outcome.REVOKED, row)
    return None


def _offline(row: Row, reason: str, actor: str | None = None) -> Row:
    return replace(row, is_online=False, suspect_since=None, online_since=None, reason=reason, actor=actor)


def _online(row: Row, reason: str, when: Moment) -> Row:
    return replace(
        row,
        is_online=True,
        suspect_since=None,
        online_since=row.online_since if row.is_online and row.online_since else when.now,
        last_heartbeat_at=_later(row.last_heartbeat_at, when.occurred),
        reason=reason,
        actor=None,
    )


def _later(a: datetime | None, b: datetime) -> datetime:
    return b if a is None or b > a else a


def _claim(row: Row, event: Claim, session: AuthSession | None, when: Moment) -> Decision:
    if refused := _refusal(row, event.sid, session, when.now):
        return refused
    if row.connection_id == event.connection_id and row.instance_id == event.instance_id:
        return Decision(Outcome.DONE, row, beat=row.is_online)
    if row.instance_id is not None and row.claimed_at is not None and _had_to_wait(when, row.claimed_at):
        return Decision(Outcome.NOT_OWNER, row)  # and a newer one did not
    wants = row.wants_online if event.wants_online is None else event.wants_online
    owned = replace(
        row,
        wants_online=wants,
        connection_id=event.connection_id,
        instance_id=event.instance_id,
        sid=event.sid,
        claimed_at=when.occurred,
        last_heartbeat_at=_later(row.last_heartbeat_at, when.occurred),
        actor=None,
    )
    if not wants:
        return Decision(Outcome.DONE, _offline(owned, "status") if row.is_online else owned)
    came_back = row.state is State.SUSPECT
    reason = "postgres_outage" if event.after_outage else "back" if came_back else "connected"
    return Decision(Outcome.DONE, _online(owned, reason, when), beat=True)


def _had_to_wait(when: Moment, claimed_at: datetime) -> bool:
    """Whether a claim is written late, and came before the owner's."""
    late = when.now - when.occurred > CLAIM_LATE
    return late and when.occurred < claimed_at and not when.precedes(claimed_at)


def _close(row: Row, event: Close, when: Moment, rules: Rules) -> Decision:
    if row.connection_id != event.connection_id:
        return Decision(Outcome.NOT_OWNER, row)
    if row.instance_id is None and not event.offline:  # taken for gone already; a goodbye is one all the same
        return Decision(Outcome.NOT_OWNER, row)
    last_beat = when.occurred - timedelta(seconds=event.beat_age_s)
    gone = replace(row, instance_id=None, last_heartbeat_at=_later(row.last_heartbeat_at, last_beat))
    if not row.is_online:
        return Decision(Outcome.DONE, gone)
    if event.offline or rules.grace(event.reason) <= timedelta():
        return Decision(Outcome.DONE, _offline(gone, event.reason))
    if row.suspect_since is not None:
        return Decision(Outcome.DONE, gone)
    silent = event.reason == "silent"
    since = min(when.occurred, last_beat + timedelta(seconds=rules.stale_s)) if silent else when.occurred
    return Decision(Outcome.DONE, replace(gone, suspect_since=since, reason=event.reason, actor=None))


def _reclaim(row: Row, event: Reclaim, session: AuthSession | None, when: Moment) -> Decision:
    if not row.is_active:
        return Decision(Outcome.DEACTIVATED, row)
    if row.connection_id != event.connection_id:
        return Decision(Outcome.NOT_OWNER, row)
    if refused := _refusal(row, event.sid, session, when.now):
        return refused
    held = row.instance_id == event.instance_id
    if not row.wants_online or row.state is State.ONLINE:
        changed = replace(row, instance_id=event.instance_id)
        return Decision(Outcome.UNCHANGED if held else Outcome.DONE, row if held else changed)
    back = _online(replace(row, instance_id=event.instance_id), "back", when)
    return Decision(Outcome.BACK, back, beat=True)


def _set_status(row: Row, event: SetStatus, when: Moment) -> Decision:
    if not row.is_active:
        return Decision(Outcome.DEACTIVATED, row)
    if row.connection_id != event.connection_id or row.instance_id is None:
        return Decision(Outcome.NOT_OWNER, row)
    return _toggle(row, event.online, "status", when)


def _toggle(row: Row, online: bool, reason: str, when: Moment) -> Decision:
    if row.wants_online == online and row.state is (State.ONLINE if online else State.OFFLINE):
        return Decision(Outcome.UNCHANGED, row)
    if online:
        return Decision(Outcome.DONE, _online(replace(row, wants_online=True), reason, when), beat=True)
    return Decision(Outcome.DONE, replace(_offline(row, reason), wants_online=False))


def _http_online(row: Row, event: HttpOnline, session: AuthSession | None, when: Moment) -> Decision:
    if refused := _refusal(row, event.sid, session, when.now):
        return refused
    if row.instance_id is not None:
        if row.state is State.SUSPECT:
            return _changed_unless(row.wants_online, row, replace(row, wants_online=True))
        return _toggle(row, True, "http", when)
    owned = replace(row, connection_id=HTTP_OWNER + event.sid, sid=event.sid, wants_online=True)
    if owned == row and row.state is State.ONLINE:
        return _renew(row, when)
    reason = "back" if row.state is State.SUSPECT else "http"
    return Decision(Outcome.DONE, _online(owned, reason, when), beat=True)


def _http_offline(row: Row, event: HttpOffline, session: AuthSession | None, when: Moment) -> Decision:
    if refused := _refusal(row, event.sid, session, when.now):
        return refused
    if event.connection_id is not None and row.connection_id != event.connection_id:
        return Decision(Outcome.NOT_OWNER, row)
    return _toggle(row, False, "http", when)


def _http_beat(row: Row, event: HttpBeat, session: AuthSession | None, when: Moment) -> Decision:
    if refused := _refusal(row, event.sid, session, when.now):
        return refused
    if row.instance_id is not None or row.connection_id != HTTP_OWNER + event.sid or not row.is_online:
        return Decision(Outcome.NOT_OWNER, row)
    if row.state is State.SUSPECT:
        return Decision(Outcome.BACK, _online(row, "back", when), beat=True)
    return _renew(row, when)


def _renew(row: Row, when: Moment) -> Decision:
    beaten = replace(row, last_heartbeat_at=_later(row.last_heartbeat_at, when.occurred))
    return Decision(Outcome.UNCHANGED, beaten, beat=True)


def _set_active(row: Row, event: SetActive) -> Decision:
    if row.is_active == event.active:
        return Decision(Outcome.UNCHANGED, row)
    if event.active:
        return Decision(Outcome.DONE, replace(row, is_active=True, reason="operator", actor=event.actor))
    return Decision(Outcome.DONE, replace(_offline(row, "deactivated", event.actor), is_active=False))


def _stale(row: Row, event: Stale, when: Moment, rules: Rules) -> Decision:
    """Both witnesses must be old: the mirror's beat (the event) and the row's own."""
    last_beat = when.occurred - timedelta(seconds=event.beat_age_s)
    if not when.precedes(row.last_sign):
        last_beat = max(row.last_sign, last_beat)
    since = last_beat + timedelta(seconds=rules.stale_s)
    if row.state is not State.ONLINE or since > when.now:
        return Decision(Outcome.UNCHANGED, row)
    suspect = replace(row, last_heartbeat_at=last_beat, suspect_since=since, reason="stale", actor=None)
    return Decision(Outcome.DONE, suspect)


def _instance_died(row: Row, event: InstanceDied, when: Moment) -> Decision:
    if row.instance_id != event.instance_id:
        return Decision(Outcome.UNCHANGED, row)
    heard_at = row.last_heartbeat_at
    if event.beat_age_s is not None:  # Postgres hears of beats late, and the dead instance tells nobody any more
        heard_at = _later(heard_at, when.occurred - timedelta(seconds=event.beat_age_s))
    orphan = replace(row, instance_id=None, last_heartbeat_at=heard_at)
    if row.state is not State.ONLINE:
        return Decision(Outcome.DONE, orphan)
    return Decision(Outcome.DONE, replace(orphan, suspect_since=when.occurred, reason="instance_died", actor=None))


class Standing(StrEnum):
    """What a row newer than a connection's own says about that connection."""

    OWNER = "owner"
    ASLEEP = "asleep"
    """Still the owner, but taken for gone: it must come back."""
    SUPERSEDED = "superseded"
    DISPLACED = "displaced"
    DEACTIVATED = "deactivated"


def standing(row: Row, connection_id: str, sid: str) -> Standing:
    """Where an open connection stands by the row; another connection of the same login supersedes it."""
    if not row.is_active:
        return Standing.DEACTIVATED
    if row.connection_id != connection_id:
        return Standing.SUPERSEDED if row.sid == sid else Standing.DISPLACED
    if row.instance_id is None or (row.wants_online and row.state is not State.ONLINE):
        return Standing.ASLEEP
    return Standing.OWNER

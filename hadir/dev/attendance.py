"""When mitras were there, by the record of their own apps: what the report of online time is held against.

It knows nothing of rows, logs or states: only when connections opened, when a beat that was answered was last sent, and
how they ended. Values: time is an argument, in seconds since the epoch.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from hadir.client import Ended, Event, Opened

GOODBYE = 1000
Interval = tuple[float, float]


@dataclass
class _Presence:
    """Of one mitra. `began` None: it is not there; `silent_since`: it is lost, and may come back."""

    open: set[str] = field(default_factory=set)
    wants: bool = True
    began: float | None = None
    silent_since: float | None = None
    over: list[Interval] = field(default_factory=list)


class Attendance:
    """An absence after a loss that lasts `patience_s` or longer was one; after a shorter one nobody was away."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._mitras: dict[str, _Presence] = defaultdict(_Presence)
        self.absences_s: list[float] = []
        """How long each absence after a loss was, long or short, of those who came again."""

    def hear(self, mitra_id: str, event: Event, now: float) -> None:
        """What a mitra's app says it did."""
        mitra = self._mitras[mitra_id]
        match event:
            case Opened(connection_id):
                mitra.open.add(connection_id)
                if mitra.wants:
                    self._came(mitra, now)
            case Ended(connection_id, code, by):
                mitra.open.discard(connection_id)
                if mitra.open or mitra.began is None:
                    return  # another connection has taken over, or it was not there anyway
                if code == GOODBYE and by == "client":
                    self._left(mitra, now)
                else:
                    mitra.silent_since = now - event.beat_age_s

    def switched(self, mitra_id: str, online: bool, now: float) -> None:
        """A mitra's toggle: the server has acknowledged it. Who is lost may use it, too: it was there until then."""
        mitra = self._mitras[mitra_id]
        mitra.wants = online
        if online and mitra.open:
            self._came(mitra, now)
        elif not online and mitra.began is not None:
            self._left(mitra, now if self._is_patient(mitra, now) else mitra.silent_since)

    def intervals(self, mitra_id: str, now: float) -> list[Interval]:
        """When it was there; of one who is lost until its last beat that was answered."""
        mitra = self._mitras[mitra_id]
        if mitra.began is None:
            return mitra.over
        return [*mitra.over, (mitra.began, now if mitra.silent_since is None else mitra.silent_since)]

    def days(self, mitra_id: str, zone: ZoneInfo, now: float, moved_s: float = 0.0) -> dict[date, tuple[float, int]]:
        """(seconds, intervals) on each day of a time zone, as if all of it had been `moved_s` later."""
        found: dict[date, tuple[float, int]] = {}
        for began, ended in self.intervals(mitra_id, now):
            start, end = began + moved_s, ended + moved_s
            while start < end:
                day = datetime.fromtimestamp(start, zone).date()
                midnight = datetime.combine(day + timedelta(days=1), datetime.min.time(), zone).timestamp()
                seconds, number = found.get(day, (0.0, 0))
                found[day] = seconds + min(end, midnight) - start, number + 1
                start = midnight
        return found

    def _came(self, mitra: _Presence, now: float) -> None:
        if mitra.silent_since is not None and mitra.began is not None:
            self.absences_s.append(now - mitra.silent_since)
            if not self._is_patient(mitra, now):
                self._left(mitra, mitra.silent_since)
        mitra.silent_since = None
        if mitra.began is None:
            mitra.began = now

    def _is_patient(self, mitra: _Presence, now: float) -> bool:
        """Whether nobody holds it for gone yet."""
        return mitra.silent_since is None or now - mitra.silent_since < self._patience_s

    def _left(self, mitra: _Presence, at: float | None) -> None:
        assert mitra.began is not None
        assert at is not None
        mitra.over.append((mitra.began, at))
        mitra.began = mitra.silent_since = None

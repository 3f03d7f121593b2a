"""What a simulation has seen, counted: connections' ends, refusals, answers, latencies, rules broken."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from datetime import datetime

from hadir.client import Beacon, Ended, Event, Failed, Opened, Replied
from hadir.dev.rules import Wrong

BREACHES_MAX = 1000
LATENCIES_MAX = 10_000
QUANTILES = (50, 95, 99)
OPENING, BEACON = "connect to hello", "beacon answer"
REPLIES = {"ping": "beat to pong", "status": "status to ack"}
NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that the server broke: what was seen, and what should have been."""

    at: datetime
    wrong: Wrong

    def __str__(self) -> str:
        return f"RULE BROKEN at {self.at:%H:%M:%S}: {self.wrong.found}, expected {self.wrong.expected}"


class Latency:
    """Seconds of one kind: quantiles of the last ten thousand, the maximum of all."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=LATENCIES_MAX)
        self._max = 0.0

    def add(self, took_s: float) -> None:
        self._last.append(took_s)
        self._max = max(self._max, took_s)

    def __str__(self) -> str:
        ordered = sorted(self._last)
        parts = [f"p{each} {ordered[len(ordered) * each // 100] * 1000:.1f}" for each in QUANTILES]
        return ", ".join([*parts, f"max {self._max * 1000:.1f} ms"])


class Tally:
    """Counts, from the start of the simulation on."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        """Of the beacon: by its state, `503` and the like, or `no answer`."""
        self.endings: Counter[tuple[int, str]] = Counter()
        """By close code and what the client made of it."""
        self.refusals: Counter[str] = Counter()
        """By HTTP status and problem code, or close code, or `no answer`."""
        self.latencies: defaultdict[str, Latency] = defaultdict(Latency)
        self.breaches: list[Breach] = []
        self.last: Beacon | None = None
        self._known: set[str] = set()

    @property
    def answered(self) -> int:
        """How often the beacon answered, whatever it was."""
        return self.answers.total() - self.answers[NO_ANSWER]

    def heard(self, event: Event) -> None:
        """An app did or met with something."""
        match event:
            case Opened():
                self.latencies[OPENING].add(event.took_s)
            case Replied():
                if event.kind in REPLIES:
                    self.latencies[REPLIES[event.kind]].add(event.took_s)
            case Ended():
                self.endings[event.code, event.verdict.value] += 1
            case Failed():
                self.refusals[_refusal(event)] += 1

    def take_down(self, wrong: Wrong, key: str) -> None:
        """One breach a `key`: the same one, seen by every customer, is no other."""
        if key not in self._known and len(self.breaches) < BREACHES_MAX:
            self._known.add(key)
            self.breaches.append(Breach(datetime.now(), wrong))


def _refusal(event: Failed) -> str:
    if event.status is not None:
        return f"{event.status} {event.problem}" if event.problem else str(event.status)
    return NO_ANSWER if event.close_code is None else f"closed with {event.close_code}"

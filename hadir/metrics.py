"""Every metric, named once: base units, bounded labels, no ids."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.registry import Collector

from hadir import __version__

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)
FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20000)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"hadir_{name}", text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"hadir_{name}", text, labels, registry=REGISTRY)


def _seconds(name: str, text: str, *labels: str, buckets: tuple[float, ...] = FAST) -> Histogram:
    return Histogram(f"hadir_{name}_seconds", text, labels, registry=REGISTRY, buckets=buckets)


def _sizes(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(f"hadir_{name}", text, labels, registry=REGISTRY, buckets=SIZES)


class Tally:
    """Where a counter is added up that counts tens of thousands a second: `more += 1` costs a tenth of its `inc`."""

    __slots__ = ("_counter", "_settled", "more")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._settled = 0
        self.more = 0
        _tallies.append(self)

    @property
    def total(self) -> int:
        return self._settled + self.more

    def settle(self) -> None:
        more, self.more = self.more, 0
        self._settled += more
        self._counter.inc(more)


_tallies: list[Tally] = []


class _Settling(Collector):
    """Registered before every counter: whoever asks for metrics reads the tallies first."""

    def collect(self) -> Iterable[Metric]:
        for tally in _tallies:
            tally.settle()
        return ()


REGISTRY.register(_Settling())

BUILD_INFO = _gauge("build_info", "1; which version runs.", "version")
READY = _gauge("ready", "1 while this instance takes new traffic.")
ERRORS = _counter("errors", "Defects: errors that nothing in the code foresees.", "where")

CONNECTIONS = _gauge("connections", "Open sockets.", "role")
MAX_CONNECTIONS = _gauge("max_connections", "Sockets that this instance may hold.")
PENDING_CONNECTIONS = _gauge("pending_connections", "Sockets that wait for Postgres to be claimed.")
SOCKET_OPENS = _counter("socket_opens", "Sockets opened.", "role")
SOCKET_CLOSES = _counter("socket_closes", "Sockets ended, by the first close code.", "role", "code")
HANDSHAKES_REFUSED = _counter("handshakes_refused", "Handshakes refused.", "reason")
BEATS = _counter("beats", "Beats received.", "kind")
SOCKET_BEATS = {kind: Tally(BEATS.labels(kind)) for kind in ("text", "control")}
PROTOCOL_ERRORS = _counter("protocol_errors", "Error messages sent to clients.", "code")
BEAT_FLUSH_SECONDS = _seconds("beat_flush", "Time to record a batch of beats.")
BEAT_FLUSH_IDS = _sizes("beat_flush_ids", "Beats in a batch.")
RECLAIMS = _counter("reclaims", "Connections that took their row back after being taken for gone.", "outcome")

TRANSITIONS = _counter("transitions", "Presence events decided.", "event", "outcome")
BATCH_ITEMS = _sizes("batch_items", "Items in a batch.", "batcher")
BATCH_SECONDS = _seconds("batch", "Time to settle a batch.", "batcher")
BATCH_WAITING = _gauge("batch_waiting", "Items that wait or are in flight.", "batcher")
BATCH_RETRIES = _counter("batch_retries", "Batches repeated.", "batcher")

APPLY_LAG_SECONDS = _seconds("apply_lag", "From a commit to its mirror write.")
APPLY_FAILURES = _counter("apply_failures", "Mirror writes that failed and are made up for later.")
MIRROR_WARM = _gauge("mirror_warm", "1 while the mirror is seeded and every live instance has re-beaten.")
MIRROR_SEEDS = _counter("mirror_seeds", "Seeds of the mirror.", "why")
MIRROR_SEED_SECONDS = _seconds("mirror_seed", "Time of a seed.", buckets=SLOW)
MIRROR_BACKWARDS = _counter("mirror_backwards", "Times that Postgres was found older than the mirror.")
MIRROR_DRIFT_ROWS = _counter("mirror_drift_rows", "Rows whose mirror was wrong at the same version.")
VALKEY_CIRCUIT_OPEN = _gauge("valkey_circuit_open", "1 while Valkey counts as unreachable.")
POSTGRES_CONNECTIONS = _gauge("postgres_connections", "Connections of the pool.", "use")
POSTGRES_AVAILABLE = _gauge("postgres_available", "1 while Postgres answers.")

BUS_UP = _gauge("bus_up", "1 while this instance hears its own canary.")
BUS_CANARY_SECONDS = _seconds("bus_canary", "From publishing the canary to hearing it.")
BUS_EVENTS = _counter("bus_events", "Events published and heard.", "type", "direction")
FEED_SECONDS = _seconds("feed", "Time of one reading of what changed.")

MITRAS = _gauge("mitras", "Mitras of the whole fleet by state; NaN where neither store can tell.", "state")
LEADER = _gauge("leader", "1 on the instance that runs the sweeps.")
SWEEP_DONE_TIMESTAMP_SECONDS = _gauge(
    "sweep_done_timestamp_seconds",
    "When the leader last did a sweep; before the first, when it began to owe it.",
    "sweep",
)
EXPIRIES = _counter("expiries", "Graces that ended.", "reason")
EXPIRY_HELD = _gauge("expiry_held", "Graces that are over and held back.")
EXPIRY_HOLD_ACTIVE = _gauge("expiry_hold_active", "1 while expiry is held.")
STALE = _counter("stale", "Mitras found stale by the sweep.")
INSTANCES_JUDGED_DEAD = _counter("instances_judged_dead", "Instances proven dead by this one.")

PAIRINGS = _counter("pairings", "Pairings decided.", "outcome")
OFFERS = _counter("offers", "Offers made.")
ACCEPTS = _counter("accepts", "Offers that mitras accepted, by what it came to.", "result")
PAIRING_FIRST_OFFER_SECONDS = _seconds("pairing_first_offer", "From asking for a pairing to its first offers.")
PAIRING_ACCEPT_SECONDS = _seconds("pairing_accept", "From asking for a pairing to its winner.", buckets=SLOW)
SESSIONS = _counter("sessions", "Sessions that came to their end.", "status")
CHAT_MESSAGES = _counter("chat_messages", "Messages stored.")
PAYMENTS = _counter("payments", "Events of payments dealt with, by the payment's state then.", "state")
WEBHOOKS = _counter("webhooks", "Events of the payment provider: stored, and what became of them.", "outcome")
WEBHOOK_WAITING_SECONDS = _gauge("webhook_waiting_seconds", "How long the oldest event of the provider has waited.")
TIMER_LATE_SECONDS = _seconds("timer_late", "From when a timer was due to when it was done.", "timer")

BEACON_ANSWERS = _counter("beacon_answers", "Beacon answers.", "state")
BEACON_ANSWERED = {state: Tally(BEACON_ANSWERS.labels(state)) for state in ("live", "rebuilding", "stale")}
BEACON_QUERIES = _counter("beacon_queries", "Counts made for the beacon.", "source")
LOOP_LAG_SECONDS = _seconds("loop_lag", "Delay of a timer of the event loop.")
TASKS = _gauge("tasks", "Tasks of the event loop.")
ALLOCATED_BLOCKS = _gauge("allocated_blocks", "Blocks of memory that Python holds.")

BUILD_INFO.labels(__version__).set(1)


def _begin(counter: Counter, *values: str) -> None:
    """Exports a counter from the beginning: one that is first seen at 1 has not increased, for Prometheus."""
    for value in values:
        counter.labels(value)


_begin(ERRORS, "batch", "command", "loop", "request", "task")
_begin(MIRROR_SEEDS, "cold", "periodic")
_begin(BEACON_ANSWERS, "unavailable")
_begin(PAIRINGS, "accepted", "expired", "cancelled")
_begin(PAYMENTS, "paid", "expired", "refund_due", "unmatched")
_begin(WEBHOOKS, "stored", "recorded", "ignored", "failed")

"""Metrics: their names follow the conventions, and their series do not grow with the fleet."""

from __future__ import annotations

import re

from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from hadir import metrics

OURS = {name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)}
LABELS = {
    "batcher",
    "code",
    "direction",
    "event",
    "kind",
    "outcome",
    "reason",
    "result",
    "role",
    "route",
    "source",
    "state",
    "status",
    "timer",
    "type",
    "use",
    "why",
}


def test_a_constant_is_called_like_its_metric() -> None:
    for constant, metric in OURS.items():
        (family,) = metric.describe()
        assert family.name == f"hadir_{constant.lower()}"
        assert re.fullmatch(r"[A-Z1].*\.", family.documentation)


def test_labels_come_from_small_fixed_sets() -> None:
    used = {label for metric in OURS.values() for label in metric._labelnames}
    assert used <= LABELS


def test_every_metric_is_exported_in_our_own_registry_with_the_process() -> None:
    text = generate_latest(metrics.REGISTRY).decode()
    for metric in OURS.values():
        (family,) = metric.describe()
        assert f"# TYPE {family.name}" in text
    assert "process_resident_memory_bytes" in text


def test_what_is_tallied_counts_whenever_metrics_are_asked_for() -> None:
    def beats() -> float:
        found = metrics.REGISTRY.get_sample_value("hadir_beats_total", {"kind": "control"})
        assert found is not None
        return found

    before = beats()
    metrics.SOCKET_BEATS["control"].more += 3
    assert beats() == before + 3
    assert beats() == before + 3, "once"

"""Metrics: their names follow the conventions, and their series do not grow with the fleet."""

from __future__ import annotations

import asyncio
import re

from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from hadir import metrics
from hadir.dev.embedded import EmbeddedValkey
from hadir.http.server import met_a_defect
from tests.support import eventually
from tests.support.system import System

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
    "sweep",
    "timer",
    "type",
    "use",
    "version",
    "where",
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


async def test_defects_are_counted_where_they_are_met(database: str, valkey: EmbeddedValkey) -> None:
    def counted() -> dict[str, float]:
        names = ("batch", "command", "loop", "request", "task")
        return {name: metrics.REGISTRY.get_sample_value("hadir_errors_total", {"where": name}) or 0 for name in names}

    async with System(database, valkey.url) as system:
        served = await system.instance()
        operator, mitra = await system.account("operator"), await system.account()
        phone = await system.phone(served, mitra)
        before = counted()
        for what in ("TABLE app_config", "FUNCTION pairing_accept", "TABLE presence_log"):  # as a bad migration would
            await system.sql.execute(f"ALTER {what} RENAME TO elsewhere_{what[-6:]}")
        url = f"{served.inner_url}/api/internal/mitras/{mitra.id}/history"
        assert (await system.http.get(url, headers=operator.bearer)).status_code == 500
        answer = await phone.ask(type="offer.accept", pairing_id=mitra.id)
        assert (answer["type"], answer["code"]) == ("error", "internal")
        await phone.send(type="status", online=False)
        met_a_defect(asyncio.get_running_loop(), {"message": "nobody waits for this"})
        await eventually(lambda: all(counted()[name] > before[name] for name in before))


async def test_waves_say_how_late_they_are(database: str, valkey: EmbeddedValkey) -> None:
    def counted() -> float:
        found = metrics.REGISTRY.get_sample_value("hadir_timer_late_seconds_count", {"timer": "wave"})
        return found or 0

    async with System(database, valkey.url) as system:
        served, before = await system.instance(), counted()
        await system.phone(served, await system.account())
        await system.available(served, 1)
        await system.pair(served, await system.account("customer"))
        await eventually(lambda: counted() == before + 1)

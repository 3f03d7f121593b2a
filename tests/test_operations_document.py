"""docs/operations.md against the code: every variable, metric, log event, close code and config key, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from hadir import metrics
from hadir.config import SETTINGS
from hadir.realtime.appconfig import KEYS
from hadir.realtime.messages import CloseCode

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/operations.md").read_text()
LEVELS = {"exception": "error"}


def table(title: str) -> dict[str, list[str]]:
    """The rows of a section's table by their first cell, without its code marks."""
    section = DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_environment() -> None:
    documented = {name: (cells[0].strip("`"), cells[1]) for name, cells in table("Environment").items()}
    assert documented == {setting.name: (setting.default, setting.about) for setting in SETTINGS}


def test_the_config_keys() -> None:
    rows = table("Configuration while it runs")
    assert {name: cells[0].strip("`") for name, cells in rows.items()} == {
        key.name: json.dumps(key.default) for key in KEYS.values()
    }
    for name, cells in rows.items():
        assert cells[1].startswith(KEYS[name].expected)


def test_the_close_codes() -> None:
    assert {int(code): cells[0] for code, cells in table("Close codes").items()} == {
        int(code): code.text for code in CloseCode
    }
    listed = set(map(int, re.findall(r"\b(?:1\d{3}|4\d{3})\b", (ROOT / "docs/protocol.md").read_text())))
    assert {int(code) for code in CloseCode} - {1001} <= listed


def test_the_metrics() -> None:
    ours = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            ours[name] = [", ".join(metric._labelnames), family.documentation]
    assert table("Metrics") == ours
    named = set(re.findall(r"`(hadir_[a-z_]+)", DOCUMENT))
    assert named <= set(ours)


def test_the_log_events() -> None:
    said: dict[str, set[str]] = {}
    for module in (ROOT / "hadir").rglob("*.py"):
        for level, event in re.findall(r"\blog\.(\w+)\(\s*\"([a-z_]+\.[a-z_]+)\"", module.read_text()):
            said.setdefault(event, set()).add(LEVELS.get(level, level))
    documented = {event: cells[0] for event, cells in table("Log events").items()}
    assert documented.keys() == said.keys()
    assert all(level in said[event] for event, level in documented.items())

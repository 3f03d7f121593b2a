"""Alerts and the dashboard against the code: what they name exists, each alert fires, and each has its runbook."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from hadir import metrics
from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.system import Served, System
from tests.test_operations_document import DOCUMENT, ROOT, table

FOLDER = ROOT / "deploy/prometheus"
RULES_FILE, CONFIG_FILE = FOLDER / "hadir.rules.yml", FOLDER / "prometheus.yml"
TESTS_FILES = sorted(FOLDER.glob("*.tests.yml"))
RULES = [rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
BOARD = json.loads((ROOT / "deploy/grafana/hadir.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
SCRAPED = {"job", "instance", "le"}
"""Labels that Prometheus and histograms add to ours."""
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
SOURCE = "\n".join(path.read_text() for path in (ROOT / "hadir").rglob("*.py"))
PARTS = ("- **Users see**: ", "- **Look at**: ", "- **Do**: ", "- **Over when**: ")
WHEN = {None: "at once", "1m": "after a minute", "1h": "after an hour"}


def promtool() -> str | None:
    beside = Path(sys.prefix) / "promtool/promtool"
    return shutil.which("promtool") or (str(beside) if beside.exists() else None)


needs_promtool = pytest.mark.skipif(
    promtool() is None, reason="there is no promtool: on Debian `make promtool` brings it"
)


def check(*arguments: str | Path) -> None:
    tool = promtool()
    assert tool is not None
    ended = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, cwd=FOLDER)
    assert ended.returncode == 0, ended.stdout + ended.stderr


# what promtool says


@needs_promtool
def test_rules_and_configuration_are_right() -> None:
    check("check", "rules", RULES_FILE)
    check("check", "config", CONFIG_FILE)


@needs_promtool
def test_each_alert_fires_and_stays_quiet_as_its_tests_say() -> None:
    check("test", "rules", *TESTS_FILES)


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    documents = [yaml.safe_load(path.read_text()) for path in TESTS_FILES]
    assert all(document["rule_files"] == [RULES_FILE.name] for document in documents)
    cases = [case for document in documents for test in document["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


@needs_promtool
async def test_a_real_scrape_raises_what_is_wrong_and_nothing_else(
    database: str, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with System(database, valkey.url) as system:
        served = (await system.process(MITRA_HEARTBEAT_STALE_SECONDS="40")).served
        well = await scraped(system, served, "hadir_leader 1.0", "hadir_mirror_warm 1.0", "hadir_bus_up 1.0")
        raises(tmp_path, well, ())
        phones = [await system.phone(served, mitra) for mitra in await system.accounts(30)]
        await system.lose_at_once(phones[:12])
        await scraped(system, served, "hadir_expiry_held 12.0")
        valkey.freeze()
        away = await scraped(system, served, "hadir_expiry_hold_active 1.0", "hadir_valkey_circuit_open 1.0")
        raises(tmp_path, away, ("HadirExpiryHeld", "HadirValkeyAway"))


async def scraped(system: System, served: Served, *lines: str) -> str:
    """What an instance exports once it says all of these."""

    async def said() -> str:
        text = (await system.http.get(f"{served.inner_url}/metrics")).text
        missing = [line for line in lines if f"\n{line}\n" not in text]
        assert not missing
        return text

    found: str = await eventually(said, 15)
    return found


def raises(folder: Path, text: str, expected: Iterable[str]) -> None:
    """Whether exactly these alerts fire where an instance exports this for a quarter of an hour."""
    series = [{"series": f'up{{job="hadir",instance="{folder.name}"}}', "values": "1+0x20"}]
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {**sample.labels, "job": "hadir", "instance": folder.name}
            inner = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
            if math.isfinite(sample.value):
                series.append({"series": f"{sample.name}{{{inner}}}", "values": f"{sample.value:.9f}+0x20"})
    cases = []
    for name, rule in ALERTS.items():
        fires = [{"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}] if name in expected else []
        cases.append({"alertname": name, "eval_time": "15m", "exp_alerts": fires})
    test = {"interval": "1m", "input_series": series, "alert_rule_test": cases}
    document = {"rule_files": [str(RULES_FILE)], "evaluation_interval": "1m", "tests": [test]}
    (folder / "scraped.yml").write_text(yaml.safe_dump(document))
    check("test", "rules", folder / "scraped.yml")


# names


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of rules and dashboard, and where it stands."""
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def named(expression: str) -> set[str]:
    """The metrics of an expression."""
    bare = re.sub(r"\{[^}]*\}", "", expression)
    return set(re.findall(r"\b(?:hadir[_:]|process_)[a-z0-9_:]+|\bup\b", bare))


def labels_of(metric: str) -> set[str]:
    """The labels that a series of this name has."""
    if metric in RECORDED:
        (rule,) = (each for each in RULES if each.get("record") == metric)
        return {label.strip() for label in re.findall(r"by \(([^)]*)\)", rule["expr"])[0].split(",")}
    ours = {}
    for each in vars(metrics).values():
        if isinstance(each, MetricWrapperBase):
            (family,) = each.describe()
            for suffix in SUFFIXES.get(family.type, ("",)):
                ours[family.name + suffix] = set(each._labelnames)
    return ours.get(metric, set()) | SCRAPED


async def test_a_running_instance_exports_what_rules_and_panels_name(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        text = (await system.http.get(f"{(await system.instance()).inner_url}/metrics")).text
    exported = RECORDED | {"up"}
    for family in text_string_to_metric_families(text):
        exported |= {family.name + suffix for suffix in SUFFIXES.get(family.type, ("",))}
    for where, expression in expressions():
        found = named(expression)
        assert found, where
        assert found <= exported, f"{where}: {sorted(found - exported)}"


def test_selectors_use_labels_and_values_that_exist() -> None:
    seen = set()
    for where, expression in expressions():
        for metric, matchers in re.findall(r"\b([a-z_:]+)\{([^}]*)\}", expression):
            for label, value in re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"', matchers):
                assert label in labels_of(metric), f"{where}: {metric} has no label {label}"
                for each in value.split("|") if label not in SCRAPED else ():
                    assert re.search(rf"\b{each}\b", SOURCE), f"{where}: nothing says {label}={each}"
                    seen.add(each)
        of_all = set().union(*(labels_of(metric) for metric in named(expression)))
        for listed in re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", expression):
            assert {label.strip() for label in listed.split(",") if label} <= of_all, f"{where}: by ({listed})"
    assert {"4004", "keep_log_months", "refund_due", "too_many"} <= seen


# runbooks


def runbooks() -> dict[str, str]:
    """The section of each alert."""
    section = DOCUMENT.split("\n## Runbooks\n")[1].split("\n## ")[0]
    _, *found = re.split(r"^### (\w+)\n", section, flags=re.M)
    return dict(zip(found[::2], found[1::2], strict=True))


def test_every_alert_has_a_runbook_and_leads_to_it_and_every_runbook_an_alert() -> None:
    assert list(runbooks()) == list(ALERTS)
    listed = re.findall(r"\[(Hadir\w+)\]\(#", DOCUMENT.split("\n## Runbooks\n")[1].split("\n### ")[0])
    assert listed == list(ALERTS), "the list at its head"
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert rule["annotations"]["summary"].endswith(".")
        waits = rule.get("for")
        when = WHEN.get(waits) or f"after {str(waits).removesuffix('m')} minutes"
        assert runbooks()[name].startswith(f"\n*{rule['labels']['severity']}, {when}.* ")


def test_a_runbook_says_what_is_seen_what_to_look_at_what_to_do_and_when_it_is_over() -> None:
    for name, text in runbooks().items():
        starts = [line[: line.index(": ") + 2] for line in text.splitlines() if line.startswith("- **")]
        assert tuple(starts) == PARTS, name
        assert all(len(line) > len("- **Over when**: ") for line in text.splitlines() if line), name


def test_what_runbooks_name_exists() -> None:
    events, anchors = (
        set(table("Log events")),
        {re.sub(r"[^a-z -]", "", h.lower()).replace(" ", "-") for h in headings()},
    )
    settings, routes = set(table("Environment")), set(re.findall(r'"(/api/[^"]*)"', SOURCE))
    for name, text in runbooks().items():
        assert set(re.findall(r"`([a-z]+\.[a-z_]+)`", text)) <= events, name
        assert set(re.findall(r"\]\(#([a-z-]+)\)", text)) <= anchors, name
        assert set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", text)) <= settings, name
        for path in re.findall(r"(?:GET|POST) (/api/[^?`]*)", text):
            assert re.sub(r"<[^>]*>", "{id}", path) in routes, f"{name}: {path}"


def headings() -> list[str]:
    return re.findall(r"^##+ (.+)$", DOCUMENT, re.M)


# the dashboard and the scrape


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    assert [each["type"] for each in BOARD["templating"]["list"] if each["name"] == "datasource"] == ["datasource"]
    variables = {each["name"] for each in BOARD["templating"]["list"]}
    assert len(PANELS) > 30
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for panel in PANELS:
        title = panel["title"]
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["datasource"]["uid"] == "${datasource}", title
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"]), title
        used = {name for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}
        assert used <= variables | {"__rate_interval"}, title


def test_no_two_panels_lie_on_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_the_configuration_scrapes_the_instances_of_compose_as_the_job_of_the_rules() -> None:
    config = yaml.safe_load(CONFIG_FILE.read_text())
    assert config["rule_files"] == [RULES_FILE.name]
    (job,) = config["scrape_configs"]
    jobs = {value for _, expression in expressions() for value in re.findall(r'job="([^"]*)"', expression)}
    assert jobs == {job["job_name"]}
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    published = [port.rsplit(":", 1)[0] for each in services.values() for port in each.get("ports", ())]
    (targets,) = job["static_configs"]
    assert targets["targets"] == [address for address in published if address.startswith("127.0.0.1:")]

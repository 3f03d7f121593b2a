"""docs/reliability.md against what it is written from: a line for every rule, tests that exist, nothing that moved."""

from __future__ import annotations

import ast

from benchmarks.deaths.kinds import PROFILES
from benchmarks.document import rewritten as with_figures
from tests.broken import PAIRS
from tests.rules import DOCUMENT, LINES, ROOT, rewritten

TEXT = DOCUMENT.read_text()


def test_the_table_is_what_the_command_writes() -> None:
    assert rewritten(TEXT) == TEXT, "`make docs` writes it anew"


def test_every_rule_has_a_line_and_was_broken() -> None:
    assert [line.rule for line in LINES] == [f"R{number}" for number in range(1, 16)]
    assert {line.rule for line in LINES} <= {pair.rule.split()[0] for pair in PAIRS}


def test_the_tests_that_are_named_exist() -> None:
    for test in {*(line.test for line in LINES), *(pair.test for pair in PAIRS)}:
        path, _, name = test.partition("::")
        found = {each.name for each in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(each, "name")}
        assert name.partition("[")[0] in found, test


def test_what_is_broken_on_purpose_is_there() -> None:
    assert [pair.rule for pair in PAIRS if pair.sound not in (ROOT / pair.file).read_text()] == []


def test_all_figures_have_their_place() -> None:
    for name in (*(f"deaths {profile}" for profile in PROFILES), "outage", "restart of Valkey"):
        again = with_figures(with_figures(TEXT, name, "figures of before"), name, "figures of today")
        assert (again.count("figures of before"), again.count("figures of today")) == (0, 1), name

"""The table of the rules in docs/reliability.md, from the lines below and the pairs of tests/broken.py: `make docs`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.broken import PAIRS

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- rules -->", "<!-- end of rules -->"


class Line(NamedTuple):
    """A rule: what it says, its test, the fault in it, and what that test holds the program to."""

    rule: str
    says: str
    test: str
    fault: str
    figure: str


REALTIME, HTTP, FAULTS = "tests/realtime", "tests/http/test_http.py", "tests/faults"

LINES = [
    Line("R1", "Truth: Postgres first, Valkey fails nobody",
         f"{REALTIME}/test_mirror.py::test_flushall_at_any_moment_loses_nothing",
         "FLUSHALL, again and again", "the very next beacon is right, nobody leaves `online`"),
    Line("R2", "The mirror never goes backwards",
         f"{REALTIME}/test_mirror.py::test_a_late_apply_of_an_older_row_changes_nothing",
         "a write that arrives after a newer one", "0 fields older than the row"),
    Line("R3", "A closing connection changes only what it still owns",
         f"{REALTIME}/test_displacement.py::test_an_old_sockets_late_close_does_not_touch_its_successors_row",
         "a close that comes after the successor's claim", "0 changes"),
    Line("R4", "How you left matters, nobody flaps",
         f"{REALTIME}/test_socket_life.py::test_a_lost_connection_is_suspect_then_offline",
         "goodbye, reset, silence, displacement", "each ends with the reason of its own; times: the deaths below"),
    Line("R5", "No mass offline",
         f"{REALTIME}/test_sweeps.py::test_many_graces_that_end_at_once_are_held_until_an_operator_lets_go",
         "12 of 30 lost at once", "0 offline until released; times: `most-released` and `most-held` below"),
    Line("R6", "Deactivated means out",
         f"{HTTP}::test_deactivation_reaches_every_instance_and_both_stores",
         "deactivated at another instance; by another program, without any event", "out in 1 s; without events in 4 s"),
    Line("R7", "One winner, nobody above their capacity",
         f"{FAULTS}/test_one_winner.py::test_one_of_200_wins_each_time_whoever_is_killed",
         "200 accept at once, instances killed in between", "1 winner each time, 199 `taken`"),
    Line("R8", "Events ring, Postgres tells",
         f"{REALTIME}/test_displacement.py::test_with_the_bus_dead_a_displacement_is_found_by_polling",
         "every event lost (Valkey frozen)", "told within 4 s"),
    Line("R9", "A cold mirror is not an empty marketplace",
         f"{REALTIME}/test_mirror.py::test_the_mirror_is_warm_only_when_every_live_instance_has_beaten_again",
         "wiped, seeded for another run, half seeded, a clock that jumps", "0 answers from a cold mirror"),
    Line("R10", "Answers state their own truth",
         f"{HTTP}::test_the_beacon_is_rebuilt_from_postgres_then_stale_then_unavailable",
         "Valkey frozen, then Postgres killed", "`rebuilding`, `stale`, after five minutes 503; never a wrong count"),
    Line("R11", "Deploys are invisible",
         f"{FAULTS}/test_rolling_restart.py::test_nobody_notices_a_rolling_restart",
         "every instance replaced in turn by the next version, and back", "lowest `online` and `available` = all"),
    Line("R12", "Everything is bounded, only the one at fault notices",
         f"{FAULTS}/test_hostile.py::test_a_flood_of_pings_by_a_reader_that_does_not_read_is_ended_and_grows_nothing",
         "a flood by a peer that does not read", "ended in 15 s, within 30 MB; a bystander's pong comes"),
    Line("R13", "No ghosts",
         f"{REALTIME}/test_sweeps.py::test_a_killed_instances_mitras_are_suspect_within_its_proof_then_get_the_long_grace",
         "silence, SIGKILL and freezing of instances", "the deaths below, each beside its bound"),
    Line("R14", "Every change of state is explained",
         f"{REALTIME}/test_socket_life.py::test_a_lost_connection_is_suspect_then_offline",
         "a reset", "one row of `presence_log` a change, with its reason"),
    Line("R15", "Grace counts only while coming back was possible",
         f"{REALTIME}/test_sweeps.py::test_nobody_is_expired_by_an_instance_that_has_not_been_there_for_a_grace",
         "instances that were not there", "0 expired before one has been ready for a grace"),
]  # fmt: skip


def table() -> str:
    """Markdown, a line a rule."""
    rows = ["| rule | its test | the fault | the figure | broken on purpose, this failed |", "|---|---|---|---|---|"]
    for line in LINES:
        pairs = [pair for pair in PAIRS if pair.rule.split()[0] == line.rule]
        failed = "; ".join(f"{pair.rule.removeprefix(line.rule).strip()}: `{_name(pair.test)}`" for pair in pairs)
        rows.append(f"| **{line.rule}** {line.says} | `{_name(line.test)}` | {line.fault} | {line.figure} | {failed} |")
    return "\n".join(rows)


def _name(test: str) -> str:
    return test.rpartition("::")[2].partition("[")[0]


def rewritten(document: str) -> str:
    """The document with the table as it is now."""
    assert document.count(BEGIN) == document.count(END) == 1
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table()}\n{END}", document, flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text()))

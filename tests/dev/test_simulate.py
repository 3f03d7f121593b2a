"""`hadir simulate` as a process, at a small server that keeps the rules or breaks one."""

from __future__ import annotations

import asyncio
import os
import pty
import re
from typing import Any

import pytest

from tests.dev.fake_server import FakeServer, Lies
from tests.dev.test_command import run

ID = "[0-9a-f-]{36}"
SESSION: dict[str, Any] = {
    "id": "s1", "customer_id": "c1", "mitra_id": "m1", "status": "active", "end_reason": None, "extensions": 0,
    "messages": 0, "version": 1,
}  # fmt: skip
WON = {"type": "offer.result", "pairing_id": "p1", "result": "won", "session": SESSION}
TAKEN = {"type": "offer.closed", "pairing_id": "p1", "reason": "taken"}
ENDED = {"type": "session.updated", "session": {**SESSION, "status": "ended", "version": 2}}
REOPENED = {"type": "session.updated", "session": {**SESSION, "version": 3}}
LATE_MESSAGE = {
    "type": "chat.message",
    "message": {"id": "x", "session_id": "s1", "seq": 2, "sender": "customer", "client_id": "k", "body": "halo"},
}


def environment(database: str) -> dict[str, str]:
    return {"DATABASE_URL": database, "AUTH_JWT_SECRET": "s" * 32}


async def simulate(server: FakeServer, database: str, *, mitras: int, churn: int, seconds: int) -> tuple[int, str]:
    options = {"--url": server.url, "--mitras": mitras, "--churn": churn, "--seconds": seconds}
    words = [str(each) for pair in options.items() for each in pair]
    return await run("simulate", *words, environment=environment(database))


async def test_at_a_server_that_keeps_the_rules_every_habit_breaks_none(database: str) -> None:
    async with FakeServer() as server:
        code, said = await simulate(server, database, mitras=20, churn=300, seconds=9)
    assert code == 0, said
    assert "rules broken: 0" in said
    lost = re.search(r"connections: \d+ \((\d+) after a loss", said)
    assert lost is not None, said
    assert int(lost[1]) > 5, said
    for figure in ("connect to hello", "beat to pong", "status to ack", "beacon answer"):
        assert re.search(rf"^{figure}: p50 [\d.]+, p95 [\d.]+, p99 [\d.]+, max [\d.]+ ms$", said, re.MULTILINE), said
    assert re.search(r"^mitras: .*\d+ available for sure", said, re.MULTILINE), said
    assert re.search(r"^a second: [\d.]+ connects, .* beats, [\d.]+ beacon answers$", said, re.MULTILINE), said
    line = (
        r"^simulated mitras available: \d.* · beacon: \d.* · .*\d+ \w.* · a second: [\d.]+ connects, .* beacon answers$"
    )
    assert re.search(line, said, re.MULTILINE), said
    assert re.search(r"^closed: .*\d+ x 1006 lost \(came back\)", said, re.MULTILINE), said


@pytest.mark.parametrize(
    ("lies", "churn", "sentence"),
    [
        (Lies(closes_with=4999), 0, r"the server closed with 4999, expected a code that the protocol lists: 1000, .*"),
        (Lies(closes_with=4002), 0, r".* with 4002 silent 0\.\d s after a beat that it answered, expected no .* 2 s"),
        (Lies(closes_with=4003), 0, r".* with 4003 slow, expected no such thing while the app reads"),
        (Lies(closes_with=4004), 0, r".* with 4004 too_fast after 1 frames in .* s, expected no such thing below 5 .*"),
        (Lies(pushes=(WON,)), 0, rf"pairing p1 is won by {ID}, expected one winner, and that was {ID}"),
        (Lies(pushes=(WON, TAKEN)), 0, rf"mitra {ID} is told taken of pairing p1, expected won, as before"),
        (Lies(pushes=(ENDED, REOPENED)), 0, r"session s1 is told to be active at version 3, expected .* version 2"),
        (Lies(pushes=(WON, LATE_MESSAGE)), 0, rf"mitra {ID} gets message seq 2 of .*, expected seq 1 next"),
        (
            Lies(pushes=({"type": "session.updated"},)),
            0,
            r"the server's session.updated is not of .*, expected what .*",
        ),
        (Lies(forgets_status=True), 1000, r"after the ack of status offline the state says .*, expected both false"),
        (Lies(beacon={"available": 3}), 0, r".* says 3 available of \d online, expected no more than online"),
        (Lies(beacon={"available": 9, "online": 9}), 0, r"the beacon says 9, expected \d to \d"),
        (Lies(beacon={"state": "fine"}), 0, r"the beacon's state is 'fine', expected one of live, rebuilding, stale"),
        (Lies(beacon={"as_of": "noon"}), 0, r"the beacon's as_of is 'noon', expected a time in ISO-8601 with its zone"),
        (Lies(beacon={"online": "many"}), 0, r"the beacon's answer is not of the protocol: .*, expected .*"),
        (Lies(body=b"{"), 0, r"the beacon's answer is not of the protocol: .*, expected what docs/protocol.md says"),
        (
            Lies(as_of_goes_back_s=60),
            0,
            r"the beacon's as_of went back by [56]\d\.\d s, expected at most max_age_s, .*",
        ),
    ],
)
async def test_a_server_that_breaks_a_rule_is_told_in_one_sentence(
    database: str, lies: Lies, churn: int, sentence: str
) -> None:
    async with FakeServer(lies) as server:
        code, said = await simulate(server, database, mitras=30 if churn else 2, churn=churn, seconds=4)
    assert code == 1, said
    assert re.search(rf"^RULE BROKEN at \d\d:\d\d:\d\d: {sentence}$", said, re.MULTILINE), said


async def test_on_a_terminal_it_is_a_table_and_then_a_summary(database: str) -> None:
    ours, theirs = pty.openpty()
    async with FakeServer() as server:
        words = ["simulate", "--url", server.url, "--mitras", "3", "--churn", "0", "--seconds", "4"]
        more = environment(database) | {"COLUMNS": "160", "LINES": "40", "TERM": "xterm"}
        reading = asyncio.create_task(asyncio.to_thread(read_all, ours))
        running = asyncio.create_task(run(*words, environment=more, terminal=theirs))
        code, _ = await running
        os.close(theirs)
        shown = await reading
    os.close(ours)
    assert code == 0, shown
    assert "\x1b[" in shown, "it changes in place"
    table, _, summary = shown.rpartition("└")
    assert re.search(r"a second +│ [\d.]+ connects, .*beacon answers", table), shown
    assert re.search(r"mitras +│ 3 available for sure", table), shown
    assert re.search(r"connect to hello +│ p50 ", table), shown
    assert re.search(r"^rules broken: 0", summary, re.MULTILINE), shown


def read_all(terminal: int) -> str:
    """What was written to the other side until that was closed everywhere."""
    shown = bytearray()
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # EIO: Linux's word for the end
        pass
    return shown.decode()

"""The peers of the benchmarks: they do what they are measured at, and nothing of them stays.

Here those whose packages are the project's own; `hadir bench peers` sees to all that are installed.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.peers import PEERS, Peer
from benchmarks.peers.checks import check
from benchmarks.peers.programs import PeerFailed, running
from hadir.dev.embedded import EmbeddedValkey, free_port

FOLDER = Path(__file__).parents[1] / "benchmarks" / "peers"


def peer_called(name: str) -> Peer:
    (found,) = (peer for peer in PEERS if name in peer.name)
    return found


async def test_plain_starlette_does_what_it_is_measured_at(valkey: EmbeddedValkey) -> None:
    seen = await check(peer_called("Starlette"), valkey.url, secrets.token_hex(32))
    assert len(seen) == 4, seen


async def test_a_peer_runs_on_its_core_and_is_gone_afterwards(valkey: EmbeddedValkey) -> None:
    peer, core = peer_called("Starlette"), max(os.sched_getaffinity(0))
    async with peer.serve(free_port(), valkey.url, secrets.token_hex(32), core) as pids:
        (process,) = map(psutil.Process, pids)
        tasks = [thread.id for thread in process.threads()]
        assert all(os.sched_getaffinity(task) == {core} for task in tasks), "its threads too"
    try:
        assert not process.is_running()
    finally:
        with suppress(psutil.NoSuchProcess):  # who fails here must not leave it either
            process.kill()


async def test_a_peer_that_does_not_start_says_why() -> None:
    with pytest.raises(PeerFailed, match=r"ended with 1 before it listened on port .*no such thing"):
        async with running([sys.executable, "-c", "raise SystemExit('no such thing')"], free_port(), None):
            pass


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: str(peer.name))
def test_a_peer_says_its_versions_or_what_it_lacks(peer: Peer) -> None:
    why = peer.missing()
    if why is None:
        assert any(character.isdigit() for character in peer.versions())
    else:
        assert why.endswith(("`make peers` brings it.", "not installed."))


def test_what_peers_are_made_of_is_pinned() -> None:
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    of_node = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    assert all(version[0].isdigit() for version in of_node.values()), of_node

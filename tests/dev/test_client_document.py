"""docs/client.md: its program runs as printed, and it names what there is."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hadir.client
from hadir.client import CustomerApi, CustomerClient, MitraClient
from hadir.client.app import App
from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.system import Account, Served, System

TEXT = Path("docs/client.md").read_text()


async def run_the_example(served: Served, account: Account) -> str:
    program = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    environment = os.environ | {"HADIR_URL": served.url, "HADIR_TOKEN": account.token}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_the_example_runs_as_printed(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        account = await system.account()
        said = await run_the_example(served, account)
        assert re.fullmatch(r"online: True\nonline by the beacon: [01] live\n", said), said
        await eventually(lambda: _is_offline(system, account))


async def test_the_example_says_when_it_may_not_come_back(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        account = await system.account()
        await system.sql.execute("UPDATE auth_sessions SET revoked_at = now() WHERE id = $1", account.sid)
        assert await run_the_example(served, account) == "not to come back: revoked\n"


async def _is_offline(system: System, account: Account) -> bool:
    row = await system.row(account)
    return (row["state"], row["reason"]) == ("offline", "goodbye")


def test_it_names_everything_that_is_exported() -> None:
    machinery = {"Beacon", "Counters", "Event", "Verdict"}
    named = set(re.findall(r"\b(\w+)\b", TEXT))
    assert set(hadir.client.__all__) - named - machinery == set()


@pytest.mark.parametrize(
    ("section", "classes"),
    [
        ("An app that stays connected", (MitraClient, CustomerClient)),
        ("What only a mitra does", (MitraClient,)),
        ("What a customer asks for", (CustomerApi,)),
    ],
)
def test_it_names_every_method_and_no_other(section: str, classes: tuple[type, ...]) -> None:
    table = TEXT.partition(f"## {section}\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`await (\w+)\(", table))
    for each in classes:
        assert all(hasattr(each, name) for name in named)
    own = classes[0] if len(classes) == 1 else App
    assert {name for name in vars(own) if inspect.iscoroutinefunction(vars(own)[name]) and name[0] != "_"} <= named

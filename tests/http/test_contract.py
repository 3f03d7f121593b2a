"""What schemathesis, which nobody here wrote, finds against both listeners: no 500, no undocumented answer.

`HADIR_TEST_CONTRACT=150` asks that many examples of each operation; 10,000 requests and more.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from hadir.dev.embedded import EmbeddedValkey
from tests.support.couples import accepted, paid
from tests.support.system import FAST, System

AGREED = "what was agreed with the provider"
EXAMPLES = os.environ.get("HADIR_TEST_CONTRACT", "2")
CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}
PUBLIC = """
[[operations]]
include-name = "GET /api/mitra/state"
parameters = { wait = 0 }  # a wait is a wait: what it may be is tested elsewhere
[[operations]]
include-name = "GET /api/pairings/{id}"
parameters = { id = "{pairing}", wait = 0 }
[[operations]]
include-path-regex = "^/api/sessions/"
parameters = { id = "{session}" }
[[operations]]
include-path-regex = "^/api/mitra/offers/"
parameters = { pairing_id = "{pairing}" }
[[operations]]
include-name = "GET /api/sessions"
# A cursor is what the page before gave; any other text is refused, which no schema can say.
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "422"]
[[operations]]
include-name = "POST /webhooks/xendit"
# Postgres has no place for a NUL, wherever in an event it is.
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "422"]
"""
INTERNAL = """
[[operations]]
include-name = "GET /api/internal/live"
enabled = false  # it has no end: tests/http/test_live.py
[phases.stateful.inference]
algorithms = []  # it takes the mitra of a pairing that has none for an id
[[operations]]
include-path-regex = "^/api/internal/(mitras|mitras/[^/]+/(history|timeline)|pairings|sessions|payments)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "422"]
[[operations]]
# Nor can one say that a period has at most so many days, nor which time zones there are.
include-path-regex = "^/api/internal/(audit|config/[^/]+/history|reports/[a-z-]+)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "422"]
[[operations]]
include-name = "PUT /api/internal/config/{key}"
# What a value may be depends on its key.
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "422"]
"""
OF_MITRA = """
[parameters]
id = "{mitra}"
sid = "{sid}"
"""
OF_OTHERS = """
[[operations]]
include-path-regex = "^/api/internal/pairings/"
parameters = { id = "{pairing}" }
[[operations]]
include-path-regex = "^/api/internal/sessions/"
parameters = { id = "{session}" }
"""


@pytest.mark.parametrize(
    ("listener", "role", "config"),
    [
        pytest.param("public", "mitra", PUBLIC, id="public, a mitra"),
        pytest.param("public", "customer", PUBLIC, id="public, a customer"),
        pytest.param("internal", "operator", INTERNAL, id="internal"),
        pytest.param("internal", "operator", OF_MITRA + INTERNAL + OF_OTHERS, id="internal, of what is there"),
    ],
)
async def test_every_answer_is_one_that_is_documented(
    database: str, valkey: EmbeddedValkey, listener: str, role: str, config: str, tmp_path: Path
) -> None:
    async with System(database, valkey.url, CALM) as system:
        process = await system.process(log=tmp_path / "log", XENDIT_CALLBACK_TOKEN=AGREED)
        served = process.served
        url = served.url if listener == "public" else served.inner_url
        accounts = {each: await system.account(each) for each in ("mitra", "customer", "operator")}
        mitra, customer, operator = accounts.values()
        await system.phone(served, mitra)
        session = await paid(system, served, await accepted(system, served, customer, mitra), operator)
        pairing = await system.ask(served, customer, "POST", f"/api/sessions/{session['id']}/reroute")
        ids = {"mitra": mitra.id, "sid": mitra.sid, "pairing": pairing.json()["id"], "session": session["id"]}
        for name, value in ids.items():
            config = config.replace(f'"{{{name}}}"', f'"{value}"')
        (tmp_path / "schemathesis.toml").write_text(config)
        asking = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{url}/openapi.json",
            "--header",
            f"Authorization: {accounts[role].bearer['Authorization']}",
            "--header",
            f"X-Callback-Token: {AGREED}",
            "--checks=all",
            f"--max-examples={EXAMPLES}",
            "--seed=1",
            "--no-color",
            "--continue-on-failure",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await asyncio.wait_for(asking.communicate(), 1800))[0].decode()
        print(said)
        assert asking.returncode == 0, said
        assert re.search(r"[1-9]\d* generated", said), "it asked nothing"
        assert "crashed" not in (tmp_path / "log").read_text()

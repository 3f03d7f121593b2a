"""How an instance begins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.http.server import running
from hadir.realtime import bus
from tests.support import eventually
from tests.support.market import CALM
from tests.support.system import System


async def test_it_is_whole_as_soon_as_it_hears_itself_and_the_mirror_takes_beats(
    database: str, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "CANARY_S", 60.0)
    monkeypatch.setattr(bus, "CANARY_DEADLINE_S", 120.0)
    config = replace(System(database, valkey.url, CALM).config(), heartbeat_flush_s=60.0)
    async with running(config) as instance:
        await eventually(lambda: not instance.node.degraded())

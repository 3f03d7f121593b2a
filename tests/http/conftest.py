"""A machine that stands still for a moment does not change what dashboards begin with."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first dashboard of an instance waits for what only Postgres can say, however long that takes."""
    monkeypatch.setattr("hadir.realtime.dashboards.PATIENCE_OF_FIRST_S", 30.0)

"""SQL by name: `sql("presence_lock")` is `queries/presence_lock.sql`."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def sql(name: str) -> str:
    """The text of a query; its header says what it does and what each argument is."""
    return (resources.files("hadir.db") / "queries" / f"{name}.sql").read_text()

"""`app_config`, cached in every process: known keys, typed; defaults where a row is missing or unfit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import PostgresUnavailable, Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """A key that operators may set: its type with range (a JSON schema), its default, and whether apps are told."""

    name: str
    default: Any
    schema: Mapping[str, Any]
    public: bool
    doc: str

    @property
    def kind(self) -> str:
        """`integer` or `text`."""
        return "integer" if self.schema["type"] == "integer" else "text"

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """The least and the greatest number; of a text how long it may be."""
        if self.kind == "integer":
            return self.schema["minimum"], self.schema["maximum"]
        return None, self.schema["maxLength"]

    @property
    def expected(self) -> str:
        """What a value must be, for people."""
        if self.kind == "integer":
            return f"a whole number from {self.schema['minimum']} to {self.schema['maximum']}"
        return f"a text of at most {self.schema['maxLength']} characters"

    def fits(self, value: Any) -> bool:
        if self.kind == "integer":
            return type(value) is int and self.schema["minimum"] <= value <= self.schema["maximum"]
        # Postgres has no place for NUL in a text.
        return isinstance(value, str) and len(value) <= self.schema["maxLength"] and "\0" not in value


KEYS = {
    key.name: key
    for key in (
        Key(
            "max_sessions",
            1,
            {"type": "integer", "minimum": 1, "maximum": 100},
            public=False,
            doc="Open sessions a mitra may have, where it has no limit of its own. Setting it moves all of those.",
        ),
        Key(
            "app_notice",
            "",
            {"type": "string", "maxLength": 500},
            public=True,
            doc="Told to every app, at once and whenever it connects.",
        ),
    )
}


class AppConfig:
    """Read at start, when an event says so, and with every feed. `on_change` hears that something public changed."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._values: dict[str, Any] = {key.name: key.default for key in KEYS.values()}
        self._rereading = asyncio.Lock()
        self._unfit: set[str] = set()
        self._stored: dict[str, tuple[datetime, str | None]] = {}
        self.on_change: list[Callable[[], None]] = []

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def changed(self, name: str) -> tuple[datetime | None, str | None]:
        """When it was set, and by whom; (None, None): it is the default."""
        return self._stored.get(name, (None, None))

    def public(self) -> dict[str, Any]:
        """What apps are told in `hello` and `config.updated`."""
        return {key.name: self._values[key.name] for key in KEYS.values() if key.public}

    async def reread(self) -> None:
        """Raises `PostgresUnavailable`; the cache then stays as it was."""
        async with self._rereading:  # or an answer from before a change could come after it
            records = await self._postgres.fetch(sql("config_all"))
            stored = {record["key"]: record["value"] for record in records}
            self._stored = {each["key"]: (each["updated_at"], each["updated_by"]) for each in records}
            values = {key.name: self._fitting(key, stored.get(key.name, key.default)) for key in KEYS.values()}
            told, self._values = self.public(), values
        if self.public() != told:
            for tell in self.on_change:
                tell()

    def _fitting(self, key: Key, value: Any) -> Any:
        if key.fits(value):
            self._unfit.discard(key.name)
            return value
        if key.name not in self._unfit:
            log.error("config.unfit", extra={"key": key.name, "expected": key.expected})
        self._unfit.add(key.name)
        return key.default

    async def store(self, name: str, value: Any, actor: str) -> None:
        """Writes a value. Raises `Refused` (422: unknown key, unfit value) and `PostgresUnavailable`."""
        key = known(name)
        if not key.fits(value):
            raise Refused(422, "bad_value", f"{name} must be {key.expected}.", field="value")
        await self._postgres.execute(sql("config_store"), name, value, actor)
        with suppress(PostgresUnavailable):  # it is stored all the same, and read again soon
            await self.reread()


def known(name: str) -> Key:
    """Raises `Refused` (422) for a key that does not exist."""
    if name not in KEYS:
        raise Refused(422, "unknown_key", f"key must be one of {', '.join(KEYS)}.", field="key")
    return KEYS[name]

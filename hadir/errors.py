"""One root, few children; the docstring is the meaning, the edge maps each to a status or a close code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class HadirError(Exception):
    """Anything this program raises on purpose; its text is one sentence for people."""


class ConfigError(HadirError):
    """The environment is wrong or incomplete; `problems` has one line a variable."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class StoreUnavailable(HadirError):
    """A store did not answer in time; nothing is known to have changed in it."""


class PostgresUnavailable(StoreUnavailable):
    """Postgres cannot be reached, hangs, or is read-only."""


class ValkeyUnavailable(StoreUnavailable):
    """Valkey cannot be reached, hangs, or refused."""


class SchemaBehind(HadirError):
    """Migrations are pending: `hadir migrate` applies them."""


class SchemaUnfit(HadirError):
    """A table that already exists under one of our names does not fit."""


class Refused(HadirError):
    """A request that cannot be granted: an HTTP status, a short code, and a sentence for people.

    `members`: what a program needs besides, such as the state that is in the way.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after: int | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.field, self.retry_after = field, retry_after
        self.members = members or {}

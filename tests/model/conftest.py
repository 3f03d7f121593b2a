"""A connection to a fresh database."""

from __future__ import annotations

from tests.db.conftest import sql as sql

"""Texts from the environment into values. A parser raises `Wrong`, whose text says what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

SECRET_BYTES_MIN = 32
DEFAULT_PORTS = {"http": 80, "https": 443}


class Wrong(ValueError):
    """A value that is not what was expected; the text says what was."""


def text(value: str) -> str:
    if not value.strip():
        raise Wrong("a text")
    return value


def secret(value: str) -> str:
    if len(value.encode(errors="surrogateescape")) < SECRET_BYTES_MIN:
        raise Wrong(f"a secret of at least {SECRET_BYTES_MIN} bytes")
    return value


def postgres_url(value: str) -> str:
    """Hosts may be a list, or a folder named in the query (Cloud SQL's socket), or left to the library."""
    if not re.match(r"postgres(ql)?://[^\s]+$", value):
        raise Wrong("a URL like postgresql://user:password@host:5432/database")
    return value


def valkey_url(value: str) -> str:
    wrong = Wrong("a URL like redis://host:6379, rediss://host:6379 or valkey://host:6379")
    try:
        parts = urlsplit(value)
        fits = parts.scheme in ("redis", "rediss", "valkey") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that stays open
        raise wrong from None
    if not fits:
        raise wrong
    return value


def number(low: float, high: float, expected: str) -> Callable[[str], float]:
    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", value):
            raise Wrong(expected)
        if not low <= float(value) <= high:
            raise Wrong(expected)
        return float(value)

    return parse


def seconds(low: float = 0.05, high: float = 86_400) -> Callable[[str], float]:
    return number(low, high, f"seconds from {low:g} to {high:g}")


def milliseconds(value: str) -> float:
    """Seconds, from a text in milliseconds."""
    return number(10, 5_000, "milliseconds from 10 to 5000")(value) / 1000


def fraction(value: str) -> float:
    return number(1e-9, 1, "a fraction above 0 and up to 1")(value)


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise Wrong(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise Wrong("one of " + ", ".join(words))
        return value.lower()

    return parse


def listeners(value: str) -> frozenset[str]:
    chosen = frozenset(part.strip() for part in value.split(","))
    if not chosen <= {"public", "internal"}:
        raise Wrong("public, internal, or both with a comma between")
    return chosen


def origins(value: str) -> tuple[str, ...]:
    return tuple(_origin(part.strip()) for part in value.split(",") if part.strip())


def _origin(value: str) -> str:
    """As a browser writes it in `Origin`: lower case, without the port that its scheme implies."""
    wrong = Wrong("origins like https://app.example.com or http://localhost:8080, with commas between")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?", value):
        raise wrong
    try:
        parts = urlsplit(value.lower())
        port = parts.port
    except ValueError:  # a port above 65535, an address that is none
        raise wrong from None
    if port is None or port != DEFAULT_PORTS.get(parts.scheme):
        return value.lower()
    return value.lower().rpartition(":")[0]


def hash_tag(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", value):
        raise Wrong("1 to 32 letters, digits, '-' or '_', without braces")
    return value


def instance_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise Wrong("1 to 64 letters, digits, '.', '-' or '_'")
    return value

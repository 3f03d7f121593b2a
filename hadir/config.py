"""The environment, parsed once: every setting is a line of one table."""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hadir.errors import ConfigError

SERVE_REQUIRES = ("DATABASE_URL", "VALKEY_URL", "AUTH_JWT_SECRET")
DESCRIPTOR_RESERVE = 200
SECRET_BYTES_MIN = 32


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration; durations are seconds."""

    database_url: str
    valkey_url: str
    auth_jwt_secret: str
    auth_jwt_secret_previous: str | None
    auth_jwt_issuer: str | None
    auth_jwt_audience: str | None
    database_pool_max: int
    database_pooler: str
    host: str
    port: int
    internal_host: str
    internal_port: int
    listeners: frozenset[str]
    instance_name: str
    heartbeat_interval_s: float
    heartbeat_stale_s: float
    offline_grace_s: float
    auto_offline_sweep_s: float
    auto_offline_max_fraction: float
    auto_offline_hold_s: float
    heartbeat_mirror_interval_s: float
    online_mirror_sweep_s: float
    heartbeat_flush_s: float
    beacon_cache_s: float
    connect_rate_per_s: float
    max_connections: int
    socket_max_age_s: float
    drain_s: float
    allowed_origins: tuple[str, ...]
    trusted_proxy_hops: int
    valkey_hash_tag: str
    presence_log_months: int
    log_level: str
    log_format: str

    @property
    def long_grace_s(self) -> float:
        """The grace of apps whose instance died: they first have to notice."""
        return max(self.offline_grace_s, 2 * self.heartbeat_interval_s + 10)

    @property
    def postgres_fresh_s(self) -> float:
        """How old `last_heartbeat_at` may be where Postgres alone judges freshness."""
        return self.heartbeat_stale_s + self.heartbeat_mirror_interval_s + self.heartbeat_interval_s


class Wrong(ValueError):
    """A value that is not what was expected; the text says what was."""


def _text(value: str) -> str:
    if not value:
        raise Wrong("a text that is not empty")
    return value


def _any_text(value: str) -> str:
    return value


def _secret(value: str) -> str:
    if len(value.encode()) < SECRET_BYTES_MIN:
        raise Wrong(f"at least {SECRET_BYTES_MIN} bytes")
    return value


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not (parts.hostname or "host=" in parts.query):
            raise Wrong("a URL like " + " or ".join(f"{scheme}://host:port/…" for scheme in schemes))
        return value

    return parse


def _number(low: float, high: float, what: str) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            raise Wrong(what) from None
        if not low <= number <= high:
            raise Wrong(what)
        return number

    return parse


def _seconds(low: float = 0.05, high: float = 86_400) -> Callable[[str], float]:
    return _number(low, high, f"seconds from {low:g} to {high:g}")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise Wrong(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise Wrong("one of " + ", ".join(words))
        return value

    return parse


def _milliseconds(value: str) -> float:
    return _number(10, 5_000, "milliseconds from 10 to 5000")(value) / 1000


def _listeners(value: str) -> frozenset[str]:
    chosen = frozenset(part.strip() for part in value.split(","))
    if not chosen <= {"public", "internal"}:
        raise Wrong("public, internal or both with a comma between")
    return chosen


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in value.split(",") if part.strip())
    for origin in origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
            raise Wrong("origins like https://app.example.com with commas between")
    return origins


def _hash_tag(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_\-]{0,32}", value):
        raise Wrong("at most 32 letters, digits, - or _")
    return value


def _instance_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,64}", value):
        raise Wrong("1 to 64 letters, digits, '.', '-' or '_'")
    return value


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: its name, the field it fills, its default as written, and what it is."""

    name: str
    field: str
    default: str | None
    parse: Callable[[str], Any]
    about: str
    secret: bool = False


SETTINGS = (
    Setting("DATABASE_URL", "database_url", None, _url("postgresql", "postgres"), "Postgres.", secret=True),
    Setting("VALKEY_URL", "valkey_url", None, _url("redis", "rediss", "valkey"), "Valkey or Redis.", secret=True),
    Setting("AUTH_JWT_SECRET", "auth_jwt_secret", None, _secret, "HS256 key of tokens.", secret=True),
    Setting("AUTH_JWT_SECRET_PREVIOUS", "auth_jwt_secret_previous", "", _secret, "Still accepted.", secret=True),
    Setting("AUTH_JWT_ISSUER", "auth_jwt_issuer", "", _text, "Required iss, when set."),
    Setting("AUTH_JWT_AUDIENCE", "auth_jwt_audience", "", _text, "Required aud, when set."),
    Setting("DATABASE_POOL_MAX", "database_pool_max", "10", _whole(2, 200), "Connections to Postgres."),
    Setting("DATABASE_POOLER", "database_pooler", "none", _one_of("none", "transaction"), "What is in between."),
    Setting("HOST", "host", "0.0.0.0", _text, "Address of the public listener."),  # noqa: S104
    Setting("PORT", "port", "3000", _whole(0, 65535), "Port of the public listener; 0 = any."),
    Setting("INTERNAL_HOST", "internal_host", "127.0.0.1", _text, "Address of the internal listener."),
    Setting("INTERNAL_PORT", "internal_port", "3001", _whole(0, 65535), "Port of the internal listener."),
    Setting("HADIR_LISTENERS", "listeners", "public,internal", _listeners, "Which listeners run."),
    Setting("HADIR_INSTANCE_ID", "instance_name", "", _instance_name, "Name of the instance; default: host."),
    Setting("MITRA_HEARTBEAT_INTERVAL_SECONDS", "heartbeat_interval_s", "20", _seconds(), "Apps beat this often."),
    Setting("MITRA_HEARTBEAT_STALE_SECONDS", "heartbeat_stale_s", "60", _seconds(), "A silence this long is a loss."),
    Setting("MITRA_OFFLINE_GRACE_SECONDS", "offline_grace_s", "15", _seconds(0), "From a loss to offline."),
    Setting("MITRA_AUTO_OFFLINE_SWEEP_SECONDS", "auto_offline_sweep_s", "30", _seconds(), "Search for the stale."),
    Setting(
        "MITRA_AUTO_OFFLINE_MAX_FRACTION",
        "auto_offline_max_fraction",
        "0.3",
        _number(0.001, 1, "a fraction above 0, up to 1"),
        "More of the online expiring at once is held.",
    ),
    Setting("MITRA_AUTO_OFFLINE_HOLD_SECONDS", "auto_offline_hold_s", "600", _seconds(0), "A hold lasts at most."),
    Setting(
        "HEARTBEAT_MIRROR_INTERVAL_SECONDS", "heartbeat_mirror_interval_s", "60", _seconds(), "Beats to Postgres."
    ),
    Setting("VALKEY_ONLINE_MIRROR_SWEEP_SECONDS", "online_mirror_sweep_s", "300", _seconds(), "Periodic reseed."),
    Setting("HEARTBEAT_FLUSH_MILLISECONDS", "heartbeat_flush_s", "200", _milliseconds, "Write-behind of beats."),
    Setting("BEACON_CACHE_SECONDS", "beacon_cache_s", "10", _seconds(), "An answer of the beacon is valid for."),
    Setting(
        "CONNECT_RATE_PER_SECOND",
        "connect_rate_per_s",
        "500",
        _number(1, 100_000, "a number from 1 to 100000"),
        "New sockets a second, per instance.",
    ),
    Setting("MAX_CONNECTIONS", "max_connections", "", _whole(1, 1_000_000), "Default: the descriptor limit allows."),
    Setting("SOCKET_MAX_AGE_SECONDS", "socket_max_age_s", "3000", _seconds(1), "Sockets are rotated at this ± 10 %."),
    Setting("DRAIN_SECONDS", "drain_s", "8", _seconds(0), "Sockets are sent elsewhere over this at a stop."),
    Setting("ALLOWED_ORIGINS", "allowed_origins", "", _origins, "Browser origins of public sockets and CORS."),
    Setting("TRUSTED_PROXY_HOPS", "trusted_proxy_hops", "0", _whole(0, 10), "X-Forwarded-For hops that are ours."),
    Setting("VALKEY_HASH_TAG", "valkey_hash_tag", "", _hash_tag, "Hash tag of every key (Valkey Cluster)."),
    Setting("PRESENCE_LOG_MONTHS", "presence_log_months", "13", _whole(1, 240), "History is kept this long."),
    Setting("LOG_LEVEL", "log_level", "info", _one_of("debug", "info", "warning", "error"), "Least severity."),
    Setting("LOG_FORMAT", "log_format", "", _one_of("json", "text"), "Default: json; text on a terminal."),
)


def raise_descriptor_limit() -> int:
    """Raises the soft descriptor limit to the hard one; answers it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def load(
    environ: Mapping[str, str], *, required: Iterable[str] = SERVE_REQUIRES, terminal: bool = False
) -> Config:
    """The configuration that the environment says. Raises `ConfigError` naming every wrong variable."""
    problems: list[str] = []
    fields: dict[str, Any] = {}
    for setting in SETTINGS:
        try:
            fields[setting.field] = _value(setting, environ, setting.name in required)
        except Wrong as wrong:
            fields[setting.field] = None
            problems.append(f"{setting.name}: expected {wrong}.")
    fields["instance_name"] = fields["instance_name"] or re.sub(r"[^A-Za-z0-9_.\-]", "-", socket.gethostname())
    fields["log_format"] = fields["log_format"] or ("text" if terminal else "json")
    if fields["max_connections"] is None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        fields["max_connections"] = max(1, hard - DESCRIPTOR_RESERVE)
    if fields["listeners"] == {"internal"}:
        # Cloud Run gives a service one port: the internal service takes it.
        if "INTERNAL_PORT" not in environ:
            fields["internal_port"] = fields["port"]
        if "INTERNAL_HOST" not in environ:
            fields["internal_host"] = fields["host"]
    if not problems:
        problems = list(_relations(fields))
    if problems:
        raise ConfigError(problems)
    for name in ("database_url", "valkey_url", "auth_jwt_secret"):
        fields[name] = fields[name] or ""
    return Config(**fields)


def _value(setting: Setting, environ: Mapping[str, str], required: bool) -> Any:
    raw = environ.get(setting.name)
    if raw is None and (path := environ.get(f"{setting.name}_FILE")):
        try:
            raw = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Wrong(f"a readable file in {setting.name}_FILE, but {error}") from None
    if raw is None or raw == "":
        if required:
            raise Wrong(f"a value, there is none ({setting.about.rstrip('.')})")
        if not setting.default:
            return () if setting.field == "allowed_origins" else "" if setting.field == "valkey_hash_tag" else None
        raw = setting.default
    return setting.parse(raw)


def _relations(fields: Mapping[str, Any]) -> Iterable[str]:
    if fields["heartbeat_stale_s"] < 2 * fields["heartbeat_interval_s"]:
        yield (
            "MITRA_HEARTBEAT_STALE_SECONDS: expected at least twice MITRA_HEARTBEAT_INTERVAL_SECONDS, "
            "so that one lost beat is no loss."
        )
    if fields["heartbeat_flush_s"] * 2 > fields["heartbeat_interval_s"]:
        yield "HEARTBEAT_FLUSH_MILLISECONDS: expected at most half of MITRA_HEARTBEAT_INTERVAL_SECONDS."
    if not fields["listeners"]:
        yield "HADIR_LISTENERS: expected public, internal or both with a comma between."


def masked(config: Config) -> list[tuple[str, str]]:
    """(name, effective value) of every setting, secrets and the passwords in URLs hidden."""
    rows = []
    for setting in SETTINGS:
        value = getattr(config, setting.field)
        if isinstance(value, (frozenset, tuple)):
            shown = ",".join(sorted(value))
        elif setting.field == "heartbeat_flush_s":
            shown = f"{value * 1000:g}"
        else:
            shown = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        if setting.secret and shown:
            shown = re.sub(r"://[^@/]*@", "://***@", shown) if "://" in shown else "***"
        rows.append((setting.name, shown))
    return rows


def deploy_capacity(config: Config, instances: int) -> tuple[int, int]:
    """Sockets an instance may hold so that a deploy (dips no count, takes nobody offline), of `instances`."""
    others = (instances - 1) * config.connect_rate_per_s
    return round(others * config.drain_s), round(others * (config.drain_s + config.offline_grace_s))

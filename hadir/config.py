"""The environment, parsed once: every setting is a line of one table."""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hadir import parsers
from hadir.errors import ConfigError
from hadir.parsers import Wrong, seconds, whole

SERVE_REQUIRES = ("DATABASE_URL", "VALKEY_URL", "AUTH_JWT_SECRET")
DESCRIPTOR_RESERVE = 200
# Where the system sets no limit; macOS refuses more without being asked twice.
DESCRIPTORS_OF_NO_LIMIT = 10_240
GOT_MAX = 60


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
    sockets: str
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
    pairing_timeout_s: float
    pairing_wave_size: int
    pairing_wave_s: float
    pairing_max_offers: int
    mitra_max_open_offers: int
    payment_timeout_s: float
    session_s: float
    xendit_callback_token: str | None
    connect_rate_per_s: float
    max_connections: int
    socket_max_age_s: float
    drain_s: float
    allowed_origins: tuple[str, ...]
    valkey_hash_tag: str
    presence_log_months: int
    log_level: str
    log_format: str

    @property
    def long_grace_s(self) -> float:
        """The grace of apps whose instance died: they first have to notice."""
        return max(self.offline_grace_s, 2 * self.heartbeat_interval_s + 10)

    @property
    def instance_lease_s(self) -> float:
        """How long an instance's lease in Valkey lasts: while it does, no beat of its sockets can have gone stale."""
        return min(12.0, (self.heartbeat_stale_s - self.heartbeat_interval_s) / 2)

    @property
    def postgres_fresh_s(self) -> float:
        """How old `last_heartbeat_at` may be where Postgres alone judges freshness."""
        return self.heartbeat_stale_s + self.heartbeat_mirror_interval_s + self.heartbeat_interval_s


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: its name, the field it fills, its default as written, and what it is.

    A default of "" is either none (the field is then `unset`) or one that the host decides, as `about` says.
    """

    name: str
    field: str
    default: str
    parse: Callable[[str], Any]
    about: str
    secret: bool = False
    unset: Any = None


_rate = parsers.number(1, 100_000, "a number from 1 to 100000")
_level = parsers.one_of("debug", "info", "warning", "error")
_pooler = parsers.one_of("none", "transaction")
_port = whole(0, 65_535)
_sockets = parsers.one_of("direct", "asgi")

SETTINGS = (
    Setting("DATABASE_URL", "database_url", "", parsers.postgres_url, "Postgres.", secret=True, unset=""),
    Setting("VALKEY_URL", "valkey_url", "", parsers.valkey_url, "Valkey, or Redis.", secret=True, unset=""),
    Setting("AUTH_JWT_SECRET", "auth_jwt_secret", "", parsers.secret, "Key of tokens.", secret=True, unset=""),
    Setting("AUTH_JWT_SECRET_PREVIOUS", "auth_jwt_secret_previous", "", parsers.secret, "Still taken.", secret=True),
    Setting("AUTH_JWT_ISSUER", "auth_jwt_issuer", "", parsers.text, "What `iss` must be, when set."),
    Setting("AUTH_JWT_AUDIENCE", "auth_jwt_audience", "", parsers.text, "What `aud` must be, when set."),
    Setting("DATABASE_POOL_MAX", "database_pool_max", "10", whole(2, 200), "Connections to Postgres."),
    Setting("DATABASE_POOLER", "database_pooler", "none", _pooler, "What stands before Postgres."),
    Setting("HADIR_LISTENERS", "listeners", "public,internal", parsers.listeners, "Which listeners run."),
    Setting("HADIR_SOCKETS", "sockets", "direct", _sockets, "How frames are carried; `asgi`: as elsewhere."),
    Setting("HOST", "host", "0.0.0.0", parsers.text, "Address of the public listener."),  # noqa: S104
    Setting("PORT", "port", "3000", _port, "Port of the public listener; 0 = any."),
    Setting("INTERNAL_HOST", "internal_host", "127.0.0.1", parsers.text, "Address of the internal listener."),
    Setting("INTERNAL_PORT", "internal_port", "3001", _port, "Port of the internal listener; 0 = any."),
    Setting("HADIR_INSTANCE_ID", "instance_name", "", parsers.instance_name, "First part of its id; default: host."),
    Setting("MITRA_HEARTBEAT_INTERVAL_SECONDS", "heartbeat_interval_s", "20", seconds(), "Apps beat this often."),
    Setting("MITRA_HEARTBEAT_STALE_SECONDS", "heartbeat_stale_s", "60", seconds(), "A silence this long is a loss."),
    Setting("MITRA_OFFLINE_GRACE_SECONDS", "offline_grace_s", "15", seconds(0), "From a loss to offline."),
    Setting("MITRA_AUTO_OFFLINE_SWEEP_SECONDS", "auto_offline_sweep_s", "30", seconds(), "Search for the stale."),
    Setting("MITRA_AUTO_OFFLINE_MAX_FRACTION", "auto_offline_max_fraction", "0.3", parsers.fraction, "More is held."),
    Setting("MITRA_AUTO_OFFLINE_HOLD_SECONDS", "auto_offline_hold_s", "600", seconds(0), "Longest hold of expiry."),
    Setting("HEARTBEAT_MIRROR_INTERVAL_SECONDS", "heartbeat_mirror_interval_s", "60", seconds(), "Beats to Postgres."),
    Setting("VALKEY_ONLINE_MIRROR_SWEEP_SECONDS", "online_mirror_sweep_s", "300", seconds(), "Periodic reseed."),
    Setting("HEARTBEAT_FLUSH_MILLISECONDS", "heartbeat_flush_s", "200", parsers.milliseconds, "Write-behind of beats."),
    Setting("BEACON_CACHE_SECONDS", "beacon_cache_s", "10", seconds(), "How long a beacon's answer is valid."),
    Setting("PAIRING_TIMEOUT_SECONDS", "pairing_timeout_s", "60", seconds(0.5, 3600), "How long a pairing searches."),
    Setting("PAIRING_WAVE_SIZE", "pairing_wave_size", "50", whole(1, 1_000), "Mitras that a wave offers to."),
    Setting("PAIRING_WAVE_SECONDS", "pairing_wave_s", "8", seconds(0.2), "From one wave to the next."),
    Setting("PAIRING_MAX_OFFERS", "pairing_max_offers", "1000", whole(1, 10_000), "Offers of one pairing."),
    Setting("MITRA_MAX_OPEN_OFFERS", "mitra_max_open_offers", "5", whole(1, 100), "Open offers of one mitra."),
    Setting("PAYMENT_TIMEOUT_SECONDS", "payment_timeout_s", "600", seconds(0.5), "A session waits so long for it."),
    Setting("SESSION_SECONDS", "session_s", "1800", seconds(0.5), "What a payment buys."),
    Setting("XENDIT_CALLBACK_TOKEN", "xendit_callback_token", "", parsers.text, "Turns the webhook on.", secret=True),
    Setting("CONNECT_RATE_PER_SECOND", "connect_rate_per_s", "500", _rate, "New sockets a second, per instance."),
    Setting("MAX_CONNECTIONS", "max_connections", "", whole(1, 1_000_000), "Default: what descriptors allow."),
    Setting("SOCKET_MAX_AGE_SECONDS", "socket_max_age_s", "3000", seconds(1), "Sockets are rotated at this ± 10 %."),
    Setting("DRAIN_SECONDS", "drain_s", "8", seconds(0), "A stop sends sockets elsewhere within this time."),
    Setting("ALLOWED_ORIGINS", "allowed_origins", "", parsers.origins, "Browser origins let in; CORS.", unset=()),
    Setting("VALKEY_HASH_TAG", "valkey_hash_tag", "", parsers.hash_tag, "Hash tag of every key.", unset=""),
    Setting("PRESENCE_LOG_MONTHS", "presence_log_months", "13", whole(1, 240), "History is kept this long."),
    Setting("LOG_LEVEL", "log_level", "info", _level, "Least severity."),
    Setting("LOG_FORMAT", "log_format", "", parsers.one_of("json", "text"), "Default: json; text on a terminal."),
)


@dataclass(slots=True)
class Reading:
    """What an environment says: the fields that could be read, where each came from, and what is wrong."""

    fields: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def load(environ: Mapping[str, str], *, required: Iterable[str] = SERVE_REQUIRES, terminal: bool = False) -> Config:
    """The configuration that the environment says. Raises `ConfigError` naming every wrong variable."""
    reading = read(environ, required=required, terminal=terminal)
    if reading.problems:
        raise ConfigError(reading.problems)
    return Config(**reading.fields)


def read(environ: Mapping[str, str], *, required: Iterable[str] = SERVE_REQUIRES, terminal: bool = False) -> Reading:
    """Like `load`, for those who want to see a wrong environment too. `terminal`: people read the log."""
    reading = Reading()
    for setting in SETTINGS:
        try:
            value, reading.origins[setting.field] = _value(setting, environ, setting.name in required)
        except Wrong as wrong:
            reading.problems.append(f"{setting.name}: expected {wrong}.")
        else:
            reading.fields[setting.field] = value
    _ask_the_host(reading, terminal)
    if reading.fields.get("listeners") == {"internal"}:
        # Cloud Run gives a service one port: the internal service takes it.
        _inherit(reading, "internal_host", "host")
        _inherit(reading, "internal_port", "port")
    reading.problems.extend(_relations(reading.fields))
    return reading


def _value(setting: Setting, environ: Mapping[str, str], required: bool) -> tuple[Any, str]:
    """The value of a setting and where it came from. An empty variable counts as not set."""
    text, path = environ.get(setting.name, ""), environ.get(f"{setting.name}_FILE", "")
    origin = setting.name
    if text and path:
        raise Wrong(f"either {setting.name} or {setting.name}_FILE, got both")
    if path:
        origin = f"{setting.name}_FILE"
        try:
            text = Path(path).read_text().rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise Wrong(f"{origin} to name a readable file, got {error}") from None
    if not text and not required:
        origin = "default"
        if not setting.default:
            return setting.unset, origin
    try:
        return setting.parse(text or setting.default), origin
    except Wrong as wrong:
        if not text:
            raise Wrong(f"{wrong}, got nothing") from None
        raise Wrong(f"{wrong}" if setting.secret else f"{wrong}, got {text[:GOT_MAX]!r}") from None


def _ask_the_host(reading: Reading, terminal: bool) -> None:
    """Fills the defaults that the table cannot know."""
    defaults = {
        "instance_name": re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "hadir",
        "log_format": "text" if terminal else "json",
        "max_connections": descriptors_for_sockets(),
    }
    for name, default in defaults.items():
        if name in reading.fields and reading.fields[name] is None:
            reading.fields[name] = default


def _inherit(reading: Reading, own: str, public: str) -> None:
    if reading.origins.get(own) == "default" and public in reading.fields:
        reading.fields[own], reading.origins[own] = reading.fields[public], reading.origins[public]


def _relations(fields: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong between settings that are each right by themselves."""

    def known(*names: str) -> bool:
        return all(name in fields for name in names)

    if known("heartbeat_stale_s", "heartbeat_interval_s"):
        least_s = 2 * fields["heartbeat_interval_s"]
        if fields["heartbeat_stale_s"] < least_s:
            yield (
                "MITRA_HEARTBEAT_STALE_SECONDS: expected at least twice MITRA_HEARTBEAT_INTERVAL_SECONDS "
                f"({least_s:g}), so that one lost beat is no loss, got {fields['heartbeat_stale_s']:g}."
            )
    if known("heartbeat_flush_s", "heartbeat_interval_s"):
        most_s = fields["heartbeat_interval_s"] / 2
        if fields["heartbeat_flush_s"] > most_s:
            yield (
                "HEARTBEAT_FLUSH_MILLISECONDS: expected at most half of MITRA_HEARTBEAT_INTERVAL_SECONDS "
                f"({1000 * most_s:g}), got {1000 * fields['heartbeat_flush_s']:g}."
            )
    if known("max_connections") and fields["max_connections"] > (most := descriptors_for_sockets()):
        yield (
            f"MAX_CONNECTIONS: expected at most {most}, what the limit of open files leaves, "
            f"got {fields['max_connections']}."
        )
    if known("listeners", "host", "port", "internal_host", "internal_port") and _collide(fields):
        yield f"INTERNAL_PORT: expected another port than PORT, got {fields['port']} for both."


def _collide(fields: Mapping[str, Any]) -> bool:
    hosts = {fields["host"], fields["internal_host"]}
    return (
        len(fields["listeners"]) == 2
        and fields["port"] == fields["internal_port"] != 0
        and (len(hosts) == 1 or bool(hosts & {"0.0.0.0", "::"}))  # noqa: S104
    )


def _hard_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_OF_NO_LIMIT if hard == resource.RLIM_INFINITY else hard


def descriptors_for_sockets() -> int:
    """How many sockets the limit of open files leaves for."""
    return max(1, _hard_limit() - DESCRIPTOR_RESERVE)


def raise_descriptor_limit() -> int:
    """Raises this process's soft limit of open files to the hard one; answers it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, _hard_limit())
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def rows(reading: Reading) -> list[tuple[str, str, str]]:
    """(name, effective value, where it came from) of every setting; secrets and passwords in URLs are masked."""
    return [
        (
            setting.name,
            _shown(setting, reading.fields[setting.field]) if setting.field in reading.fields else "?",
            reading.origins.get(setting.field, "wrong"),
        )
        for setting in SETTINGS
    ]


def _shown(setting: Setting, value: Any) -> str:
    if value is None or value == "" or value == ():
        return "-"
    if setting.secret:
        return _masked(value)
    if isinstance(value, (frozenset, tuple)):
        return ",".join(sorted(value, reverse=True))
    if setting.name.endswith("_MILLISECONDS"):
        return f"{value * 1000:g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _masked(secret: str) -> str:
    """A URL keeps what helps to recognise it. The password ends at the last @: one may stand in it, unescaped."""
    if "://" not in secret:
        return "***"
    secret = re.sub(r"://([^:@/?]*):.*@", r"://\1:***@", secret)
    return re.sub(r"([?&][a-z]*password=)[^&]*", r"\1***", secret)


def deploy_capacity(config: Config, instances: int) -> tuple[int, int]:
    """Sockets that each of `instances` may hold so that a deploy (dips no count, takes nobody offline).

    While one drains, the others must take its sockets in at their connect rate (design, section 11).
    """
    others_per_s = (instances - 1) * config.connect_rate_per_s
    return round(others_per_s * config.drain_s), round(others_per_s * (config.drain_s + config.offline_grace_s))

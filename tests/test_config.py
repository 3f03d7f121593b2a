"""The environment: what is read, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import pytest

from hadir.config import (
    DESCRIPTOR_RESERVE,
    SETTINGS,
    Config,
    deploy_capacity,
    load,
    raise_descriptor_limit,
    read,
    rows,
)
from hadir.errors import ConfigError

NEEDED = {
    "DATABASE_URL": "postgresql://hadir:open-sesame@db:5432/hadir",
    "VALKEY_URL": "redis://:open-sesame@valkey:6379",
    "AUTH_JWT_SECRET": "open-sesame, all thirty-two bytes",
}


def loaded(**settings: str) -> Config:
    return load(NEEDED | settings)


def problems(**settings: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(**settings)
    return caught.value.problems


def the_problem(**settings: str) -> str:
    (problem,) = problems(**settings)
    return problem


def test_defaults_are_those_of_the_design() -> None:
    config = loaded()
    assert (config.host, config.port, config.internal_host, config.internal_port) == (
        "0.0.0.0",
        3000,
        "127.0.0.1",
        3001,
    )
    assert config.listeners == {"public", "internal"}
    assert (config.heartbeat_interval_s, config.heartbeat_stale_s, config.offline_grace_s) == (20, 60, 15)
    assert (config.auto_offline_sweep_s, config.auto_offline_max_fraction, config.auto_offline_hold_s) == (
        30,
        0.3,
        600,
    )
    assert (config.heartbeat_mirror_interval_s, config.online_mirror_sweep_s) == (60, 300)
    assert (config.heartbeat_flush_s, config.beacon_cache_s) == (0.2, 10)
    assert (config.connect_rate_per_s, config.socket_max_age_s, config.drain_s) == (500, 3000, 8)
    assert config.allowed_origins == ()
    assert (config.database_pool_max, config.database_pooler) == (10, "none")
    assert (config.valkey_hash_tag, config.presence_log_months, config.log_level) == ("", 13, "info")
    assert config.auth_jwt_secret_previous is config.auth_jwt_issuer is config.auth_jwt_audience is None


def test_every_field_is_filled_by_exactly_one_setting() -> None:
    assert sorted(setting.field for setting in SETTINGS) == sorted(f.name for f in dataclasses.fields(Config))
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)


def test_missing_variables_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        load({})
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "DATABASE_URL",
        "VALKEY_URL",
        "AUTH_JWT_SECRET",
    ]
    assert all(line.endswith("got nothing.") for line in caught.value.problems)


def test_a_command_that_needs_less_asks_for_less() -> None:
    assert load({"DATABASE_URL": NEEDED["DATABASE_URL"]}, required=["DATABASE_URL"]).valkey_url == ""


def test_what_is_not_needed_must_still_be_right_when_it_is_there() -> None:
    with pytest.raises(ConfigError, match="VALKEY_URL"):
        load({"VALKEY_URL": "memcached://x"}, required=[])


def test_wrong_values_and_wrong_relations_are_reported_together() -> None:
    lines = problems(PORT="http", MITRA_HEARTBEAT_INTERVAL_SECONDS="40", DATABASE_POOLER="pgpool")
    assert [line.split(":")[0] for line in lines] == ["DATABASE_POOLER", "PORT", "MITRA_HEARTBEAT_STALE_SECONDS"]


def test_seconds_may_be_decimals() -> None:
    assert loaded(MITRA_OFFLINE_GRACE_SECONDS="0.5").offline_grace_s == 0.5
    assert loaded(MITRA_OFFLINE_GRACE_SECONDS="0").offline_grace_s == 0


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e3", "1_0", "ten", "1,5", "1 ", "999999"])
def test_seconds_are_plain_numbers(text: str) -> None:
    assert the_problem(DRAIN_SECONDS=text) == f"DRAIN_SECONDS: expected seconds from 0 to 86400, got {text!r}."


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    config = loaded(PORT="", AUTH_JWT_ISSUER="", VALKEY_HASH_TAG="", HADIR_INSTANCE_ID="")
    assert (config.port, config.auth_jwt_issuer, config.valkey_hash_tag) == (3000, None, "")
    assert config.instance_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", "mysql://db/hadir"),
        ("DATABASE_URL", "postgresql://"),
        ("VALKEY_URL", "http://valkey:6379"),
        ("VALKEY_URL", "redis://"),
        ("VALKEY_URL", "redis://valkey:port"),
        ("VALKEY_URL", "redis://[valkey"),
        ("AUTH_JWT_SECRET", "x" * 31),
        ("AUTH_JWT_SECRET_PREVIOUS", "short"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("HADIR_LISTENERS", "public,private"),
        ("HADIR_LISTENERS", ","),
        ("HADIR_INSTANCE_ID", "two words"),
        ("MITRA_AUTO_OFFLINE_MAX_FRACTION", "0"),
        ("MITRA_AUTO_OFFLINE_MAX_FRACTION", "1.1"),
        ("VALKEY_HASH_TAG", "{hadir}"),
        ("ALLOWED_ORIGINS", "app.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com/"),
        ("ALLOWED_ORIGINS", "https://app.example.com:99999"),
        ("ALLOWED_ORIGINS", "*"),
        ("DATABASE_POOL_MAX", "1.5"),
        ("LOG_FORMAT", "xml"),
        ("MAX_CONNECTIONS", "0"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(name: str, text: str) -> None:
    line = the_problem(**{name: text})
    assert line.startswith(f"{name}: expected ")
    assert "\n" not in line


def test_a_secret_is_never_repeated() -> None:
    for name in ("DATABASE_URL", "VALKEY_URL", "AUTH_JWT_SECRET", "AUTH_JWT_SECRET_PREVIOUS"):
        assert "sesame" not in the_problem(**{name: "open-sesame"})


def test_addresses_that_platforms_hand_out_are_taken() -> None:
    for url in (
        "postgresql://u:p@/hadir?host=/cloudsql/p:r:i",
        "postgres://h1:1,h2:2/hadir",
        "postgresql://[::1]/x",
    ):
        assert loaded(DATABASE_URL=url).database_url == url
    for url in ("rediss://:p@10.0.0.3:6378", "valkey://valkey", "redis://[::1]:6379/0"):
        assert loaded(VALKEY_URL=url).valkey_url == url


def test_origins_are_compared_as_browsers_write_them() -> None:
    config = loaded(ALLOWED_ORIGINS="https://App.Example.com:443, http://localhost:8080,http://[::1]:80,")
    assert config.allowed_origins == ("https://app.example.com", "http://localhost:8080", "http://[::1]")


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" kept as it is, but for the line's end \n")
    environ = {**NEEDED, "AUTH_JWT_SECRET": "", "AUTH_JWT_SECRET_FILE": str(file)}
    assert load(environ).auth_jwt_secret == " kept as it is, but for the line's end "


def test_a_file_and_a_value_at_once_are_a_contradiction(tmp_path: Path) -> None:
    assert "got both" in the_problem(AUTH_JWT_SECRET_FILE=str(tmp_path / "secret"))


def test_a_file_that_cannot_be_read_is_a_problem_of_its_variable(tmp_path: Path) -> None:
    assert the_problem(LOG_LEVEL_FILE=str(tmp_path / "none")).startswith("LOG_LEVEL: expected LOG_LEVEL_FILE to name")


def test_stale_is_at_least_two_intervals() -> None:
    assert "(40)" in the_problem(MITRA_HEARTBEAT_STALE_SECONDS="39.9")
    assert loaded(MITRA_HEARTBEAT_STALE_SECONDS="40").heartbeat_stale_s == 40


def test_beats_are_flushed_well_within_an_interval() -> None:
    assert "(200)" in the_problem(MITRA_HEARTBEAT_INTERVAL_SECONDS="0.4", HEARTBEAT_FLUSH_MILLISECONDS="201")


def test_listeners_that_would_collide_are_refused() -> None:
    assert the_problem(PORT="3001").startswith("INTERNAL_PORT: ")
    assert loaded(HOST="10.0.0.1", PORT="3001").internal_port == 3001
    assert loaded(PORT="0", INTERNAL_PORT="0").internal_port == 0


def test_internal_alone_takes_the_one_port_there_is() -> None:
    config = loaded(HADIR_LISTENERS="internal", PORT="8080", HOST="10.0.0.1")
    assert (config.internal_host, config.internal_port) == ("10.0.0.1", 8080)
    config = loaded(HADIR_LISTENERS="internal", PORT="8080", INTERNAL_PORT="9090", INTERNAL_HOST="")
    assert (config.internal_host, config.internal_port) == ("0.0.0.0", 9090)
    assert loaded(PORT="8080").internal_port == 3001


def test_the_descriptor_limit_bounds_the_sockets() -> None:
    limit = raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit
    assert loaded().max_connections == limit - DESCRIPTOR_RESERVE
    assert f"at most {limit - DESCRIPTOR_RESERVE}" in the_problem(MAX_CONNECTIONS=str(limit))


def test_the_log_is_text_where_people_read_it() -> None:
    assert load(NEEDED).log_format == "json"
    assert load(NEEDED, terminal=True).log_format == "text"
    assert load(NEEDED | {"LOG_FORMAT": "JSON"}, terminal=True).log_format == "json"


def test_long_grace_leaves_time_to_notice_a_dead_server() -> None:
    assert loaded().long_grace_s == 50
    assert loaded(MITRA_OFFLINE_GRACE_SECONDS="90").long_grace_s == 90


def test_shown_rows_keep_secrets() -> None:
    url = "postgresql://hadir:sesame/of@sesame@db/hadir?sslmode=require&password=sesame"
    environ = NEEDED | {"DATABASE_URL": url, "AUTH_JWT_SECRET_PREVIOUS": "sesame" * 6}
    shown = {name: value for name, value, _ in rows(read(environ))}
    assert "sesame" not in str(shown)
    assert shown["DATABASE_URL"] == "postgresql://hadir:***@db/hadir?sslmode=require&password=***"
    assert shown["VALKEY_URL"] == "redis://:***@valkey:6379"
    assert shown["HEARTBEAT_FLUSH_MILLISECONDS"] == "200"
    assert shown["AUTH_JWT_ISSUER"] == "-"


def test_shown_rows_say_where_a_value_came_from_and_which_is_wrong() -> None:
    reading = read(NEEDED | {"PORT": "http", "HOST": "10.0.0.1"})
    found = {name: (value, origin) for name, value, origin in rows(reading)}
    assert found["PORT"] == ("?", "wrong")
    assert found["HOST"] == ("10.0.0.1", "HOST")
    assert found["DRAIN_SECONDS"] == ("8", "default")
    assert len(reading.problems) == 1


def test_capacity_of_a_deploy_is_the_rule_of_the_design() -> None:
    assert deploy_capacity(loaded(), 3) == (8_000, 23_000)
    assert deploy_capacity(loaded(), 1) == (0, 0)

"""The command line as people meet it: real processes, their output, their exit codes."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import jwt
import pytest

from hadir.dev.accounts import create_account
from hadir.dev.embedded import EmbeddedValkey

ROOT = Path(__file__).parent.parent
SECRET = "open-sesame, all thirty-two bytes"
MITRA = "6f0c2a52-7a52-4f6e-9b53-0d3c7f2f1c11"
NOWHERE = "postgresql://hadir:sesame@127.0.0.1:1/hadir"
ENVIRONMENT = {"DATABASE_URL": NOWHERE, "VALKEY_URL": "redis://127.0.0.1:1", "AUTH_JWT_SECRET": SECRET}


@dataclass(frozen=True)
class Ended:
    code: int | None
    out: str
    err: str


async def hadir(*arguments: str, **environ: str) -> Ended:
    """Runs `hadir` with nothing in its environment but what is given."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "hadir", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def connection(database: str) -> asyncpg.Connection:
    return await asyncpg.connect(database)


async def test_help_names_every_command() -> None:
    ended = await hadir("--help")
    assert ended.code == 0
    for command in ("serve", "migrate", "verify", "token", "dev", "simulate", "config", "bench"):
        assert f"\n    {command} " in ended.out


@pytest.mark.parametrize("command", ["serve", "migrate", "verify", "token", "dev", "simulate", "config", "bench"])
async def test_every_command_explains_itself(command: str) -> None:
    ended = await hadir(command, "--help")
    assert ended.code == 0
    assert f"usage: hadir {command}" in ended.out


async def test_simulate_says_what_it_needs() -> None:
    ended = await hadir("simulate", "--help")
    assert "DATABASE_URL and AUTH_JWT_SECRET" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["token", "--role", "mitra"],
        ["token", "--role", "admin", "--sub", MITRA],
        ["token", "--role", "mitra", "--sub", "me"],
        ["token", "--role", "mitra", "--sub", MITRA, "--ttl", "0"],
        ["dev", "--instances", "0"],
        ["dev", "--mitras", "-1"],
        ["simulate"],
    ],
)
async def test_wrong_arguments_end_with_2_and_without_a_traceback(arguments: list[str]) -> None:
    ended = await hadir(*arguments, **ENVIRONMENT)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("usage: hadir")
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["serve"], ["DATABASE_URL", "VALKEY_URL", "AUTH_JWT_SECRET"]),
        (["verify"], ["DATABASE_URL", "VALKEY_URL"]),
        (["migrate"], ["DATABASE_URL"]),
        (["token", "--role", "viewer", "--sub", MITRA], ["DATABASE_URL", "AUTH_JWT_SECRET"]),
    ],
)
async def test_a_wrong_environment_ends_with_2_and_one_line_a_variable(arguments: list[str], needed: list[str]) -> None:
    ended = await hadir(*arguments, PORT="http")
    assert ended.code == 2
    assert sorted(line.split(":")[0] for line in ended.err.splitlines()) == sorted([*needed, "PORT"])
    assert ended.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["migrate"],
        ["migrate", "--check"],
        ["verify"],
        ["token", "--role", "viewer", "--sub", MITRA],
        ["simulate", "--url", "http://127.0.0.1:1"],
    ],
)
async def test_a_store_that_is_away_is_one_sentence_and_exit_1(arguments: list[str]) -> None:
    ended = await hadir(*arguments, **ENVIRONMENT)
    assert (ended.code, ended.out) == (1, "")
    (line,) = ended.err.splitlines()
    assert line.startswith(f"hadir {arguments[0]}: Postgres cannot be reached")


async def test_a_refusal_of_postgres_is_one_sentence(database: str) -> None:
    ended = await hadir("migrate", DATABASE_URL=database + "_that_is_not_there")
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("hadir migrate: Postgres ")
    assert "does not exist" in line


async def test_migrate_applies_once_and_check_only_looks(empty_database: str) -> None:
    checked = await hadir("migrate", "--check", DATABASE_URL=empty_database)
    assert checked.code == 1
    assert "hadir migrate" in checked.err
    applied = await hadir("migrate", DATABASE_URL=empty_database)
    assert applied.code == 0, applied.err
    assert applied.out.startswith("Applied 0001_")
    for arguments in (["migrate"], ["migrate", "--check"]):
        again = await hadir(*arguments, DATABASE_URL=empty_database)
        assert (again.code, again.out) == (0, "The schema is up to date.\n")


async def test_many_may_migrate_at_once(empty_database: str) -> None:
    ended = await asyncio.gather(*(hadir("migrate", DATABASE_URL=empty_database) for _ in range(3)))
    assert [one.code for one in ended] == [0, 0, 0]
    assert "".join(one.out for one in ended).count("Applied 0001_") == 1


async def test_serve_runs_until_it_is_asked_to_stop_and_logs_events(database: str, valkey: EmbeddedValkey) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "hadir", "serve"),
        stderr=asyncio.subprocess.PIPE,
        env={
            "DATABASE_URL": database,
            "VALKEY_URL": valkey.url,
            "AUTH_JWT_SECRET": SECRET,
            "HOST": "127.0.0.1",
            "PORT": "0",
            "INTERNAL_PORT": "0",
            "DRAIN_SECONDS": "0",
        },
    )
    assert process.stderr is not None
    events = []
    try:
        async with asyncio.timeout(30):
            async for line in process.stderr:
                events.append(json.loads(line)["event"])
                if events[-1] == "node.ready":
                    process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert events.index("node.ready") < events.index("node.drained")


async def test_config_shows_everything_but_secrets() -> None:
    ended = await hadir("config", **ENVIRONMENT, DRAIN_SECONDS="4")
    assert ended.code == 0
    assert "sesame" not in ended.out
    shown = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines() if line}
    assert shown["DATABASE_URL"] == ["postgresql://hadir:***@127.0.0.1:1/hadir"]
    assert shown["DRAIN_SECONDS"] == ["4"]
    assert shown["LOG_FORMAT"] == ["json", "(default)"]
    assert shown["3"] == ["4000", "19000"]


async def test_config_shows_a_wrong_environment_too() -> None:
    ended = await hadir("config", HADIR_LISTENERS="everything")
    assert ended.code == 2
    assert "HADIR_LISTENERS" in ended.out
    assert len(ended.err.splitlines()) == 4


async def test_bench_lists_what_there_is() -> None:
    ended = await hadir("bench")
    assert (ended.code, ended.err) == (0, "")
    listed = dict(line.split(maxsplit=1) for line in ended.out.splitlines())
    assert {"performance", "liveness", "search", "pairing", "deaths"} <= listed.keys()
    assert "__init__" not in listed
    assert listed["performance"].startswith("What a socket, a beat, a connect"), "each says what it measures"


async def test_bench_hands_everything_behind_the_name_on() -> None:
    ended = await hadir("bench", "performance", "--help", PYTHONPATH="elsewhere")
    assert ended.code == 0
    assert "What a socket, a beat, a connect" in ended.out
    wrong = await hadir("bench", "performance", "--sockets", "many")
    assert wrong.code == 2
    assert "many" in wrong.err


async def test_bench_of_what_there_is_not() -> None:
    ended = await hadir("bench", "everything")
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert re.fullmatch(r"Expected one of .*\bperformance\b.*, got 'everything'\.", line)


async def test_bench_of_an_installed_wheel(tmp_path: Path) -> None:
    """There the package stands alone."""
    shutil.copytree(ROOT / "hadir", tmp_path / "hadir", ignore=shutil.ignore_patterns("__pycache__"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "hadir", "bench", "deaths"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    (line,) = err.decode().splitlines()
    assert line.endswith("benchmarks are part of a checkout, not of a wheel.")


@pytest.mark.parametrize("role", ["mitra", "customer", "operator", "viewer"])
async def test_token_prints_a_token_alone_and_creates_what_it_names(
    database: str, connection: asyncpg.Connection, role: str
) -> None:
    ended = await hadir(
        *("token", "--role", role, "--sub", MITRA.upper(), "--ttl", "90"),
        DATABASE_URL=database,
        AUTH_JWT_SECRET=SECRET,
    )
    assert (ended.code, ended.err) == (0, "")
    (token,) = ended.out.splitlines()
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["exp", "iat"]})
    assert (claims["sub"], claims["role"], claims["exp"] - claims["iat"]) == (MITRA, role, 90)
    session = await connection.fetchrow("SELECT * FROM auth_sessions WHERE id = $1", claims["sid"])
    assert session is not None
    assert (str(session["subject_id"]), session["role"], session["revoked_at"]) == (MITRA, role, None)
    created = {
        "mitra": await connection.fetchval("SELECT count(*) FROM mitra_presence"),
        "customer": await connection.fetchval("SELECT count(*) FROM customers"),
    }
    assert created == {"mitra": role == "mitra", "customer": role == "customer"}


async def test_token_needs_the_schema(empty_database: str) -> None:
    ended = await hadir(
        *("token", "--role", "mitra", "--sub", MITRA), DATABASE_URL=empty_database, AUTH_JWT_SECRET=SECRET
    )
    assert ended.code == 1
    assert "hadir migrate" in ended.err


async def test_an_account_is_created_once_and_gets_a_session_each_time(connection: asyncpg.Connection) -> None:
    await connection.execute("INSERT INTO mitras (id, display_name) VALUES ($1, 'Sari')", MITRA)
    sids = {await create_account(connection, "mitra", MITRA) for _ in range(2)}
    found = await connection.fetch("SELECT id FROM auth_sessions WHERE subject_id = $1 AND expires_at > now()", MITRA)
    assert {str(record["id"]) for record in found} == sids
    assert len(sids) == 2
    assert await connection.fetchval("SELECT display_name FROM mitras") == "Sari"

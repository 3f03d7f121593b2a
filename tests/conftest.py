"""Real servers: one PostgreSQL a session with a fresh database a test, one Valkey a test."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
import uvloop
from xdist.scheduler import LoadScopeScheduling

from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.support.company import in_company, new_valkey
from tests.support.system import FAST

NO_SKIP = os.environ.get("HADIR_TESTS_NO_SKIP") == "1"
ROOT = Path(__file__).parent.parent
HEAVY = (
    "tests/browser/test_access.py::test_axe_finds_nothing_serious",
    "tests/browser/test_acting.py::test_deactivating_takes_less_than_a_second",
    "tests/db/test_plans.py",
    "tests/dev/test_command.py",
    "tests/dev/test_market.py",
    "tests/faults/test_history.py",
    "tests/faults/test_one_winner.py",
    "tests/faults/test_online_hours.py",
    "tests/faults/test_under_load.py",
    "tests/foreign/test_foreign.py",
    "tests/realtime/test_timers.py",
)
"""These take all cores, or judge by the clock: one process of several (`-n`) runs all of them, never two at once."""


MAKING = ThreadPoolExecutor(1)
SPARES: dict[EmbeddedPostgres, Future[str]] = {}
"""A database for the next test."""


class HeavyOnes(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types
    """Pytest-xdist's scheduler by scopes, where all that is heavy is one and every other test one of its own.

    It begins with the largest, so that nobody waits for the heavy ones at the end. Not `--dist loadgroup`: with
    pytest 9.2 that silently makes no groups (pytest-xdist #1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return "heavy" if nodeid.startswith(HEAVY) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> HeavyOnes | None:
    for path, _, test in (each.partition("::") for each in HEAVY):
        assert f"def {test}" in (ROOT / path).read_text(), f"{path}::{test} was renamed and would run beside the others"
    return HeavyOnes(config, log) if config.getoption("dist") == "load" else None


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although HADIR_TESTS_NO_SKIP=1: {report.longrepr}"
    return report


def make_folder() -> Path:
    """A folder that the unprivileged user of an embedded PostgreSQL can reach."""
    folder = Path(tempfile.mkdtemp(prefix="hadir-test-"))
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"processes left behind: {left}"


@pytest.fixture(scope="session")
def postgres_server(nothing_left_behind: None) -> Iterator[EmbeddedPostgres]:
    folder = make_folder()
    server = EmbeddedPostgres(folder / "postgres", fsync=False)
    asyncio.run(_start_with_template(server))
    yield server
    if (spare := SPARES.pop(server, None)) is not None:
        spare.exception()
    asyncio.run(server.stop())
    shutil.rmtree(folder)


async def _start_with_template(server: EmbeddedPostgres) -> None:
    await server.start()
    await _administer(server, "CREATE DATABASE template_hadir")
    await migrate(server.url_of("template_hadir"))


async def _administer(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def nothing_is_made(server: EmbeddedPostgres) -> None:
    """The next database is there: a transaction anywhere in a cluster keeps pages of all its databases from pruning."""
    await asyncio.shield(asyncio.wrap_future(SPARES[server]))


async def fresh_database(server: EmbeddedPostgres) -> AsyncIterator[str]:
    made = SPARES.pop(server) if server in SPARES else MAKING.submit(_make_database, server)
    name = await asyncio.wrap_future(made)
    SPARES[server] = MAKING.submit(_make_database, server)  # the next one, while this test runs
    yield server.url_of(name)
    await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _make_database(server: EmbeddedPostgres) -> str:
    name = f"test_{secrets.token_hex(6)}"
    asyncio.run(_administer(server, f"CREATE DATABASE {name} TEMPLATE template_hadir STRATEGY file_copy"))
    return name


@pytest.fixture
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a fresh, migrated database."""
    folder = make_folder()
    async with asynccontextmanager(fresh_database)(postgres_server) as url, in_company(folder, postgres_server):
        yield url
    shutil.rmtree(folder)


@pytest.fixture
async def empty_database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a fresh database without our schema."""
    name = f"test_{secrets.token_hex(6)}"
    await _administer(postgres_server, f"CREATE DATABASE {name}")
    yield postgres_server.url_of(name)
    await _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def own_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A private, migrated PostgreSQL that a test may kill, freeze or restart."""
    folder = make_folder()
    server = EmbeddedPostgres(folder / "postgres", fsync=False)
    await server.start()
    await migrate(server.url)
    async with in_company(folder, server):
        yield server
    await server.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=("direct", "asgi"))
def carried(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings for both ways in which frames are carried."""
    return FAST | {"HADIR_SOCKETS": request.param}


@pytest.fixture
async def valkey() -> AsyncIterator[EmbeddedValkey]:
    """A private Valkey that a test may kill, freeze or restart."""
    folder = Path(tempfile.mkdtemp(prefix="hadir-test-"))
    server = new_valkey(folder)
    await server.start()
    async with in_company(folder, server):
        yield server
    await server.stop()
    shutil.rmtree(folder)

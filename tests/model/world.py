"""The simulated world: real instances (`hadir.realtime.node`) on a virtual clock, with simulated stores and apps.

Everything that this program decides is decided by its own code; what it talks to is simulated, and everything that
can go wrong does, as the seed has it. The same seed makes the same world, step by step.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from datetime import timedelta
from random import Random
from types import TracebackType
from typing import Any, Self

from hadir.config import Config, load
from hadir.realtime import bus, node, timers, valkey
from hadir.realtime.market import Market
from hadir.realtime.node import Node
from hadir.realtime.presence import AuthSession, Row
from hadir.realtime.rows import COLUMNS
from tests.model.app import App
from tests.model.checks import Checks
from tests.model.customer import Customer
from tests.model.loop import PROCESS, Process, VirtualLoop
from tests.model.postgres import EPOCH, Pool, Truth
from tests.model.server import Client, Line, Server

MITRAS_MAX = 100
"""Of more than these no more customers come."""

BRISK = {
    "MITRA_HEARTBEAT_INTERVAL_SECONDS": "5",
    "MITRA_HEARTBEAT_STALE_SECONDS": "20",
    "MITRA_OFFLINE_GRACE_SECONDS": "6",
    "MITRA_AUTO_OFFLINE_SWEEP_SECONDS": "5",
    "MITRA_AUTO_OFFLINE_HOLD_SECONDS": "30",
    "HEARTBEAT_MIRROR_INTERVAL_SECONDS": "15",
    "VALKEY_ONLINE_MIRROR_SWEEP_SECONDS": "60",
    "HEARTBEAT_FLUSH_MILLISECONDS": "500",
    "SOCKET_MAX_AGE_SECONDS": "300",
    "DRAIN_SECONDS": "4",
    "PAIRING_TIMEOUT_SECONDS": "12",
    "PAIRING_WAVE_SIZE": "3",
    "PAIRING_WAVE_SECONDS": "3",
    "PAYMENT_TIMEOUT_SECONDS": "15",
    "SESSION_SECONDS": "20",
}
"""Short durations, so that more happens in as many steps."""


LOOK_S = 2.0
"""How often timers look here: they are one part among many, and steps are counted."""


class ModelMarket(Market):
    """Without the timer of payments: what the provider says is another program's write here."""

    @property
    def runs(self) -> Any:
        return [self.bell.run, self._waves.run, self._expiries.run, self._ends.run]


class ModelNode(Node):
    async def _check_schema(self) -> None:
        await self.postgres.fetchval("SELECT clock_timestamp()")


class Host(Process):
    """A simulated process with one instance in it."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__()
        self.world = world
        self.name = name
        self.node: Node | None = None
        self.postgres_line, self.valkey_line = Line(), Line()
        self.pool = Pool(world.truth, self.postgres_line, world.dice)
        self.fine_since: float | None = None
        """Since when it has been able to keep its mitras online."""
        self.left = False
        self._context = copy_context()
        self._context.run(PROCESS.set, self)
        self._stop = asyncio.Event()
        self._main = world.loop.create_task(self._live(), context=self._context)

    async def _live(self) -> None:
        environment = {
            "DATABASE_URL": "postgresql://model/model",
            "VALKEY_URL": "valkey://model",
            "AUTH_JWT_SECRET": "a-secret-of-the-model-that-is-long-enough",
            "HADIR_INSTANCE_ID": self.name,
            "MAX_CONNECTIONS": "10000",
            **self.world.settings,
        }
        made = ModelNode(load(environment), lambda token: None)  # type: ignore[arg-type,return-value] # no tokens
        async with made:
            self.node = made
            await self._stop.wait()
            await made.drain()
        self.left = True

    @property
    def is_up(self) -> bool:
        return not (self.killed or self.left)

    @property
    def takes_sockets(self) -> bool:
        """What a load balancer sees."""
        held = self.node
        return self.is_up and not self.frozen and held is not None and held.state == "ready"

    def later(self, delay_s: float, what: Callable[..., object], *args: Any) -> None:
        """In this process, if it still lives then; while it is frozen, afterwards."""
        self.world.loop.call_at(self.world.now + delay_s, self._run, what, args, context=self._context)

    def spawn(self, delay_s: float, work: Callable[..., Coroutine[None, None, None]], *args: Any) -> None:
        self.later(delay_s, lambda: self.world.keep(self.world.loop.create_task(work(*args), context=self._context)))

    def _run(self, what: Callable[..., object], args: tuple[Any, ...]) -> None:
        if not self.killed:
            what(*args)

    def stop(self) -> None:
        self.later(0.0, self._stop.set)

    def kill(self) -> None:
        """What it still does cannot reach anybody."""
        self.killed = True
        self.postgres_line.cut = self.valkey_line.cut = True
        self.pool.abandon()
        if self.frozen:
            self.world.loop.thaw(self)
        self._main.cancel()

    def client(self) -> Client:
        return Client(self.world.server, self.valkey_line)


class World:
    """Use `with`. Faults and what people do are verbs; `run` lets time go by; `checks` says what went wrong."""

    def __init__(
        self, seed: int, *, instances: int = 3, mitras: int = 60, http: float = 0.1, settings: dict[str, str] = BRISK
    ) -> None:
        self.seed = seed
        self.settings = settings
        self._size = instances, mitras, http
        self.dice = Random(seed)
        self.loop = VirtualLoop()  # type: ignore[abstract] # what nothing here asks for raises NotImplementedError
        self.server = Server(self.loop, self.dice)
        self.checks = Checks(self)
        self.truth = Truth(self.loop, self.checks.committed)
        self.truth.bazaar.on_decided = self.checks.decided
        self.hosts: list[Host] = []
        self.dead: list[Host] = []
        self.apps: dict[str, App] = {}
        self.customers: list[Customer] = []
        self.trace = hashlib.sha256()
        self.crashes: list[str] = []
        self.watch = ""
        """Whose story is printed: a part of a mitra's id; * for all."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._logins = 0

    def __enter__(self) -> Self:
        patches: list[tuple[Any, str, Any]] = [
            (time, "monotonic", self.loop.time),
            (secrets, "token_hex", lambda size=8: f"{self.dice.getrandbits(8 * size):0{2 * size}x}"),
            (secrets, "randbelow", self.dice.randrange),
            (uuid, "uuid4", lambda: uuid.UUID(int=self.dice.getrandbits(128))),
            (timers, "LOOK_S", LOOK_S),
            (node, "Postgres", lambda *_, **__: self._here().pool),
            (node, "Market", ModelMarket),
            (valkey, "connect", lambda *_, **__: self._here().client()),
            (bus, "connect", lambda *_, **__: self._here().client()),
        ]
        self._kept = [(where, name, getattr(where, name)) for where, name, _ in patches]
        for where, name, new in patches:
            setattr(where, name, new)
        self._listener = _Listener(self.crashes)
        log = logging.getLogger("hadir")
        self._log = log.level, log.propagate
        log.setLevel(logging.ERROR)
        log.propagate = False
        log.addHandler(self._listener)
        self.config: Config = load(
            {
                "DATABASE_URL": "postgresql://model/model",
                "VALKEY_URL": "valkey://model",
                "AUTH_JWT_SECRET": "a-secret-of-the-model-that-is-long-enough",
                **self.settings,
            }
        )
        instances, mitras, http = self._size
        for n in range(mitras):
            self._make_mitra(n, n < http * mitras)
        self.customers = [Customer(self, n) for n in range(max(3, min(mitras, MITRAS_MAX) // 4))]
        for n in range(instances):
            self.start_instance(f"i{n}")
        self.every(1.0, self.checks.look)
        self.every(30.0, self._copy)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            for where, name, old in self._kept:
                setattr(where, name, old)
            log = logging.getLogger("hadir")
            log.removeHandler(self._listener)
            log.level, log.propagate = self._log

    def _end(self) -> None:
        """Every task ends as it would if its process was told to."""
        self.checks.over = True
        for host in self.hosts:
            host.kill()
        for _ in range(3):
            self.loop.uncaught.clear()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until(self.now + 10.0)
        assert not asyncio.all_tasks(self.loop)

    def _make_mitra(self, n: int, over_http: bool) -> None:
        mitra_id = f"{n:08x}-0000-4000-8000-000000000000"
        nothing: dict[str, Any] = dict.fromkeys(COLUMNS)
        fields = {
            "is_active": True,
            "wants_online": True,
            "is_online": False,
            "open_sessions": 0,
            "max_sessions": 1 + n % 2,
        }
        more = {"mitra_id": mitra_id, "version": n + 1, "changed_at": EPOCH, "reason": "created"}
        self.truth.insert(Row(**nothing | fields | more))
        app = self.apps[mitra_id] = App(self, mitra_id, self._login(mitra_id), over_http=over_http)
        self.after(self.dice.uniform(3, 10), app.come)

    def _login(self, mitra_id: str) -> str:
        self._logins += 1
        sid = f"{self._logins:08x}-0000-4000-8000-00000000000f"
        self.truth.logins[sid] = AuthSession(mitra_id, "mitra", EPOCH + timedelta(days=999), None)
        return sid

    def _here(self) -> Host:
        process = PROCESS.get()
        assert isinstance(process, Host)
        return process

    # time

    @property
    def now(self) -> float:
        return self.loop.now

    def moment(self) -> float:
        """How long the network takes between an app and an instance."""
        return self.dice.uniform(0.01, 0.1)

    def after(self, delay_s: float, what: Callable[..., object], *args: Any) -> None:
        self.loop.outside(delay_s, what, *args)

    def every(self, period_s: float, what: Callable[[], object]) -> None:
        def again() -> None:
            what()
            self.after(period_s, again)

        self.after(period_s, again)

    def run(self, seconds: float, *, steps: int | None = None) -> None:
        self.loop.run_until(self.now + seconds, steps=steps)
        if self.crashes:
            self.checks.fail("no defects", "; ".join(self.crashes))

    def keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def note(self, *what: object) -> None:
        self.trace.update(repr((round(self.now, 6), *what)).encode())
        if self.watch and (self.watch == "*" or any(self.watch in str(each) for each in what)):
            print(f"{self.now:10.3f}", *what)

    def _copy(self) -> None:
        self.server.old = self.server.database.copy()

    # what apps see

    def some_host(self, app: object) -> Host | None:
        up = [host for host in self.hosts if host.takes_sockets]
        return self.dice.choice(up) if up else None

    def sent_away(self, app: App) -> None:
        """Its mitra logs in anew, if the control centre lets it."""
        self.after(self.dice.uniform(5, 30), self._log_in, app)

    def _log_in(self, app: App) -> None:
        if app.banned:
            if not self.truth.rows[app.mitra_id].is_active:
                self.truth.write(app.mitra_id, is_active=True, reason="operator")
                self.after(5.0, self._log_in, app)
                return
            app.log_in(self._login(app.mitra_id))
            app.come()

    # instances

    def start_instance(self, name: str) -> None:
        self.hosts.append(self._in_loop(lambda: Host(self, name)))

    def _in_loop(self, what: Callable[[], Host]) -> Host:
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        try:
            return Context().run(what)
        finally:
            asyncio._set_running_loop(running)


class _Listener(logging.Handler):
    """Keeps what was logged with a traceback: a defect that a supervised loop survived."""

    def __init__(self, crashes: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._crashes = crashes

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._crashes.append(logging.Formatter().format(record))

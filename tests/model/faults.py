"""What goes wrong, what mitras do, and what customers wish: each with whom it meets and how long it lasts."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.model.app import App
    from tests.model.customer import Customer
    from tests.model.market import Work
    from tests.model.server import Line
    from tests.model.world import Host, World

Fault = Callable[["World", int, float], None]
FAULTS: dict[str, Fault] = {}
DEEDS: dict[str, Fault] = {}
WISHES: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def deed(function: Fault) -> Fault:
    DEEDS[function.__name__] = function
    return function


def wish(function: Fault) -> Fault:
    WISHES[function.__name__] = function
    return function


def _host(world: World, who: int) -> Host | None:
    """One that is up, while another one is left."""
    up = [host for host in world.hosts if host.is_up]
    return up[who % len(up)] if len(up) > 1 else None


def _app(world: World, who: int) -> App:
    apps = list(world.apps.values())
    return apps[who % len(apps)]


# instances


@fault
def kill(world: World, who: int, for_s: float) -> None:
    """SIGKILL: its apps' connections are reset. It is started again, under the same name."""
    _die(world, who, for_s, reset=True)


@fault
def lose_machine(world: World, who: int, for_s: float) -> None:
    """Its apps hear nothing."""
    _die(world, who, for_s, reset=False)


def _die(world: World, who: int, for_s: float, *, reset: bool) -> None:
    host = _host(world, who)
    if host is None:
        return
    host.kill()
    world.hosts.remove(host)
    world.dead.append(host)
    for app in world.apps.values():
        for wire in (app.wire, app.attempt):
            if wire is not None and wire.host is host:
                if reset:
                    world.after(world.moment(), app.closed, wire, 1006)
                else:
                    wire.hole = True
    world.after(for_s, world.start_instance, host.name)


@fault
def restart(world: World, who: int, for_s: float) -> None:
    """SIGTERM: a drain; then it is started again."""
    host = _host(world, who)
    if host is None or host.frozen:
        return
    host.stop()

    def begin_anew() -> None:
        if host.left:
            world.hosts.remove(host)
            world.start_instance(host.name)
        elif not host.killed:
            world.after(1.0, begin_anew)

    world.after(1.0, begin_anew)


@fault
def freeze(world: World, who: int, for_s: float) -> None:
    host = _host(world, who)
    if host is not None and not host.frozen:
        host.frozen, host.fine_since = True, None
        world.after(for_s, _thaw, world, host)


def _thaw(world: World, host: Host) -> None:
    if host.frozen:
        world.loop.thaw(host)


@fault
def cut_from_valkey(world: World, who: int, for_s: float) -> None:
    host = _host(world, who)
    if host is not None:
        _cut(world, host, host.valkey_line, who, for_s)


@fault
def cut_from_postgres(world: World, who: int, for_s: float) -> None:
    host = _host(world, who)
    if host is not None:
        _cut(world, host, host.postgres_line, who, for_s)
        host.pool.abandon()


@fault
def cut_from_both(world: World, who: int, for_s: float) -> None:
    cut_from_valkey(world, who, for_s)
    cut_from_postgres(world, who, for_s)


def _cut(world: World, host: Host, line: Line, who: int, for_s: float) -> None:
    line.cut, line.hole, host.fine_since = who % 2 == 0, who % 2 == 1, None
    world.after(for_s, _mend, host, line)


def _mend(host: Host, line: Line) -> None:
    line.cut, line.hole = host.killed, False


# stores


@fault
def stop_valkey(world: World, who: int, for_s: float) -> None:
    """It comes back empty."""
    if world.server.up:
        world.server.stop()
        _unwell(world)
        world.after(for_s, world.server.start)


@fault
def freeze_valkey(world: World, who: int, for_s: float) -> None:
    world.server.frozen = True
    _unwell(world)
    world.after(for_s, world.server.thaw)


@fault
def fail_over_valkey(world: World, who: int, for_s: float) -> None:
    """To a replica that lags behind."""
    if world.server.up:
        world.server.start(world.server.old)


@fault
def flushall(world: World, who: int, for_s: float) -> None:
    world.server.flushall()


@fault
def valkey_in_a_mood(world: World, who: int, for_s: float) -> None:
    """Commands are lost, come late, or are not answered."""
    dice, server = Random(who), world.server
    server.lost, server.late, server.unanswered = (dice.choice((0.0, 0.02, 0.2)) for _ in range(3))
    world.after(for_s, _sober, world)


def _sober(world: World) -> None:
    world.server.lost = world.server.late = world.server.unanswered = 0.0


@fault
def jump_valkeys_clock(world: World, who: int, for_s: float) -> None:
    world.server.skew_s += (who % 2_000_001 - 1_000_000) / 1_000


@fault
def stop_postgres(world: World, who: int, for_s: float) -> None:
    world.truth.up = False
    world.truth.outages += 1
    for host in world.hosts:
        host.pool.abandon()
    _unwell(world)
    world.after(for_s, _start_postgres, world)


def _start_postgres(world: World) -> None:
    world.truth.up = True


@fault
def commits_unknown(world: World, who: int, for_s: float) -> None:
    """Commits are made, and their outcome is lost."""
    for host in world.hosts:
        host.pool.unknown = 0.3
        world.after(for_s, _known, host)


def _known(host: Host) -> None:
    host.pool.unknown = 0.0


def _unwell(world: World) -> None:
    for host in world.hosts:
        host.fine_since = None


# mitras


@deed
def goodbye(world: World, who: int, for_s: float) -> None:
    _leave(world, _app(world, who), "goodbye", for_s)


@deed
def reset(world: World, who: int, for_s: float) -> None:
    _leave(world, _app(world, who), "reset", for_s)


@deed
def vanish(world: World, who: int, for_s: float) -> None:
    _leave(world, _app(world, who), "hole", for_s)


def _leave(world: World, app: App, how: str, for_s: float) -> None:
    app.leave(how)
    world.after(for_s, app.come)


@deed
def toggle(world: World, who: int, for_s: float) -> None:
    _app(world, who).toggle()


@deed
def work(world: World, who: int, for_s: float) -> None:
    """Another program begins a session, and ends it."""
    mitra_id, customer = _app(world, who).mitra_id, _customer(world, who)
    if world.truth.rows[mitra_id].has_capacity and (begun := world.truth.begin_work(customer.id, mitra_id)):
        world.after(for_s, _end_work, world, begun)


def _end_work(world: World, begun: Work) -> None:
    if begun.is_open and not world.truth.write_work(begun, status="ended"):
        world.after(0.5, _end_work, world, begun)


def _customer(world: World, who: int) -> Customer:
    return world.customers[who % len(world.customers)]


@deed
def deactivate(world: World, who: int, for_s: float) -> None:
    app = _app(world, who)
    world.truth.write(app.mitra_id, is_active=False, is_online=False, suspect_since=None, reason="deactivated")


@fault
def crowd_leaves(world: World, who: int, for_s: float) -> None:
    """Many at once lose their network."""
    dice = Random(who)
    for app in world.apps.values():
        if dice.random() < 0.5:
            _leave(world, app, "hole" if dice.random() < 0.5 else "reset", for_s * dice.random())


# customers


@wish
def ask(world: World, who: int, for_s: float) -> None:
    _customer(world, who).ask()


@wish
def ask_and_pay(world: World, who: int, for_s: float) -> None:
    _customer(world, who).ask()
    world.after(for_s, _customer(world, who).pay)


@wish
def cancel(world: World, who: int, for_s: float) -> None:
    _customer(world, who).cancel()


@wish
def reroute(world: World, who: int, for_s: float) -> None:
    _customer(world, who).reroute()


@wish
def end_session(world: World, who: int, for_s: float) -> None:
    _customer(world, who).end()


@wish
def everybody_asks(world: World, who: int, for_s: float) -> None:
    """At the same moment: more than there are mitras for."""
    for customer in world.customers:
        customer.ask()


def heal(world: World) -> None:
    """Everything works again."""
    for host in world.hosts:
        _thaw(world, host)
        _mend(host, host.valkey_line)
        _mend(host, host.postgres_line)
        _known(host)
    _sober(world)
    if not world.server.up:
        world.server.start()
    world.server.thaw()
    _start_postgres(world)

"""The apps of mitras, and the wires between them and instances."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hadir.errors import HadirError, Refused, StoreUnavailable
from hadir.http import mitra_status
from hadir.realtime.connection import Connection
from hadir.realtime.messages import CloseCode
from hadir.realtime.peer import RECONNECT_WINDOW_OF_GRACE, Login
from hadir.realtime.presence import HttpOnline

if TYPE_CHECKING:
    from tests.model.world import Host, World

ATTEMPT_S = 10.0
FOR_GOOD = 4500
"""Codes above say: do not come back."""


class Wire:
    """One WebSocket: frames take a moment; a hole swallows them without a word."""

    busy = False

    def __init__(self, app: App, host: Host) -> None:
        self.app = app
        self.host = host
        self.began_at = host.world.now
        self.peer: Connection | None = None
        self.hole = False
        self.hello_at: float | None = None
        self.over = False
        """As the app sees it."""
        self.pinged_at, self.answered_at = -1.0, 0.0
        self._early: list[Callable[[], object]] = []
        self._started = False
        self._heard_at = self._told_at = 0.0
        """When what was said last arrives: frames keep their order."""

    @property
    def claimed(self) -> bool:
        """Both sides hold it, and the row was this connection's when it was last heard of."""
        peer = self.peer
        if self.over or self.hole or peer is None or peer.gone or peer.row is None:
            return False
        return peer.row.connection_id == peer.connection_id

    # the server's side, in its process

    async def serve(self) -> None:
        node = self.host.node
        if node is None or node.sockets.draining or node.state != "ready":
            self._answer(self.app.refused, self, None)
            return
        login = Login(self.app.mitra_id, "mitra", self.app.sid, 1e9)
        try:
            self.peer = await node.sockets.admit(login, self.app.asks, node.market)
        except HadirError as problem:
            self._answer(self.app.refused, self, problem)
            return
        self.peer.start(self)
        self._started = True
        for what in self._early:
            what()

    def send(self, text: str) -> None:
        if text.startswith('{"type":"hello"'):
            self._answer(self.app.greeted, self)
            for offer in json.loads(text)["state"]["offers"]:
                self._answer(self.app.offered, offer["pairing_id"])
        elif text.startswith('{"type":"offer"'):
            self._answer(self.app.offered, json.loads(text)["pairing_id"])
        elif text.startswith('{"type":"offer.result"'):
            heard = json.loads(text)
            self._answer(self.app.answered, heard["pairing_id"], heard["result"])
        elif text.startswith('{"type":"offer.closed"'):
            heard = json.loads(text)
            ended = "withdrawn" if heard["reason"] == "cancelled" else heard["reason"]  # as an accept is answered then
            self._answer(self.app.answered, heard["pairing_id"], ended)
        elif text.startswith('{"type":"reconnect"'):
            self._answer(self.app.asked_to_move, self)

    def close(self, code: CloseCode) -> None:
        self._answer(self.app.closed, self, int(code))

    def _answer(self, tell: Callable[..., None], *args: Any) -> None:
        world = self.host.world
        self._told_at = max(self._told_at, world.now + world.moment())
        world.after(self._told_at - world.now, self._arrive, tell, args)

    def _arrive(self, tell: Callable[..., None], args: tuple[Any, ...]) -> None:
        if not self.hole:
            tell(*args)

    def _pinged(self, at: float) -> None:
        assert self.peer is not None
        if not self.peer.gone:
            self.answered_at = at
            self.peer.ping()

    def _text(self, text: str) -> None:
        if self.peer is not None and not self.peer.gone:
            self.peer.text(text)

    def _ended(self, code: int | None) -> None:
        if self.peer is not None:
            self.peer.ended(code)

    # the app's side

    def ping(self) -> None:
        now = self.host.world.now
        self.pinged_at = now
        self._say(lambda: self._pinged(now))

    def say(self, text: str) -> None:
        self._say(lambda: self._text(text))

    def hang_up(self, code: int | None) -> None:
        """A close frame, or the end of the connection without one."""
        self.over = True
        self._say(lambda: self._ended(code))

    def _say(self, what: Callable[[], object]) -> None:
        world = self.host.world
        if not self.hole:
            self._heard_at = max(self._heard_at, world.now + world.moment())
            self.host.later(self._heard_at - world.now, self._heard, what)

    def _heard(self, what: Callable[[], object]) -> None:
        if self._started:
            what()
        else:
            self._early.append(what)


class App:
    """Over a socket: beats, comes back when it was lost, moves when it is asked to. Over HTTP: beats by requests."""

    def __init__(self, world: World, mitra_id: str, sid: str, *, over_http: bool) -> None:
        self.world = world
        self.mitra_id = mitra_id
        self.sid = sid
        self.over_http = over_http
        self.there = False
        """Whether it runs, and its network works."""
        self.wants = True
        self.toggled_at = 0.0
        self.asks: bool | None = None
        """What its connects command: what its mitra chose, once it did."""
        self.banned = False
        self.wire: Wire | None = None
        self.attempt: Wire | None = None
        self.gone_at = 0.0
        """Since when it has given no sign, where it gives none."""
        self.left_by = "never came"
        self.beaten_since: float | None = None
        """Over HTTP: since when every beat was taken."""
        self.beaten_at = 0.0
        self._turn = 0
        self._tries = 0

    def note(self, *what: object) -> None:
        self.world.note("app", self.mitra_id, *what)

    # what happens to it

    def come(self) -> None:
        if self.there or self.banned:
            return
        self.note("comes")
        self.there = True
        self._turn += 1
        self._tries = 0
        if self.over_http:
            self._beat_over_http(self._turn, True)
        else:
            self.connect()

    def leave(self, how: str) -> None:
        """goodbye, reset, hole (its network swallows everything from now on)."""
        if not self.there:
            return
        self.note("leaves", how)
        self.there = False
        self._turn += 1
        self.gone_at, self.left_by = self.world.now, how
        self.beaten_since = None
        for wire in {self.wire, self.attempt} - {None}:
            assert wire is not None
            if how == "hole":
                wire.hole = True
            else:
                wire.hang_up(1000 if how == "goodbye" else None)
        self.wire = self.attempt = None

    def toggle(self) -> None:
        if self.there and self.wire is not None and not self.over_http:
            self.wants = not self.wants
            self.asks = self.wants
            self.toggled_at = self.world.now
            self._say_status(self.wire)

    def _say_status(self, wire: Wire) -> None:
        wire.say(f'{{"type":"status","online":{str(self.wants).lower()}}}')

    # over a socket

    def connect(self) -> None:
        host = self.world.some_host(self)
        if not self.there or self.attempt is not None:
            return
        if host is None:
            self._again()
            return
        wire = self.attempt = Wire(self, host)
        self.world.after(ATTEMPT_S, self._give_up, wire)
        host.spawn(self.world.moment(), wire.serve)

    def _again(self) -> None:
        self._tries += 1
        self.world.after(self.world.dice.uniform(0, min(5.0, 0.5 * 2**self._tries)), self._reconnect, self._turn)

    def _reconnect(self, turn: int) -> None:
        if turn == self._turn and (self.wire is None or self.wire.over):
            self.connect()

    def _give_up(self, wire: Wire) -> None:
        if self.attempt is wire:
            self.attempt = None
            wire.hang_up(None)
            self._again()

    def refused(self, wire: Wire, problem: HadirError | None) -> None:
        if self.attempt is wire:
            self.attempt = None
            if isinstance(problem, Refused) and problem.status in (401, 403):
                self._banned()
            else:
                self._again()

    def greeted(self, wire: Wire) -> None:
        if self.attempt is not wire:
            return
        self.note("greeted", wire.host.name, wire.peer and wire.peer.connection_id, wire.claimed)
        old, self.wire, self.attempt = self.wire, wire, None
        wire.hello_at, self._tries = self.world.now, 0
        if self.toggled_at > wire.began_at:
            self._say_status(wire)
        if old is not None and not old.over and self.world.dice.random() < 0.5:
            old.hang_up(1000)
        self.world.after(self.world.dice.uniform(0, self.world.config.heartbeat_interval_s), self._beat, wire)

    def asked_to_move(self, wire: Wire) -> None:
        if self.wire is wire:
            self.connect()

    def closed(self, wire: Wire, code: int) -> None:
        """The server's close frame, or (1006) the end of the connection."""
        self.note("closed", code, wire.peer and wire.peer.connection_id)
        wire.over = True
        if self.attempt is wire:
            self.attempt = None
            self._again()
        if self.wire is not wire or not self.there:
            return
        if code > FOR_GOOD:
            self._banned()
        else:
            window = self.world.config.offline_grace_s * RECONNECT_WINDOW_OF_GRACE
            self.world.after(self.world.dice.uniform(0, window), self._reconnect, self._turn)

    def _banned(self) -> None:
        """Somebody has to log in anew."""
        if self.there:
            self.gone_at, self.left_by = self.world.now, "sent away"
        self.there, self.banned = False, True
        self._turn += 1
        self.beaten_since = None
        for wire in {self.wire, self.attempt} - {None}:
            assert wire is not None
            if not wire.over:
                wire.hang_up(None)
        self.wire = self.attempt = None
        self.world.sent_away(self)

    def log_in(self, sid: str) -> None:
        self.sid, self.banned = sid, False

    def _beat(self, wire: Wire) -> None:
        if self.wire is not wire or wire.over:
            return
        if wire.pinged_at > wire.answered_at:  # a missing pong: the server is dead
            wire.hang_up(None)
            self.connect()
            return
        wire.ping()
        row = wire.peer and wire.peer.row
        if self.asks is not None and row and row.wants_online != self.wants and self.world.now > self.toggled_at + 5.0:
            self._say_status(wire)  # it was not stored, and the app was told so
        self.world.after(self.world.config.heartbeat_interval_s, self._beat, wire)

    # offers

    def offered(self, pairing_id: str) -> None:
        """Its mitra thinks, perhaps too long; takes it, perhaps twice; or does not want it."""
        dice = self.world.dice
        if dice.random() < 0.2:
            self.world.after(dice.uniform(0, 3), self._answer_offer, pairing_id, "decline")
            return
        for _ in range(1 + (dice.random() < 0.3)):
            self.world.after(dice.choice((0.5, 5.0, 25.0)) * dice.random(), self.accept, pairing_id)

    def accept(self, pairing_id: str) -> None:
        """Over its socket, or by a request to any instance, or both at once: also when it is gone, or suspect."""
        way = self.world.dice.random()
        if way < 0.8:
            self._answer_offer(pairing_id, "accept")
        if way > 0.6 and (host := self.world.some_host(self)) is not None:
            host.spawn(self.world.moment(), self._accept, host, pairing_id)

    def _answer_offer(self, pairing_id: str, what: str) -> None:
        if self.wire is not None and not self.wire.over:
            self.wire.say(f'{{"type":"offer.{what}","pairing_id":"{pairing_id}"}}')

    async def _accept(self, host: Host, pairing_id: str) -> None:
        if host.node is None or host.node.state != "ready":
            return
        try:
            accepted = await host.node.market.pairings.accept(pairing_id, self.mitra_id)
        except HadirError:
            self.world.after(2.0, self.accept, pairing_id)
        else:
            self.world.after(0.0, self.answered, pairing_id, str(accepted.result))

    def answered(self, pairing_id: str, result: str) -> None:
        self.note("answered", pairing_id, result)
        self.world.checks.told(pairing_id, self.mitra_id, result)

    # over HTTP

    def _beat_over_http(self, turn: int, switch_on: bool) -> None:
        if turn != self._turn:
            return
        host = self.world.some_host(self)
        if host is not None:
            host.spawn(self.world.moment(), self._request, host, turn, switch_on)
        else:
            self.beaten_since = None
        self.world.after(self.world.config.heartbeat_interval_s, self._beat_over_http, turn, False)

    async def _request(self, host: Host, turn: int, switch_on: bool) -> None:
        node = host.node
        login = Login(self.mitra_id, "mitra", self.sid, 1e9)
        try:
            if node is None or node.state != "ready":
                raise StoreUnavailable("It does not serve.")
            told: dict[str, Any] = {}
            if not switch_on:
                told = await mitra_status.beat(node, login)
            if not told.get("online"):
                await mitra_status.submit(node, login, HttpOnline(self.sid))
                if not switch_on and turn == self._turn:
                    self.beaten_since = None
        except HadirError as problem:
            self.world.after(0.0, self._request_failed, turn, problem)
        else:
            self.world.after(0.0, self._request_done, turn)

    def _request_failed(self, turn: int, problem: HadirError) -> None:
        if turn == self._turn:
            self.beaten_since = None
            if isinstance(problem, Refused) and problem.status in (401, 403):
                self._banned()

    def _request_done(self, turn: int) -> None:
        if turn == self._turn:
            self.beaten_at = self.world.now
            if self.beaten_since is None:
                self.beaten_since = self.world.now

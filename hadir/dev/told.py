"""What a server told somebody, as values: its messages and answers taken apart at the door."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

Role = Literal["mitra", "customer"]
OPEN = ("pending_payment", "active")


class Over(Enum):
    """How it was told. Only what is pushed comes in an order that means something."""

    PUSH = "push"
    STATE = "state"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class State:
    """All that was open, by `hello` (`greets`: a new connection) or `sync`."""

    sessions: tuple[str, ...]
    pairings: tuple[str, ...]
    """A customer's that search."""
    pending: bool
    greets: bool


@dataclass(frozen=True, slots=True)
class Offered:
    pairing_id: str


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a mitra's offer, by `offer.result` or `offer.closed`."""

    pairing_id: str
    result: str
    closed: bool
    """Nobody had asked."""


@dataclass(frozen=True, slots=True)
class Pairing:
    id: str
    customer_id: str
    status: str
    mitra_id: str | None
    session_id: str | None
    reroute: bool
    version: int

    @property
    def open(self) -> bool:
        return self.status == "searching"


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    customer_id: str
    mitra_id: str
    status: str
    end_reason: str | None
    extensions: int
    messages: int
    version: int

    @property
    def open(self) -> bool:
        return self.status in OPEN


@dataclass(frozen=True, slots=True)
class Said:
    """A chat message."""

    id: str
    session_id: str
    seq: int
    sender: str
    client_id: str
    body: str


What = State | Offered | Fate | Pairing | Session | Said


@dataclass(frozen=True, slots=True)
class Told:
    """`what` was told to `who` (a mitra's or customer's id) at `at`, in monotonic seconds."""

    at: float
    who: str
    role: Role
    over: Over
    what: What


def read(message: Mapping[str, Any]) -> Iterator[tuple[Over, What]]:
    """What a message of a socket tells. Raises KeyError, TypeError or ValueError where it is not of the protocol."""
    match message.get("type"):
        case "hello" | "sync" as kind:
            yield from _state(message["state"], greets=kind == "hello")
        case "offer":
            yield Over.PUSH, Offered(str(message["pairing_id"]))
        case "offer.result":
            over = Over.ANSWER if "re" in message else Over.PUSH
            result = str(message["result"])
            yield over, Fate(str(message["pairing_id"]), result, closed=False)
            if message.get("session") is not None:  # won, unless it was over before this could be told
                yield over, session(message["session"])
        case "offer.closed":
            yield Over.PUSH, Fate(str(message["pairing_id"]), str(message["reason"]), closed=True)
        case "pairing.updated":
            yield Over.PUSH, pairing(message["pairing"])
        case "session.updated":
            yield Over.PUSH, session(message["session"])
        case "chat.message":
            yield Over.PUSH, said(message["message"])
        case "ack" if "message" in message:
            yield Over.ANSWER, said(message["message"])


def answer(fields: Mapping[str, Any]) -> Iterator[tuple[Over, What]]:
    """What an HTTP answer tells that is a pairing or has a session. Raises as `read` does."""
    if "customer_id" in fields and "mitra_reachable" not in fields:
        yield Over.ANSWER, pairing(fields)
    elif "mitra_reachable" in fields:
        yield Over.ANSWER, session(fields)
    if isinstance(within := fields.get("session"), dict):
        yield Over.ANSWER, session(within)


def _state(state: Mapping[str, Any], *, greets: bool) -> Iterator[tuple[Over, What]]:
    sessions = [session(each) for each in state.get("sessions", ())]
    pairings = [pairing(each) for each in state.get("pairings", ())]
    ids = tuple(each.id for each in sessions), tuple(each.id for each in pairings)
    yield Over.STATE, State(*ids, pending=bool(state.get("pending")), greets=greets)
    listed: list[What] = [*sessions, *pairings]
    listed += [Offered(str(offer["pairing_id"])) for offer in state.get("offers", ())]
    yield from ((Over.STATE, each) for each in listed)


def pairing(fields: Mapping[str, Any]) -> Pairing:
    """Raises as `read` does."""
    return Pairing(
        str(fields["id"]),
        str(fields["customer_id"]),
        str(fields["status"]),
        _id(fields["mitra_id"]),
        _id(fields["session_id"]),
        bool(fields["reroute"]),
        int(fields["version"]),
    )


def session(fields: Mapping[str, Any]) -> Session:
    """Raises as `read` does."""
    return Session(
        str(fields["id"]),
        str(fields["customer_id"]),
        str(fields["mitra_id"]),
        str(fields["status"]),
        _id(fields["end_reason"]),
        int(fields["extensions"]),
        int(fields["messages"]),
        int(fields["version"]),
    )


def said(fields: Mapping[str, Any]) -> Said:
    """Raises as `read` does."""
    return Said(
        str(fields["id"]),
        str(fields["session_id"]),
        int(fields["seq"]),
        str(fields["sender"]),
        str(fields["client_id"]),
        str(fields["body"]),
    )


def _id(value: Any) -> str | None:
    return None if value is None else str(value)

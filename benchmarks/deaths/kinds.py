"""The ways to go, the settings they are measured with, and the bounds that rule R13 gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hadir.config import Config
from hadir.realtime.liveness import DEAD_S, LEASE_S, LEASE_TAKE_S

NOTICED_S = 2.0
"""R13's two seconds: whoever judges looks once a second, and writes afterwards."""

SUCCESSION_S = LEASE_S + LEASE_TAKE_S
"""Instances die one after the other: when a grace ends, the one that leads may just have died, too."""


@dataclass(frozen=True)
class Profile:
    """Settings that an operator would choose; what is not named has its default."""

    name: str
    about: str
    settings: Mapping[str, str]


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("default", "Every setting at its default: a beat every 20 s, stale 60 s, grace 15 s, sweep 30 s.", {}),
        Profile(
            "fast",
            "For those who want to know sooner and can pay for four times the beats: "
            "a beat every 5 s, stale 15 s, grace 5 s, sweep 5 s, hold 60 s.",
            {
                "MITRA_HEARTBEAT_INTERVAL_SECONDS": "5",
                "MITRA_HEARTBEAT_STALE_SECONDS": "15",
                "MITRA_OFFLINE_GRACE_SECONDS": "5",
                "MITRA_AUTO_OFFLINE_SWEEP_SECONDS": "5",
                "MITRA_AUTO_OFFLINE_HOLD_SECONDS": "60",
            },
        ),
    )
}


class Rule(StrEnum):
    """Which part of R13 a kind falls under."""

    LIVE = "live"
    """The app is gone from an instance that lives."""
    DEAD = "dead"
    """Its instance is gone, too."""
    HELD = "held"
    """Most die at once, and R5 holds."""


@dataclass(frozen=True)
class Kind:
    """One way to go. Kinds of one rig die side by side."""

    name: str
    rig: str
    title: str
    rule: Rule = Rule.LIVE


KINDS = {
    kind.name: kind
    for kind in (
        Kind("goodbye", "clients", "the app says goodbye (close 1000)"),
        Kind("reset", "clients", "TCP reset"),
        Kind("blackholed", "clients", "network gone, no FIN"),
        Kind("frozen", "clients", "the app hangs, its socket stays open"),
        Kind("killed", "killed", "its instance is killed (SIGKILL), the app with it", Rule.DEAD),
        Kind("instance-frozen", "instance-frozen", "its instance freezes for 20 s, the app is lost", Rule.DEAD),
        Kind("cut-valkey", "cut-valkey", "lost while its instance is cut off from Valkey for 20 s"),
        Kind("cut-postgres", "cut-postgres", "lost while its instance is cut off from Postgres for 20 s"),
        Kind("valkey-restart", "valkey-restart", "lost while Valkey is killed and comes back empty, three times"),
        Kind("valkey-hang", "valkey-hang", "lost while Valkey hangs for 20 s, three times"),
        Kind("postgres-restart", "postgres-restart", "lost while Postgres restarts, three times"),
        Kind("rolling", "rolling", "lost while every instance is restarted in turn"),
        Kind("most-released", "most-released", "70 % lost at once, let go by an operator", Rule.HELD),
        Kind("most-held", "most-held", "70 % lost at once, held for as long as a hold lasts", Rule.HELD),
    )
}
RIGS = tuple(dict.fromkeys(kind.rig for kind in KINDS.values()))


@dataclass(frozen=True)
class Bounds:
    """Seconds since the death."""

    out_s: float
    offline_s: float


def bounds(kind: Kind, config: Config, held_s: float) -> Bounds:
    """What R13 allows; `held_s` is how long R5 held, where it did."""
    stale_s, grace_s = config.heartbeat_stale_s, config.offline_grace_s
    if kind.rule is Rule.DEAD:
        suspect_s = DEAD_S + NOTICED_S
        return Bounds(suspect_s, suspect_s + config.long_grace_s + SUCCESSION_S)
    return Bounds(stale_s, stale_s + grace_s + NOTICED_S + (held_s if kind.rule is Rule.HELD else 0.0))

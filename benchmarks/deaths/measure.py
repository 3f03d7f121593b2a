"""One rig from its start to its figures: stores, instances, mitras, deaths, and what the stores say of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil

from benchmarks.deaths.crowd import Mitra, Mitras
from benchmarks.deaths.kinds import KINDS, Profile, Rule, bounds
from benchmarks.deaths.pool import PoolWatch
from benchmarks.deaths.rigs import CUT, PINNED, RIGS, Scene
from hadir.config import Config
from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.faults.fleet import Fleet
from tests.support import eventually
from tests.support.system import System

INSTANCES = 3
SWEEPS = 3
MOST = 0.7
PATIENCE_S = 30.0
"""How long after its bound somebody who is still online counts as never taken offline."""
BACK_S = 60.0


@dataclass(frozen=True)
class Asked:
    """What to measure: `die` mitras a kind beside `alive`; `window_s` None: three sweeps."""

    rig: str
    kinds: Sequence[str]
    profile: Profile
    die: int
    alive: int
    window_s: float | None
    seed: int

    @property
    def dying(self) -> list[str]:
        if self.rule is Rule.HELD:
            return [self.kinds[0]] * round(MOST * (self.die + self.alive))  # of as many as elsewhere
        return [kind for kind in self.kinds for _ in range(self.die)]

    @property
    def living(self) -> int:
        return self.alive if self.rule is not Rule.HELD else self.die + self.alive - len(self.dying)

    @property
    def rule(self) -> Rule:
        return KINDS[self.kinds[0]].rule


@dataclass
class Deaths:
    """Seconds from each death of a kind until out of the pool and until offline, sorted; who never was is missing."""

    kind: str
    died: int
    out: list[float]
    offline: list[float]
    seen: list[float]
    """Until each was last read in the pool: what its bound is held against, since `out` is one reading later."""
    out_bound_s: float
    offline_bound_s: float
    released: list[float] = field(default_factory=list)
    """Seconds from an operator's release until offline."""


@dataclass
class Found:
    """All that a rig found."""

    rig: str
    deaths: list[Deaths]
    alive: int
    false_offlines: list[str] = field(default_factory=list)
    """Offline rows of the living, and of the dead before they died."""
    suspects: dict[str, int] = field(default_factory=dict)
    """How often the living were suspect for a moment, by reason."""
    lost: dict[str, int] = field(default_factory=dict)
    """How connections of the living ended."""
    reconnects: int = 0
    rotations: int = 0
    missing: int = 0
    """Living mitras that were not connected at the end."""
    drift: str = ""
    held_s: float = 0.0
    cpu: float = 0.0
    """Mean share of all cores that the machine was busy."""
    sampled_p99_s: float = 0.0
    took_s: float = 0.0
    servers: str = ""
    """Names and versions of the stores."""

    def json(self) -> dict[str, Any]:
        return asdict(self)


async def measure(asked: Asked, folder: Path, say: Callable[[str], None]) -> Found:
    started = time.monotonic()
    async with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedValkey(folder / "valkey") as valkey:
        await migrate(postgres.url)
        async with (
            System(postgres.url, valkey.url, asked.profile.settings) as system,
            Fleet(system, postgres, valkey, INSTANCES, folder, relayed=asked.rig in CUT) as fleet,
        ):
            postgres_version = await system.sql.fetchval("SHOW server_version")
            valkey_version = (await system.valkey.info("server"))["valkey_version"]
            found = await _with_mitras(asked, fleet, say, ready=time.monotonic())
        found.servers = f"PostgreSQL {postgres_version}, Valkey {valkey_version}"
    found.took_s = time.monotonic() - started
    return found


async def _with_mitras(asked: Asked, fleet: Fleet, say: Callable[[str], None], ready: float) -> Found:
    config = fleet.system.config()
    pinned = asked.rig in PINNED
    async with Mitras(fleet.system, fleet.served, asked.dying, asked.living, pinned=pinned) as mitras:
        say(f"{len(mitras.everyone)} mitras are online")
        # R15: before an instance has been ready for a grace, nobody's counts.
        await asyncio.sleep(max(0.0, ready + config.offline_grace_s + 1 - time.monotonic()))
        async with PoolWatch(config, mitras.dead, rows_too=asked.rig == "cut-valkey") as pool:
            window_s = SWEEPS * config.auto_offline_sweep_s if asked.window_s is None else asked.window_s
            scene = Scene(config, fleet, mitras, Random(asked.seed), window_s, say, time.time())
            psutil.cpu_percent()
            await RIGS[asked.rig](scene)
            say("all have died")
            await _all_offline(asked, scene)
            pool.check()
            mitras.check()
        return await _found(asked, scene, pool)


async def _all_offline(asked: Asked, scene: Scene) -> None:
    """Waits for the last of them, and no longer than that makes sense."""
    dead = scene.mitras.dead()
    bound_s = max(bounds(KINDS[kind], scene.config, scene.held_s).offline_s for kind in asked.kinds)
    deadline = max(dead.values()) + bound_s + PATIENCE_S
    while time.time() < deadline:
        left = await scene.fleet.system.sql.fetchval(
            "SELECT count(*) FROM mitra_presence WHERE is_online AND mitra_id = ANY ($1::uuid[])", list(dead)
        )
        if not left:
            return
        await asyncio.sleep(0.5)


async def _found(asked: Asked, scene: Scene, pool: PoolWatch) -> Found:
    mitras = scene.mitras
    records = await scene.fleet.system.sql.fetch(
        "SELECT mitra_id::text, state, reason, extract(epoch FROM recorded_at)::float8 AS at FROM presence_log "
        "WHERE state <> 'online' AND recorded_at >= to_timestamp($1) ORDER BY recorded_at",
        scene.began,
    )
    found = Found(asked.rig, [], len(mitras.living), held_s=scene.held_s, cpu=psutil.cpu_percent())
    found.false_offlines, found.suspects, offline = judged([tuple(each) for each in records], mitras.dead())
    for name in asked.kinds:
        dead = [mitra for mitra in mitras.dying if mitra.kind == name]
        found.deaths.append(_deaths(name, scene, dead, pool, offline))
    found.lost = dict(sum((mitra.ends for mitra in mitras.living), Counter()))
    found.reconnects = sum(mitra.client.counters.reconnects for mitra in mitras.living)
    found.rotations = sum(mitra.client.counters.rotations for mitra in mitras.living)
    found.sampled_p99_s = percentile(sorted(pool.spacing), 0.99)
    try:
        await eventually(lambda: all(mitra.is_online for mitra in mitras.living), BACK_S)
        await scene.fleet.system.no_drift()
    except AssertionError as error:
        found.drift = str(error)
    found.missing = sum(not mitra.is_online for mitra in mitras.living)
    return found


def judged(
    records: Iterable[tuple[str, str, str, float]], died: dict[str, float]
) -> tuple[list[str], dict[str, int], dict[str, float]]:
    """False offlines; how often the living were suspect, by reason; when each of the dead was offline, at last.

    `records` are mitra, state, reason and time of what the log says of all, in order.
    """
    false: list[str] = []
    suspects: Counter[str] = Counter()
    offline: dict[str, float] = {}
    for mitra_id, state, reason, at in records:
        if state == "offline" and at < died.get(mitra_id, float("inf")):
            false.append(f"{mitra_id} {reason}")
        elif state == "offline":
            offline[mitra_id] = at
        elif mitra_id not in died:
            suspects[reason] += 1
    return false, dict(suspects), offline


def _deaths(name: str, scene: Scene, dead: Sequence[Mitra], pool: PoolWatch, offline: dict[str, float]) -> Deaths:
    limits = bounds(KINDS[name], scene.config, scene.held_s)
    died = {mitra.id: mitra.died or 0.0 for mitra in dead}
    return Deaths(
        name,
        len(dead),
        sorted(pool.left[each] - at for each, at in died.items() if each in pool.left),
        sorted(offline[each] - at for each, at in died.items() if each in offline),
        sorted(max(0.0, pool.seen.get(each, at) - at) for each, at in died.items()),
        limits.out_s,
        limits.offline_s,
        sorted(offline[each] - scene.released for each in died if each in offline) if scene.released else [],
    )


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Nearest rank: a value that was measured. 0 where nothing was."""
    return ordered[math.ceil(fraction * len(ordered)) - 1] if ordered else 0.0


def config_of(profile: Profile) -> Config:
    """The configuration that a profile makes, but for its addresses."""
    return System("postgresql://h:p@127.0.0.1/h", "redis://127.0.0.1", profile.settings).config()

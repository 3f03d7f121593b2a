"""What happens in each rig: who dies when, and what fails meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

import httpx

from benchmarks.deaths.crowd import Mitra, Mitras
from hadir.config import Config
from tests.faults.fleet import Fleet, Member
from tests.faults.proxy import Proxy
from tests.support import eventually

ROUNDS = 3
ROUND_S = 30.0
"""From one fault to the next."""
FAULT_S = 20.0
BEGINS_WITHIN_S = 8.0
RESTART_S = 3.0
DRAINED_S = 60.0
LOOKS_S = 10.0
"""How long the operator looks at a hold before letting it go."""


@dataclass
class Scene:
    """What a rig is made of. `window_s`: how long the deaths of clients go on."""

    config: Config
    fleet: Fleet
    mitras: Mitras
    random: Random
    window_s: float
    say: Callable[[str], None]
    began: float
    """When everybody was online (wall clock)."""
    released: float | None = None
    """When an operator let a hold go (wall clock)."""
    held_s: float = 0.0
    """How long R5 held."""

    async def over_time(self, mitras: Sequence[Mitra], seconds: float) -> None:
        """Each dies at a random moment of the time; returns when all have."""
        await asyncio.gather(*(self._later(mitra, self.random.uniform(0.0, seconds)) for mitra in mitras))

    async def _later(self, mitra: Mitra, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await mitra.die()

    async def at_once(self, mitras: Sequence[Mitra]) -> None:
        await asyncio.gather(*(mitra.die() for mitra in mitras))

    async def rounds(self, what: str) -> AsyncIterator[int]:
        """0, 1, 2: one fault after the other, at a random moment of the beginning of each round."""
        started = time.monotonic()
        for number in range(ROUNDS):
            due = started + number * ROUND_S + self.random.uniform(0.0, BEGINS_WITHIN_S)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.say(f"{what}, {number + 1} of {ROUNDS}")
            yield number

    async def members(self, what: str) -> AsyncIterator[tuple[Member, list[Mitra]]]:
        """Each instance in its turn, and those who are to die with it."""
        async for number in self.rounds(what):
            yield self.fleet.members[number], self.mitras.dying_on(number)


async def clients(scene: Scene) -> None:
    await scene.over_time(scene.mitras.dying, scene.window_s)


async def killed(scene: Scene) -> None:
    """The instance and the apps on it at the same moment; it comes back later, under the same name."""
    async for member, dying in scene.members("killed"):
        await asyncio.gather(scene.at_once(dying), member.kill())
        await asyncio.sleep(FAULT_S)
        await member.start()


async def instance_frozen(scene: Scene) -> None:
    """The apps are lost right after it froze: it hears of that when it thaws."""
    async for member, dying in scene.members("frozen"):
        with member.frozen():
            await scene.at_once(dying)
            await asyncio.sleep(FAULT_S)


async def cut_valkey(scene: Scene) -> None:
    async for member, dying in scene.members("cut off from Valkey"):
        await _cut(scene, member, member.to_valkey, dying)


async def cut_postgres(scene: Scene) -> None:
    async for member, dying in scene.members("cut off from Postgres"):
        await _cut(scene, member, member.to_postgres, dying)


async def _cut(scene: Scene, member: Member, way: Proxy, dying: Sequence[Mitra]) -> None:
    """The second by silence, the others by resets; who is on that instance dies meanwhile."""
    if member is scene.fleet.members[1]:
        way.blackhole()
    else:
        way.cut()
    try:
        await asyncio.gather(scene.over_time(dying, FAULT_S), asyncio.sleep(FAULT_S))
    finally:
        way.heal()


async def valkey_restart(scene: Scene) -> None:
    async def faults() -> None:
        async for _ in scene.rounds("Valkey is killed"):
            scene.fleet.valkey.kill()
            await asyncio.sleep(RESTART_S)
            await scene.fleet.valkey.start()

    await _meanwhile(scene, faults())


async def valkey_hang(scene: Scene) -> None:
    async def faults() -> None:
        async for _ in scene.rounds("Valkey hangs"):
            with scene.fleet.valkey_frozen():
                await asyncio.sleep(FAULT_S)

    await _meanwhile(scene, faults())


async def postgres_restart(scene: Scene) -> None:
    async def faults() -> None:
        async for _ in scene.rounds("Postgres restarts"):
            await scene.fleet.postgres.stop()
            await asyncio.sleep(RESTART_S)
            await scene.fleet.postgres.start()

    await _meanwhile(scene, faults())
    await scene.fleet.connected_again()


async def rolling(scene: Scene) -> None:
    async def deploy() -> None:
        async for number in scene.rounds("restarted"):
            member = scene.fleet.members[number]
            await member.drain(DRAINED_S)
            await member.start()

    await _meanwhile(scene, deploy())


async def _meanwhile(scene: Scene, faults: Awaitable[None]) -> None:
    await asyncio.gather(scene.over_time(scene.mitras.dying, ROUNDS * ROUND_S), faults)


async def most_released(scene: Scene) -> None:
    await scene.at_once(scene.mitras.dying)
    began = await _hold_began(scene)
    await asyncio.sleep(LOOKS_S)
    operator = await scene.fleet.system.account("operator")
    url = f"{scene.fleet.served[0].inner_url}/api/internal/expiry/release"
    scene.released = time.time()
    answer: httpx.Response = await scene.fleet.system.http.post(url, headers=operator.bearer)
    scene.held_s = time.time() - began
    scene.say(f"the operator lets go after {scene.held_s:.1f} s: {answer.status_code} {answer.text}")


async def most_held(scene: Scene) -> None:
    await scene.at_once(scene.mitras.dying)
    await _hold_began(scene)
    scene.held_s = scene.config.auto_offline_hold_s


async def _hold_began(scene: Scene) -> float:
    """Waits until the hold is on record; answers since when (wall clock)."""

    async def since() -> float | None:
        found: float | None = await scene.fleet.system.sql.fetchval(
            "SELECT extract(epoch FROM since)::float8 FROM expiry_hold"
        )
        return found

    began: float = await eventually(since, 2 * scene.config.offline_grace_s + 10)
    scene.say("held")
    return began


RIGS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "clients": clients,
    "killed": killed,
    "instance-frozen": instance_frozen,
    "cut-valkey": cut_valkey,
    "cut-postgres": cut_postgres,
    "valkey-restart": valkey_restart,
    "valkey-hang": valkey_hang,
    "postgres-restart": postgres_restart,
    "rolling": rolling,
    "most-released": most_released,
    "most-held": most_held,
}
CUT = frozenset({"cut-valkey", "cut-postgres"})
"""Here the ways to the stores lead through relays that can be told to fail."""
PINNED = CUT | {"killed", "instance-frozen"}
"""Here those who die have no other instance to go to."""

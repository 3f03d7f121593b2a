"""The twin of Valkey against the scripts themselves on a real server: same words, same answers, same keys."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import redis.asyncio as redis

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime.keys import Keys
from hadir.realtime.valkey import script
from tests.model.valkey import Database

MITRAS = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(8)]
INSTANCES = ["a", "b"]
STALE = 60_000
FAR = 1_000_000_000_000
"""The clock of both is set, days ahead of the server's own: nothing expires but by the script that is looked at."""
CLOCK = "test:clock"
ROUNDS = 1_500


def in_any_order(page: Any) -> Any:
    return page[0], sorted(page[1])


class Both:
    """A script on the server, its `TIME` replaced by a key, and the same on the twin."""

    def __init__(self, server: Any, run_id: str, dice: Random) -> None:
        self.server = server
        self.twin = Database(run_id)
        self.dice = dice
        self.keys = Keys()
        self.now = 2_000_000_000_000

    async def run(
        self, name: str, keys: list[str], args: list[Any], *, alike: Callable[[Any], Any] = lambda answer: answer
    ) -> None:
        self.now += self.dice.randrange(20_000)
        await self.server.hset(CLOCK, mapping={"s": self.now // 1000, "us": self.now % 1000 * 1000})
        for key in [key for key, until in self.twin.expiries.items() if until <= self.now]:
            self.twin.unlink(self.now, key)
            await self.server.delete(key)  # what its own clock would do
        text = script(name)[0].replace("redis.call('TIME')", f"redis.call('HMGET', '{CLOCK}', 's', 'us')")
        real = await self.server.eval(text, len(keys), *keys, *args)
        twin = self.twin.run(name, keys, args, self.now)
        assert alike(twin) == alike(real), (name, args, twin, real)

    async def same(self) -> None:
        """All that both hold."""
        names = self.keys
        for key in (names.online, names.deactivated):
            assert self.twin.values.get(key, set()) == await self.server.smembers(key), key
        for key in (names.heartbeats, names.available, names.queue):
            scores = {member: int(score) for member, score in await self.server.zrange(key, 0, -1, withscores=True)}
            assert self.twin.values.get(key, {}) == scores, key
        for key in (names.versions, names.connections):
            assert self.twin.values.get(key, {}) == await self.server.hgetall(key), key
        for mitra in MITRAS:
            key = names.heartbeat(mitra)
            assert self.twin.values.get(key) == await self.server.get(key)
            assert self.twin.expiries.get(key, -2) == await self.server.pexpiretime(key)
            assert self.twin.values.get(names.capacity(mitra)) == await self.server.get(names.capacity(mitra))
        for key in (names.seeded, names.seed_lease, *map(names.instance, INSTANCES)):
            assert self.twin.values.get(key) == await self.server.get(key), key

    # one random call of each script

    async def apply(self) -> None:
        dice, names = self.dice, self.keys
        mitras = dice.sample(MITRAS, dice.randint(0, 4))
        keys = [*names.sets_of_ids, names.seed_lease, *map(names.capacity, mitras), *map(names.heartbeat, mitras)]
        columns: list[list[Any]] = [
            mitras,
            [self._version(mitra) for mitra in mitras],
            [dice.randint(0, 1) for _ in mitras],
            [dice.choice(["online", "suspect", "offline"]) for _ in mitras],
            [dice.randint(0, 2) for _ in mitras],
            [dice.randint(1, 2) for _ in mitras],
            [dice.choice([0, 1_700_000_000]) for _ in mitras],
            [self._owner() for _ in mitras],
            [dice.randrange(2 * STALE) for _ in mitras],
            [dice.choice(["", "", dice.randrange(2 * STALE)]) for _ in mitras],
        ]
        args = [STALE, dice.choice(["", "", "t1", "t2"]), *(each for column in columns for each in column)]
        await self.run("apply", keys, args)

    async def beat(self) -> None:
        dice, names = self.dice, self.keys
        keys = [names.deactivated, names.heartbeats, names.available, names.connections, names.seeded]
        mitras = dice.sample(MITRAS, dice.randint(0, 5))
        keys += map(names.heartbeat, mitras)
        held = self.twin.values.get(names.connections, {})
        owners = [dice.choice([held.get(mitra, ""), self._owner()]) for mitra in mitras]
        ages = dice.choices([dice.randrange(2 * STALE), dice.randrange(2 * STALE)], k=len(mitras))
        await self.run("beat", keys, [STALE, *mitras, *owners, *ages])

    async def beats(self) -> None:
        oldest = self.dice.choice(["", self.dice.randrange(3 * STALE)])
        args = [oldest, self.dice.randrange(STALE), self.dice.randint(1, 5)]
        await self.run("beats", [self.keys.seeded, self.keys.heartbeats, *self._leases()], args)

    async def counts(self) -> None:
        names = self.keys
        keys = [names.seeded, names.online, names.heartbeats, names.available, names.deactivated, names.snapshot]
        await self.run("counts", [*keys, *self._leases()], [STALE, 0, "0"])

    async def pool(self) -> None:
        names = self.keys
        keys = [names.seeded, names.available, names.queue, *self._leases()]
        await self.run("pool", keys, [STALE, self.dice.randint(1, 5), self.dice.randint(1, 9)])

    async def lease(self) -> None:
        key = self.keys.instance(self.dice.choice(INSTANCES))
        await self.run("lease", [self.keys.seeded, key], [self.dice.choice(["begin", "beaten", "beaten"]), FAR])

    async def seed_lease(self) -> None:
        stage = self.dice.choice(["take", "renew", "finish"])
        await self.run("seed_lease", [self.keys.seed_lease, self.keys.seeded], [self._token(), stage, FAR])

    async def forget(self) -> None:
        mitras = self.dice.sample(MITRAS, self.dice.randint(1, 2))
        keys = [*self.keys.sets_of_ids, self.keys.seed_lease]
        for mitra in mitras:
            keys += (self.keys.capacity(mitra), self.keys.heartbeat(mitra))
        await self.run("forget", keys, [self._token(), *mitras])

    async def strays(self) -> None:
        names, dice = self.keys, self.dice
        key = dice.choice([names.online, names.heartbeats, names.connections])
        if key == names.online:  # another program puts somebody there of whom nothing is known
            stranger = dice.choice(MITRAS)
            await self.server.sadd(key, stranger)
            self.twin.values.setdefault(key, set()).add(stranger)
        scan = {names.online: "SSCAN", names.heartbeats: "ZSCAN", names.connections: "HSCAN"}[key]
        await self.run("strays", [key, names.versions], [scan, 0, 1_000], alike=in_any_order)

    async def inspect(self) -> None:
        keys = list(self.keys.sets_of_ids)
        for mitra in MITRAS:
            keys += (self.keys.capacity(mitra), self.keys.heartbeat(mitra))
        await self.run("inspect", keys, list(MITRAS))

    async def wipe(self) -> None:
        names = self.keys
        keys = [names.seed_lease, names.seeded, *map(names.instance, INSTANCES), *names.sets_of_ids, names.snapshot]
        if self.dice.random() < 0.1:
            await self.run("wipe", keys, [self.dice.choice(["", "t1", "t2"])])

    def _version(self, mitra: str) -> int:
        """The one that is held, the next one, or an older one."""
        held = int(self.twin.values.get(self.keys.versions, {}).get(mitra, 1))
        return self.dice.choice([held, held + 1, held + 1, self.dice.randint(1, held)])

    def _owner(self) -> str:
        return self.dice.choice(["", "a c1", "a c2", "b c3", "- http:s"])

    def _token(self) -> str:
        return self.dice.choice(["t1", "t2"])

    def _leases(self) -> list[str]:
        return [self.keys.instance(name) for name in self.dice.sample(INSTANCES, self.dice.randint(0, 2))]


async def test_the_twin_does_what_the_scripts_do(valkey: EmbeddedValkey) -> None:
    dice = Random(5)
    server: Any = redis.Redis.from_url(valkey.url, decode_responses=True)
    async with server:
        both = Both(server, (await server.info("server"))["run_id"], dice)
        calls = [both.apply, both.apply, both.beat, both.beat, both.beats, both.counts, both.pool, both.lease]
        calls += [both.lease, both.seed_lease, both.seed_lease, both.forget, both.inspect, both.strays, both.wipe]
        for n in range(ROUNDS):
            await dice.choice(calls)()
            if n % 5 == 0:
                await both.same()

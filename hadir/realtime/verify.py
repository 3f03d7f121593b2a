"""`hadir verify`: Postgres, the mirror and what live instances hold, compared; repaired by a reseed."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from redis.exceptions import RedisError

from hadir.config import Config
from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.errors import HadirError, PostgresUnavailable, ValkeyUnavailable
from hadir.realtime import rows as presence_rows
from hadir.realtime.keys import Keys
from hadir.realtime.liveness import DEAD_S
from hadir.realtime.mirror import Held, Mirror, owner_of
from hadir.realtime.presence import Row, State
from hadir.realtime.seeding import Seeder
from hadir.realtime.valkey import Valkey, connect

PAGE = 500
SETTLES_S = 2.0
"""A difference counts when it is still there, at the same version, after this long: writes are under way."""
CENSUS_S = 2.0
SHOWN_MAX = 50
REACH_S = 3.0


@dataclass
class Report:
    """What differs: one sentence each; and who did not answer."""

    rows: int = 0
    differences: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def differences(row: Row, held: Held, now_ms: int, stale_ms: int) -> Iterable[str]:
    """What the mirror holds of a mitra against what its row says."""
    online = row.state is not State.OFFLINE
    beating = row.state is State.ONLINE
    expected = {
        "version": (held.version, row.version),
        "mitras:online": (held.online, online),
        "mitras:deactivated": (held.deactivated, not row.is_active),
        "mitras:heartbeats": (held.beat_ms is not None, beating),
        "mitras:available": (held.available, beating and row.has_capacity),
        "mitras:connections": (held.owner, owner_of(row)),
        "mitra:capacity": (held.capacity, row.open_sessions),
    }
    for name, (has, should) in expected.items():
        if has != should:
            yield f"{row.mitra_id}: {name} is {has!r}, the row says {should!r}"
    # The string goes by itself when the beat is stale; a margin of a second for what is under way.
    if held.beat_ms is not None and not held.has_string and held.beat_ms + stale_ms > now_ms + 1_000:
        yield f"{row.mitra_id}: mitra:heartbeat is missing although its beat is fresh"
    if held.beat_ms is None and held.has_string:
        yield f"{row.mitra_id}: mitra:heartbeat is there although no beat is held"


class Verifier:
    """Compares; every difference is looked at a second time."""

    def __init__(self, config: Config, postgres: Postgres, valkey: Valkey, mirror: Mirror, keys: Keys) -> None:
        self._config = config
        self._postgres = postgres
        self._valkey = valkey
        self._mirror = mirror
        self._keys = keys
        self._stale_ms = round(config.heartbeat_stale_s * 1000)

    async def compare(self) -> Report:
        """Raises `StoreUnavailable`: without both stores there is nothing to compare."""
        report = Report()
        if not await self._mirror.is_seeded():
            report.differences.append("the mirror is cold: it was not seeded since Valkey started")
        suspicious: dict[str, tuple[int, list[str]]] = {}
        async for page in self._pages():
            report.rows += len(page)
            suspicious |= await self._differ(page)
        strangers = await self._unknown_ids()
        census = await self._differ_census(report)
        if suspicious or strangers or census:
            await asyncio.sleep(SETTLES_S)
        report.differences += await self._still(suspicious)
        report.differences += [
            f"{mitra_id}: held by the mirror, unknown to Postgres"
            for mitra_id in sorted(strangers & await self._unknown_ids())
        ]
        if census or report.silent:
            report.differences += sorted(census & await self._differ_census(report))
        return report

    async def _pages(self) -> AsyncIterator[Sequence[Row]]:
        after = presence_rows.FIRST_ID
        while True:
            page = (await presence_rows.read_page(self._postgres, after, PAGE)).rows
            if not page:
                return
            yield page
            after = page[-1].mitra_id

    async def _differ(self, rows: Sequence[Row]) -> dict[str, tuple[int, list[str]]]:
        held, now_ms = await self._mirror.inspect([row.mitra_id for row in rows])
        found = {
            row.mitra_id: (row.version, list(differences(row, each, now_ms, self._stale_ms)))
            for row, each in zip(rows, held, strict=True)
        }
        return {mitra_id: entry for mitra_id, entry in found.items() if entry[1]}

    async def _still(self, before: dict[str, tuple[int, list[str]]]) -> list[str]:
        lines: list[str] = []
        for chunk in presence_rows.chunked(before, PAGE):
            rows = (await presence_rows.read(self._postgres, chunk)).rows
            again = await self._differ(rows)
            lines += [line for i, (version, found) in again.items() if version == before[i][0] for line in found]
        return lines

    async def _unknown_ids(self) -> set[str]:
        unknown: set[str] = set()
        for key in self._keys.sets_of_ids:
            cursor = 0
            while True:
                cursor, ids = await self._mirror.scan_ids(key, cursor)
                records = await self._postgres.fetch(sql("presence_known"), presence_rows.uuids(ids))
                unknown |= set(ids) - {record["mitra_id"] for record in records}
                if cursor == 0:
                    break
        return unknown

    async def _differ_census(self, report: Report) -> set[str]:
        """Rows against the sockets that live instances say they hold."""
        alive = await self._postgres.fetch(sql("instances_all"))
        expected = [record["id"] for record in alive if record["age_s"] < DEAD_S]
        held, answered = await self._census(expected)
        report.silent = sorted(set(expected) - answered)
        lines: set[str] = set()
        async for page in self._pages():
            for row in page:
                holders = held.get(row.mitra_id, {})
                if row.instance_id in answered and holders.get(row.instance_id or "") != row.connection_id:
                    lines.add(f"{row.mitra_id}: its row names a socket that {row.instance_id} does not hold")
                for instance_id, connection_id in holders.items():
                    if (instance_id, connection_id) != (row.instance_id, row.connection_id):
                        lines.add(f"{row.mitra_id}: {instance_id} holds a socket that its row does not name")
        return lines

    async def _census(self, expected: Sequence[str]) -> tuple[dict[str, dict[str, str]], set[str]]:
        """mitra → instance → connection, and which instances told all of theirs."""
        held: dict[str, dict[str, str]] = {}
        answered: set[str] = set()
        reply_to = f"{self._keys.events_channel}:census:{secrets.token_hex(8)}"
        client = connect(self._config.valkey_url, connections=2)
        pubsub = client.pubsub()
        try:
            async with asyncio.timeout(CENSUS_S):
                await pubsub.subscribe(reply_to)
                question = {"v": 1, "type": "census", "ids": [reply_to], "from": "verify"}
                await self._valkey.command("PUBLISH", self._keys.events_channel, orjson.dumps(question))
                async for message in pubsub.listen():
                    if message["type"] != "message":
                        continue
                    reply = orjson.loads(message["data"])
                    for mitra_id, connection_id in reply["held"]:
                        held.setdefault(mitra_id, {})[reply["instance"]] = connection_id
                    if reply["done"]:
                        answered.add(reply["instance"])
                    if answered >= set(expected):
                        break
        except TimeoutError:
            pass  # the silent are named
        except RedisError as error:
            raise ValkeyUnavailable(f"Valkey cannot be subscribed to: {error}") from error
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await client.aclose()
        return held, answered


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[Verifier, Seeder]]:
    """A verifier on the stores of a configuration. Raises `StoreUnavailable` when one cannot be reached."""
    keys = Keys(config.valkey_hash_tag)
    pooler = config.database_pooler
    async with (
        Postgres(config.database_url, pool_max=2, pooler=pooler) as postgres,
        Valkey(config.valkey_url) as valkey,
    ):
        mirror = Mirror(
            valkey,
            keys,
            stale_s=config.heartbeat_stale_s,
            interval_s=config.heartbeat_interval_s,
            postgres_fresh_s=config.postgres_fresh_s,
            lease_s=config.instance_lease_s,
            reread=lambda ids: presence_rows.read(postgres, ids),
            live_instances=lambda: (),
            on_backwards=lambda: None,
            on_overflow=lambda: None,
        )
        await reached(postgres, valkey)
        yield Verifier(config, postgres, valkey, mirror, keys), Seeder(mirror, postgres, keys)


async def reached(postgres: Postgres, valkey: Valkey) -> None:
    """Returns once both answer. Raises `StoreUnavailable` where one does not within `REACH_S`."""
    for _ in range(round(REACH_S / 0.05)):
        if postgres.available and valkey.available:
            return
        await asyncio.sleep(0.05)
    if not postgres.available:
        raise PostgresUnavailable("Postgres cannot be reached.")
    raise ValkeyUnavailable("Valkey cannot be reached.")


async def run(config: Config, repair: bool) -> int:
    """Prints what differs; answers 1 if anything did (or, repaired, still does)."""
    async with opened(config) as (verifier, seeder):
        report = await verifier.compare()
        _print(report)
        if report.differences and repair:
            if not await seeder.seed("repair"):
                raise HadirError("Somebody else is seeding the mirror; try again in a moment.")
            report = await verifier.compare()
            sys.stdout.write("after the repair:\n")
            _print(report)
    return 1 if report.differences else 0


def _print(report: Report) -> None:
    for line in report.differences[:SHOWN_MAX]:
        sys.stdout.write(line + "\n")
    if len(report.differences) > SHOWN_MAX:
        sys.stdout.write(f"… and {len(report.differences) - SHOWN_MAX} more\n")
    for instance_id in report.silent:
        sys.stdout.write(f"instance {instance_id} did not answer; what it holds was not compared\n")
    sys.stdout.write(f"{report.rows} mitras compared, {len(report.differences)} differences\n")

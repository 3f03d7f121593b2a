"""A twin of Valkey: the commands and scripts that this program uses, on Python values and a given clock.

`test_twin.py` holds it to the real scripts on a real server.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import NoScriptError

from hadir.realtime.valkey import script

SCRIPTS = (
    "apply",
    "beat",
    "beats",
    "counts",
    "forget",
    "inspect",
    "lease",
    "pool",
    "seed_lease",
    "strays",
    "wipe",
)
BY_SHA = {script(name)[1]: name for name in SCRIPTS}


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Versions(dict[str, str]):
    """Of rows, as the mirror has them."""

    def __setitem__(self, mitra_id: str, version: str) -> None:
        assert int(version) >= int(self.get(mitra_id, 0)), f"R2: {mitra_id} goes back to version {version}"
        super().__setitem__(mitra_id, version)


class Database:
    """Keys with their values (str, set, dict: a hash or a sorted set) and when they expire (ms)."""

    def __init__(self, run_id: str = "0") -> None:
        self.run_id = run_id
        self.values: dict[str, Any] = {}
        self.expiries: dict[str, int] = {}
        self.loaded: set[str] = set()

    def copy(self) -> Database:
        twin = Database(self.run_id)
        twin.values, twin.expiries = deepcopy(self.values), dict(self.expiries)
        return twin

    def execute(self, words: Sequence[Any], now: int) -> Any:
        """The answer of one command at `now` (ms)."""
        verb = words[0]
        if verb in ("EVALSHA", "EVAL"):
            sha = words[1] if verb == "EVALSHA" else next(s for s, n in BY_SHA.items() if script(n)[0] == words[1])
            if verb == "EVALSHA" and sha not in self.loaded:
                raise NoScriptError("NOSCRIPT")
            self.loaded.add(sha)
            keys = words[3 : 3 + words[2]]
            return self.run(BY_SHA[sha], keys, words[3 + words[2] :], now)
        return getattr(self, verb.lower())(now, *words[1:])

    def run(self, name: str, keys: Sequence[str], args: Sequence[Any], now: int) -> Any:
        return getattr(self, f"script_{name}")(now, keys, args)

    # commands

    def ping(self, now: int) -> str:
        return "PONG"

    def get(self, now: int, key: str) -> Any:
        if key in self.expiries and self.expiries[key] <= now:
            self.unlink(now, key)
        return self.values.get(key)

    def exists(self, now: int, *keys: str) -> int:
        return sum(bool(self.get(now, key)) for key in keys)  # what holds nothing does not exist

    def put(self, now: int, key: str, value: str, expires: int | None = None) -> None:
        self.values[key] = value
        if expires is None:
            self.expiries.pop(key, None)
        else:
            self.expiries[key] = expires

    def unlink(self, now: int, *keys: str) -> None:
        for key in keys:
            self.values.pop(key, None)
            self.expiries.pop(key, None)

    def hmget(self, now: int, key: str, *fields: str) -> list[Any]:
        held = self.values.get(key, {})
        return [held.get(field) for field in fields]

    def hlen(self, now: int, key: str) -> int:
        return len(self.values.get(key, ()))

    def zmscore(self, now: int, key: str, *members: str) -> list[Any]:
        return self.hmget(now, key, *members)

    def sismember(self, now: int, key: str, member: str) -> int:
        return int(member in self.values.get(key, ()))

    def sscan(self, now: int, key: str, cursor: int, *_: Any) -> tuple[int, Any]:
        return 0, sorted(self.values.get(key, ()))

    def hscan(self, now: int, key: str, cursor: int, *_: Any) -> tuple[int, Any]:
        return 0, sorted(self.values.get(key, {}).items())

    zscan = hscan

    def flushall(self, now: int) -> None:
        self.values.clear()
        self.expiries.clear()

    # what scripts are made of

    def _members(self, key: str) -> set[str]:
        found: set[str] = self.values.setdefault(key, set())
        return found

    def _hash(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.values.setdefault(key, {})
        return found

    def _is_seeded(self, now: int, sentinel: str) -> bool:
        return bool(self.get(now, sentinel) == self.run_id)

    def _is_warm(self, now: int, sentinel: str, leases: Sequence[str]) -> bool:
        return self._is_seeded(now, sentinel) and all(self.get(now, lease) == "beaten" for lease in leases)

    def _beat(self, heartbeats: str, available: str, string: str, mitra: str, at: int, now: int, stale: int) -> None:
        beats, fit = self._hash(heartbeats), self._hash(available)
        newer = mitra not in beats or at > beats[mitra]
        if newer:
            beats[mitra] = at
        if mitra in fit and at > fit[mitra]:
            fit[mitra] = at
        if newer and at + stale > now:
            self.put(now, string, iso(at), at + stale)

    # scripts

    def script_apply(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> Any:
        online, deactivated, beats, fit, queue = (
            self._members(keys[0]),
            self._members(keys[1]),
            *map(self._hash, keys[2:5]),
        )
        versions, owners = self.values.setdefault(keys[5], Versions()), self._hash(keys[6])
        stale, token = args[0], args[1]
        if token != "" and self.get(now, keys[7]) != token:
            return None
        drifted, newer = 0, []
        count = (len(keys) - 8) // 2
        for n in range(count):
            mitra, version, active, state, opened, most, last_session, owner, age, beat = args[2 + n :: count]
            capacity, string = keys[8 + n], keys[8 + count + n]
            held = versions.get(mitra)
            if held is not None and int(held) > version:
                newer.append(mitra)
                continue
            versions[mitra] = str(version)
            moved = _moved(deactivated, mitra, not active) + _moved(online, mitra, state != "offline")
            self.put(now, capacity, str(opened)) if opened > 0 else self.unlink(now, capacity)
            owners.pop(mitra, None) if owner == "" else owners.update({mitra: owner})
            if state == "online":
                if mitra not in beats:
                    self._beat(keys[2], keys[3], string, mitra, now - age, now, stale)
                if beat != "":
                    self._beat(keys[2], keys[3], string, mitra, now - beat, now, stale)
                if opened < most:
                    moved += mitra not in fit
                    fit[mitra] = beats[mitra]
                    queue[mitra] = opened * 10**11 + last_session
                else:
                    moved += fit.pop(mitra, None) is not None
                    queue.pop(mitra, None)
            else:
                moved += beats.pop(mitra, None) is not None
                fit.pop(mitra, None)
                queue.pop(mitra, None)
                self.unlink(now, string)
            drifted += bool(moved and held == str(version))
        return [drifted, *newer]

    def script_beat(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> Any:
        refused: list[str] = []
        strangers: list[str] = []
        if not self._is_seeded(now, keys[4]):
            return [0, now, refused, strangers]
        deactivated, beats, owners = self._members(keys[0]), self._hash(keys[1]), self._hash(keys[3])
        count = len(keys) - 5
        ids, owned_by, ages = (args[1 + n * count : 1 + (n + 1) * count] for n in range(3))
        for n, (mitra, owner, age) in enumerate(zip(ids, owned_by, ages, strict=True)):
            if mitra in deactivated:
                refused.append(mitra)
            elif owners.get(mitra) != owner or mitra not in beats:
                strangers.append(mitra)
            else:
                self._beat(keys[1], keys[2], keys[5 + n], mitra, now - age, now, args[0])
        return [1, now, refused, strangers]

    def script_beats(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> Any:
        if not self._is_warm(now, keys[0], keys[2:]):
            return None
        oldest = None if args[0] == "" else now - args[0]
        youngest = now - args[1]
        found = sorted(
            (at, mitra)
            for mitra, at in self._hash(keys[1]).items()
            if at <= youngest and (oldest is None or at >= oldest)
        )
        return [word for at, mitra in found[: args[2]] for word in (mitra, str(now - at))]

    def script_counts(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> Any:
        if not self._is_warm(now, keys[0], keys[6:]):
            return None
        ttl = args[1]
        if ttl > 0 and (body := self.get(now, keys[5])) is not None:
            return [body, self.expiries[keys[5]] - now]
        online, fit = self._members(keys[1]), self._hash(keys[3])
        fresh = sum(at >= now - args[0] for at in fit.values())
        body = ""
        if ttl > 0:
            body = (
                f'{{"available":{fresh},"online":{len(online)},"as_of":"{iso(now)}",'
                f'"max_age_s":{args[2]},"state":"live"}}'
            )
            self.put(now, keys[5], body, now + ttl)
        return [body, ttl, len(online), len(self._hash(keys[2])), fresh, len(fit), len(self._members(keys[4])), now]

    def script_forget(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> int:
        if self.get(now, keys[7]) != args[0]:
            return 0
        for n, mitra in enumerate(args[1:]):
            for key in keys[:2]:
                self._members(key).discard(mitra)
            for key in keys[2:7]:
                self._hash(key).pop(mitra, None)
            self.unlink(now, keys[8 + n * 2], keys[9 + n * 2])
        return 1

    def script_inspect(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> Any:
        found: list[Any] = []
        for n, mitra in enumerate(args):
            found += (
                self._hash(keys[5]).get(mitra, ""),
                int(mitra in self._members(keys[0])),
                int(mitra in self._members(keys[1])),
                _score(self._hash(keys[2]), mitra),
                int(mitra in self._hash(keys[3])),
                _score(self._hash(keys[4]), mitra),
                self._hash(keys[6]).get(mitra, ""),
                self.get(now, keys[7 + n * 2]) or "0",
                self.exists(now, keys[8 + n * 2]),
            )
        return [*found, now]

    def script_lease(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> int:
        if not self._is_seeded(now, keys[0]) or (args[0] == "beaten" and not self.exists(now, keys[1])):
            return 0
        self.put(now, keys[1], args[0], now + args[1])
        return 1

    def script_pool(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> Any:
        if not self._is_warm(now, keys[0], keys[3:]):
            return None
        beats, queue = self._hash(keys[1]), self._hash(keys[2])
        ordered = sorted(queue, key=lambda mitra: (queue[mitra], mitra))[: args[2]]
        return [mitra for mitra in ordered if beats.get(mitra, -1) >= now - args[0]][: args[1]]

    def script_seed_lease(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> int:
        holder = self.get(now, keys[0])
        if args[1] == "take":
            if holder is not None:
                return 0
            self.put(now, keys[0], args[0], now + args[2])
        elif holder != args[0]:
            return 0
        elif args[1] == "finish":
            self.put(now, keys[1], self.run_id)
            self.unlink(now, keys[0])
        else:
            self.expiries[keys[0]] = now + args[2]
        return 1

    def script_strays(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> Any:
        versions = self._hash(keys[1])
        return ["0", sorted(mitra for mitra in self.values.get(keys[0], ()) if mitra not in versions)]

    def script_wipe(self, now: int, keys: Sequence[str], args: Sequence[Any]) -> int:
        if args[0] == "":
            self.unlink(now, *keys)
        elif self.get(now, keys[0]) != args[0]:
            return 0
        elif not self._is_seeded(now, keys[1]):
            self.unlink(now, *keys[1:])
        return 1


def _moved(members: set[str], mitra: str, there: bool) -> int:
    if (mitra in members) == there:
        return 0
    (members.add if there else members.discard)(mitra)
    return 1


def _score(scores: dict[str, int], mitra: str) -> str:
    return str(scores[mitra]) if mitra in scores else ""

"""The beacon while Valkey is dead and while it hangs: errors, wrong numbers, latencies against quiet ones.

    python -m benchmarks.outage                     # a minute of each; --seconds 10 makes it short

Two instances as processes of their own, real stores, mitras that beat. Requests are sent by the clock, whether or not
the one before was answered, and a latency counts from when the request was due. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import orjson
import uvloop

from benchmarks.document import RELIABILITY, made, write
from benchmarks.scene import CONNECTS_PER_S, Socket, accounts, beat_for, instance, open_socket, stores
from hadir.config import load, raise_descriptor_limit
from hadir.dev.embedded import EmbeddedValkey

REQUEST = b"GET /api/beacon HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER_S = 10.0
KEPT_S = 3.0
"""How long a connection may be idle: the server ends those that were for 5 s."""
READY_S = 30.0


@dataclass
class Phase:
    """What was answered during a part of the run."""

    name: str
    latencies_s: list[float] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    """Numbers that were not what lives."""

    def row(self, quiet: Phase) -> str:
        times = sorted(self.latencies_s)
        p50, p99, longest = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99, 1 - 1e-9))
        usual = sorted(quiet.latencies_s)[int(len(quiet.latencies_s) * 0.99)] * 1000
        said = ", ".join(f"{state} {count}" for state, count in self.states.most_common())
        return (
            f"| {self.name} | {len(times)} | {len(self.errors)} | {len(self.wrong)} | {p50:.1f} | {p99:.1f} "
            f"| {p99 / usual:.1f} x | {longest:.0f} | {said} |"
        )


HEAD = """\
| phase | answers | errors | wrong | p50 ms | p99 ms | of quiet p99 | max ms | states |
|---|---|---|---|---|---|---|---|---|"""


class Asker:
    """Asks one instance's beacon over connections that are kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def ask(self) -> tuple[int, bytes]:
        """Status and body. Raises OSError (TimeoutError is one), or `IncompleteReadError`."""
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await self._connection()
            try:
                writer.write(REQUEST)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
            except BaseException:
                writer.close()
                raise
        self._idle.append((time.monotonic(), reader, writer))
        return int(head[9:12]), body

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle and self._idle[0][0] < time.monotonic() - KEPT_S:
            self._idle.popleft()[2].close()
        if self._idle:
            return self._idle.pop()[1:]
        return await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        for _, _, writer in self._idle:
            writer.close()


class Requests:
    """`per_s` requests a second, to the instances in turn; whatever comes back belongs to the phase it was sent in."""

    def __init__(self, askers: Sequence[Asker], per_s: float, live: int) -> None:
        self._askers, self._per_s, self._live = askers, per_s, live
        self.phase = Phase("")
        self.state: dict[Asker, str] = {}
        """What each instance's last answer said that it was."""

    async def run(self) -> None:
        began, sent = time.monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                due = began + sent / self._per_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                tasks.create_task(self._one(self._askers[sent % len(self._askers)], due))
                sent += 1

    async def _one(self, asker: Asker, due: float) -> None:
        phase = self.phase
        try:
            status, body = await asker.ask()
        except (OSError, asyncio.IncompleteReadError) as error:
            phase.errors.append(repr(error))
            return
        phase.latencies_s.append(time.monotonic() - due)
        if status != 200:
            phase.errors.append(f"{status}: {body.decode()}")
            return
        answer = orjson.loads(body)
        phase.states[answer["state"]] += 1
        self.state[asker] = answer["state"]
        if answer["available"] != self._live:
            phase.wrong.append(answer["available"])

    async def all_say(self, state: str) -> float:
        """Waits until every instance's beacon says so; answers the seconds that took."""
        began = time.monotonic()
        self.state.clear()
        async with asyncio.timeout(READY_S):
            while len(self.state) < len(self._askers) or set(self.state.values()) != {state}:
                await asyncio.sleep(0.01)
        return time.monotonic() - began


async def connected(ports: Sequence[int], tokens: Sequence[str]) -> list[Socket]:
    sockets: list[Socket] = []
    step = CONNECTS_PER_S // 10
    for start in range(0, len(tokens), step):
        began = time.monotonic()
        batch = enumerate(tokens[start : start + step])
        sockets += await asyncio.gather(*(open_socket("127.0.0.1", ports[n % len(ports)], t, Socket) for n, t in batch))
        await asyncio.sleep(max(0.0, began + step / CONNECTS_PER_S - time.monotonic()))
    random.shuffle(sockets)
    return sockets


async def outage(requests: Requests, valkey: EmbeddedValkey, seconds: float) -> tuple[list[Phase], list[str]]:
    """The phases in turn; and what is to be said of the time that recovery took."""
    phases, notes = [], []

    async def phase(name: str, for_s: float) -> None:
        requests.phase = Phase(name)
        phases.append(requests.phase)
        await asyncio.sleep(for_s)

    await requests.all_say("live")
    await phase("quiet", seconds)
    valkey.kill()
    await phase("Valkey dead", seconds)
    requests.phase = Phase("Valkey comes back, empty")
    phases.append(requests.phase)
    await valkey.start()
    notes.append(f"live again {await requests.all_say('live'):.1f} s after Valkey was back")
    await phase("quiet again", seconds / 2)
    valkey.freeze()
    try:
        await phase("Valkey hung", seconds)
    finally:
        valkey.thaw()
    requests.phase = Phase("Valkey thaws")
    phases.append(requests.phase)
    notes.append(f"live again {await requests.all_say('live'):.1f} s after the thaw")
    await phase("quiet at last", seconds / 2)
    return phases, notes


async def main(mitras: int, per_s: float, seconds: float, cache_s: float, keep: bool) -> int:
    raise_descriptor_limit()
    async with AsyncExitStack() as stack:
        postgres, valkey = await stack.enter_async_context(stores())
        environment = {
            "DATABASE_URL": postgres.url,
            "VALKEY_URL": valkey.url,
            "AUTH_JWT_SECRET": secrets.token_hex(32),
            "BEACON_CACHE_SECONDS": f"{cache_s:g}",
            "DRAIN_SECONDS": "0",
        }
        instances = [await instance(environment, stack) for _ in range(2)]
        config = load(instances[0])
        ports = [int(each["PORT"]) for each in instances]
        askers = [Asker(port) for port in ports]
        for asker in askers:
            stack.callback(asker.close)
            await ready(asker)
        sockets = await connected(ports, await accounts(postgres.url, config, mitras))
        requests = Requests(askers, per_s, len(sockets))
        beating = asyncio.create_task(beat_for(sockets, config.heartbeat_interval_s, 1e9))
        asking = asyncio.create_task(requests.run())
        try:
            phases, notes = await outage(requests, valkey, seconds)
        finally:
            for task in (beating, asking):
                task.cancel()
            await asyncio.wait([beating, asking])
        lost = sum(socket.lost for socket in sockets)
        for socket in sockets:
            socket.transport.abort()
    notes.append(f"{lost} of {mitras} sockets lost")
    notes += [f"{each.name}: {each.errors[:3]} {each.wrong[:10]}" for each in phases if _failed(each)]
    about = f"{mitras} mitras beating at two instances, {per_s:g} beacon requests a second, valid for {cache_s:g} s."
    table = "\n".join([HEAD, *(phase.row(phases[0]) for phase in phases)])
    text = "\n\n".join([f"{about} {made()}", table, "\n".join(f"- {note}" for note in notes)])
    print(text)
    if keep:
        write(RELIABILITY, "outage", text)
    return int(any(_failed(each) for each in phases) or lost > 0)


def _failed(phase: Phase) -> bool:
    return bool(phase.errors or phase.wrong)


async def ready(asker: Asker) -> None:
    """Waits until the instance answers."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                if (await asker.ask())[0] == 200:
                    return
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mitras", type=int, default=1_000)
    parser.add_argument("--per-second", type=float, default=200.0, help="beacon requests, over both instances")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each fault")
    parser.add_argument("--cache", type=float, default=1.0, help="BEACON_CACHE_SECONDS")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/reliability.md")
    asked = parser.parse_args()
    sys.exit(uvloop.run(main(asked.mitras, asked.per_second, asked.seconds, asked.cache, asked.write)))

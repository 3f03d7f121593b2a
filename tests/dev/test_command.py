"""`hadir dev` and `hadir simulate` as processes, the way a person meets them."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import psutil
import redis

from hadir.client.exchange import exchange
from hadir.dev.embedded import dies_with_parent, free_port
from tests.support import eventually

READY_S = 15.0
LAST_LINE = "-m hadir token"


async def run(
    *arguments: str, environment: dict[str, str] | None = None, terminal: int | None = None
) -> tuple[int, str]:
    """The exit code of a `hadir` command and all that it said, where it did not say it to a `terminal`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hadir", *arguments,
        stdout=subprocess.PIPE if terminal is None else terminal, stderr=subprocess.STDOUT,
        env=os.environ | (environment or {}),
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (said or b"").decode()


class Dev:
    """A running `hadir dev` and what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, port: int) -> None:
        self.process, self.port = process, port
        self._output = output

    def said(self) -> str:
        return self._output.read_text()

    def line(self, containing: str) -> str:
        return next(line for line in self.said().splitlines() if containing in line)

    def family(self) -> list[psutil.Process]:
        children: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return children

    def environment(self) -> dict[str, str]:
        words = [*shlex.split(self.line("-m hadir verify")), *shlex.split(self.line(LAST_LINE))]
        return dict(word.split("=", 1) for word in words if re.match("[A-Z_]+=", word))

    async def paste(self, containing: str) -> str:
        """What a printed line answers in a shell that knows nothing of us."""
        shell = await asyncio.create_subprocess_shell(
            self.line(containing), cwd="/", stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
        )
        told, _ = await shell.communicate()
        assert shell.returncode == 0, told
        return told.decode()

    async def webhook(self, token: str) -> int:
        """The status with which a payment is answered."""
        body = b'{"id":"i","external_id":"e","status":"PAID"}'
        headers = {"x-callback-token": token, "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}/webhooks/xendit"
        return (await exchange("POST", url, headers, body, timeout_s=5)).status

    async def available(self, at_least: int) -> bool:
        return int(orjson.loads(await self.paste("/api/beacon"))["available"]) >= at_least


@asynccontextmanager
async def dev(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> AsyncIterator[Dev]:
    """Ready; told to end at the end, so that its folder goes too."""
    output, port = folder / "output", free_port(4)
    command = [sys.executable, "-m", "hadir", "dev", "--port", str(port), *arguments]
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - from the thread whose end it must not outlive
            command,
            stdout=file,
            stderr=file,
            preexec_fn=dies_with_parent(),
            env=os.environ | {"TMPDIR": "/tmp"} | (environment or {}),
        )
    running = Dev(process, output, port)
    try:
        await eventually(lambda: LAST_LINE in running.said() or process.poll() is not None, within=READY_S)
        assert process.poll() is None, running.said()
        yield running
    finally:
        try:
            process.send_signal(signal.SIGINT)
            await eventually(lambda: process.poll() is not None, within=20)
        finally:
            process.kill()
            process.wait()


def alive(family: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


async def test_the_whole_system_runs_as_printed_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    async with dev(tmp_path, "--instances", "2", "--mitras", "4", "--customers", "2") as running:
        family = running.family()
        await eventually(lambda: running.available(3), within=10)
        counts = orjson.loads(await running.paste("/api/internal/counts"))
        assert counts["state"] == "live"
        assert orjson.loads(await running.paste("/deactivate"))["is_active"] is False
        assert orjson.loads(await running.paste("/activate"))["is_active"] is True
        assert "0 differences" in await running.paste("-m hadir verify")
        assert (await running.paste(LAST_LINE)).count(".") == 2
        assert (await running.paste("token --role customer")).count(".") == 2
        await eventually(lambda: re.search(r"simulated mitras available: \d.* · beacon: \d", running.said()))
        # The second such line: by then the mitra that won has heard of it, too.
        accepted = r"pairings: .*\d accepted.* · sessions: \d open"
        await eventually(lambda: len(re.findall(accepted, running.said())) > 1, within=40)

        victim = int(re.findall(r"dev-1: .* pid (\d+)", running.said())[0])
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: "dev-1 ended by SIGKILL." in running.said())

        running.process.send_signal(signal.SIGINT)
        await eventually(lambda: running.process.poll() is not None, within=20)
        assert running.process.returncode == 0, running.said()
        assert alive(family) == []
        assert "rules broken: 0" in running.said()
        assert re.search(r"^accepts: .*\d won", running.said(), re.MULTILINE), running.said()
        assert re.search(r"^request to first offer: p50 ", running.said(), re.MULTILINE), running.said()


async def test_the_callers_own_terms_stand_and_without_any_sessions_are_short(tmp_path: Path) -> None:
    none = ("--mitras", "0", "--customers", "0")
    async with dev(tmp_path, *none) as running:
        assert "to be paid within 20 s, then 60 s long" in running.said()
        assert await running.webhook("wrong") == 401, "there is a token, which nobody outside knows"
    terms = {"SESSION_SECONDS": "300", "XENDIT_CALLBACK_TOKEN": "a-token-of-the-caller"}
    async with dev(tmp_path, *none, environment=terms) as running:
        assert "to be paid within 20 s, then 300 s long" in running.said()
        assert await running.webhook("a-token-of-the-caller") == 200


async def test_a_killed_run_leaves_no_process_and_its_data_can_be_used_again(tmp_path: Path) -> None:
    folder = Path("/tmp", f"hadir-test-{os.getpid()}-{tmp_path.name}")  # where any user can go
    try:
        await _use_and_kill(tmp_path, folder)
        await _use_and_kill(tmp_path, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


async def _use_and_kill(tmp_path: Path, folder: Path) -> None:
    async with dev(tmp_path, "--mitras", "2", "--customers", "0", "--data-dir", str(folder)) as running:
        await eventually(lambda: running.available(1), within=10)
        family = running.family()
        assert len(family) >= 3
        running.process.kill()
        await eventually(lambda: not alive(family))


async def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port(2)))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = await run("dev", "--port", str(port))
    assert (code, said) == (1, f"hadir dev: Port {port} is taken; choose another with --port.\n")


async def test_simulate_fails_when_the_beacon_is_wrong_and_only_then(tmp_path: Path) -> None:
    async with dev(tmp_path, "--mitras", "0", "--customers", "0") as running:
        environment = running.environment()
        simulate = ["simulate", "--url", f"http://127.0.0.1:{running.port}", "--mitras", "5", "--churn", "0"]
        code, said = await run(*simulate, "--seconds", "3", environment=environment)
        assert code == 0, said
        assert "rules broken: 0" in said

        wrong = asyncio.create_task(run(*simulate, "--seconds", "7", environment=environment))
        with redis.Redis.from_url(environment["VALKEY_URL"]) as valkey:
            await eventually(lambda: valkey.zcard("mitras:available") == 5, within=8)

            def damaged_until_the_end() -> bool:
                valkey.delete("mitras:available")  # again and again, because the server heals what is new
                return wrong.done()

            await eventually(damaged_until_the_end, within=15)
        code, said = await wrong
        assert code == 1, said
        assert "RULE BROKEN" in said


async def test_the_worst_phones_are_no_reason_to_doubt_the_server(tmp_path: Path) -> None:
    async with dev(tmp_path, "--instances", "2", "--mitras", "0", "--customers", "0") as running:
        simulate = ["simulate", "--url", f"http://127.0.0.1:{running.port}", "--mitras", "40", "--churn", "120"]
        code, said = await run(*simulate, "--seconds", "8", environment=running.environment())
        assert code == 0, said
        lost = re.search(r"connections: \d+ \((\d+) after a loss", said)
        assert lost is not None, said
        assert int(lost[1]) > 0, said


async def test_simulate_says_when_there_is_no_server(database: str) -> None:
    environment = {"DATABASE_URL": database, "AUTH_JWT_SECRET": "s" * 32}
    url = f"http://127.0.0.1:{free_port()}"
    code, said = await run("simulate", "--url", url, environment=environment)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"hadir simulate: {url} cannot be reached")

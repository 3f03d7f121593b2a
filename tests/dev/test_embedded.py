"""Many programs with servers of their own on one machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys

ASK = "from hadir.dev.embedded import free_port; print(*([free_port() for _ in range(100)] + [free_port(4)]))"


async def ports_of_a_process() -> list[int]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ASK, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    *single, first = map(int, said.split())
    return [*single, *range(first, first + 4)]


async def test_processes_that_ask_at_once_get_different_ports() -> None:
    given = [port for ports in await asyncio.gather(*(ports_of_a_process() for _ in range(4))) for port in ports]
    assert len(given) == 4 * 104
    assert len(set(given)) == len(given)

"""`hadir simulate`: realistic load over the public contract."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from importlib.util import find_spec

from hadir import config as configuration
from hadir import logs
from hadir.dev import report
from hadir.dev.simulation import Simulation
from hadir.dev.stopping import stop_asked

STATUS_S = 5.0


async def run(url: str, mitras: int, customers: int, churn: float, seconds: float | None) -> int:
    """Simulates at `url` for so many seconds or until Ctrl-C; 1 when a rule was seen broken, else 0.

    Needs DATABASE_URL and AUTH_JWT_SECRET of the server, to create people and to sign their tokens; with its
    XENDIT_CALLBACK_TOKEN customers pay, without it none can.
    """
    config = configuration.load(os.environ, required=("DATABASE_URL", "AUTH_JWT_SECRET"))
    configuration.raise_descriptor_limit()
    logs.setup("error", "text")
    with stop_asked() as stop:
        async with Simulation(config, [url], mitras, customers, churn) as simulation, asyncio.TaskGroup() as tasks:
            showing = tasks.create_task(_show(simulation))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stop.wait()
            showing.cancel()
    print(report.summary(simulation))
    return 1 if simulation.tally.breaches else 0


async def _show(simulation: Simulation) -> None:
    if sys.stdout.isatty() and find_spec("rich") is not None:
        from hadir.dev import table  # only `hadir[dev]` has rich

        await table.show(simulation)
    else:
        await report.print_lines(simulation, STATUS_S)

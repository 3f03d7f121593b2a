"""How a simulation shows itself on a terminal: a table that changes in place."""

from __future__ import annotations

import asyncio

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from hadir.dev import report
from hadir.dev.simulation import Simulation

TABLE_S = 1.0


async def show(simulation: Simulation) -> None:
    """Keeps the table up to date; until cancelled."""
    with Live(_table(simulation), auto_refresh=False) as live:
        while True:
            await simulation.lookout.ask()
            live.update(_table(simulation), refresh=True)
            await asyncio.sleep(TABLE_S)


def _table(simulation: Simulation) -> Table:
    table = Table(show_header=False, title="hadir simulate")
    table.add_row("simulated mitras available", report.ours(simulation))
    table.add_row("beacon", report.beacon(simulation))
    for name, value in report.figures(simulation, simulation.rates.lately()):
        table.add_row(name, value)
    for breach in simulation.tally.breaches[-report.BREACHES_SHOWN :]:
        table.add_row("", escape(str(breach)))
    return table

"""Simulated customers and mitras at real instances: everything that people do, judged, and held against the rows."""

from __future__ import annotations

from pathlib import Path

from hadir.dev import report
from hadir.dev.embedded import EmbeddedValkey
from hadir.dev.history import History, Rows, inconsistencies
from hadir.dev.simulation import Simulation
from hadir.dev.told import Fate, Offered, Pairing, Said, Session
from tests.support import eventually
from tests.support.system import System

MARKET = {"XENDIT_CALLBACK_TOKEN": "a-token-of-the-tests", "PAYMENT_TIMEOUT_SECONDS": "3", "SESSION_SECONDS": "8"}


async def rows_of(system: System) -> Rows:
    tables = ("pairings", "pairing_offers", "chat_sessions", "chat_messages")
    return Rows(*[await system.sql.fetch(f"SELECT * FROM {table}") for table in tables])


async def test_a_market_of_two_instances_breaks_no_rule_and_its_rows_agree(
    database: str, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with System(database, valkey.url) as system:
        served = [(await system.process(tmp_path / f"log{k}", **MARKET)).served for k in range(2)]
        history = History()
        simulation = Simulation(
            system.config(**MARKET), [each.url for each in served], 30, 10, churn=2.0, history=history, pace=12.0
        )
        dealings = simulation.dealings

        def enough() -> bool:
            """Of what happens often; a broken rule is enough at once."""
            assert simulation.tally.breaches or (
                min(dealings.pairings["accepted"], dealings.payments["paid"]) >= 20
                and dealings.pairings["rerouted"] >= 1
                and dealings.sessions.total() >= 20
                and dealings.delivered >= 100
                and {"won", "taken"} <= dealings.accepts.keys()
            ), report.figures(simulation, {})
            return True

        async with simulation:
            await eventually(enough, within=60)
        assert [str(breach) for breach in simulation.tally.breaches] == []
        assert inconsistencies(history.events(), await rows_of(system)) == []
        kinds = {type(each.what) for each in history.events()}
        assert {Fate, Offered, Pairing, Said, Session} <= kinds

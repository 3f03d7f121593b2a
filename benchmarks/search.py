"""How long the control centre's list of mitras takes: by name and by id, of every state, on a million mitras."""

from __future__ import annotations

import argparse
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import uvloop

from hadir.db.migrate import migrate
from hadir.db.pool import prepare
from hadir.dev.embedded import EmbeddedPostgres
from hadir.http.mitras import ANY, STATES, by_id, by_name

SEARCHES = ("b", "budi", "budi 0", "budi 0a1", "siti ff", "nobody")
FIRST, LAST = str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))
REPEATS = 20
FILL_S = 600


async def timed(connection: asyncpg.Connection, statement: str, *args: object) -> tuple[float, int]:
    """(median ms of the repeats after a first one, rows)"""
    prepared = await connection.prepare(statement)
    rows = await prepared.fetch(*args)
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        await prepared.fetch(*args)
        taken.append(1000 * (time.perf_counter() - started))
    return sorted(taken)[REPEATS // 2], len(rows)


async def main(mitras: int) -> None:
    with TemporaryDirectory(prefix="hadir-bench-") as folder:
        Path(folder).chmod(0o711)  # for the user that PostgreSQL runs as
        postgres = EmbeddedPostgres(Path(folder) / "postgres", fsync=False)
        await postgres.start()
        try:
            await migrate(postgres.url)
            connection = await asyncpg.connect(postgres.url)
            await prepare(connection)
            fill = Path(__file__).with_name("million.sql").read_text()
            ids = {name: str(uuid.uuid4()) for name in ("one", "two", "customer")}
            await connection.execute(fill.format(mitras=mitras, **ids), timeout=FILL_S)
            await connection.execute("VACUUM ANALYZE", timeout=FILL_S)
            worst = 0.0
            for state, condition in {"any": ANY, **STATES}.items():
                asked: dict[str, tuple[str, tuple[object, ...]]] = {"by id": (by_id(condition), (FIRST, LAST, 51))}
                asked |= {f"q={search}": (by_name(condition), (search, "", FIRST, 51)) for search in SEARCHES}
                for what, (statement, args) in asked.items():
                    took, rows = await timed(connection, statement, *args)
                    worst = max(worst, took)
                    print(f"{state:<12} {what:<12} {took:8.2f} ms {rows:>4} rows")
            print(f"{mitras} mitras; the slowest median of {REPEATS}: {worst:.1f} ms")
            await connection.close()
        finally:
            await postgres.stop()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mitras", type=int, default=1_000_000)
    uvloop.run(main(arguments.parse_args().mitras))

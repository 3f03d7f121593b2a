"""After Postgres was away: a failover may have brought it back without its last seconds."""

from __future__ import annotations

from hadir.db.pool import Postgres
from hadir.db.queries import sql
from hadir.realtime import rows as presence_rows
from hadir.realtime.connection import Connection
from hadir.realtime.mirror import Mirror, chunks
from hadir.realtime.presence import Close
from hadir.realtime.registry import Registry
from hadir.realtime.transitions import Transitions

ROWS_AT_ONCE = 1_000


async def look_again(
    postgres: Postgres, mirror: Mirror, transitions: Transitions, registry: Registry[Connection], instance_id: str
) -> None:
    """Compares what this instance holds with the rows: those of its mitras, and those that name it.

    The mirror finds out whether the former are older than they were; of the latter, sockets that have ended meanwhile
    are ended once more. Raises `PostgresUnavailable`.
    """
    for chunk in chunks([held.mitra_id for held in registry], ROWS_AT_ONCE):
        await mirror.apply(await presence_rows.read(postgres, chunk))
    for record in await postgres.fetch(sql("instance_sockets"), instance_id):
        mitra_id, connection_id = record["mitra_id"], record["connection_id"]
        if all(held.connection_id != connection_id for held in registry.of(mitra_id)):
            close = Close(connection_id, False, "lost", record["silent_s"])
            transitions.submit(mitra_id, close, durable=True, must=True)

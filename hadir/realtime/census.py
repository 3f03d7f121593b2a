"""What live instances hold, asked over the bus."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from hadir.realtime.connection import Connection
from hadir.realtime.mirror import chunks
from hadir.realtime.registry import Registry
from hadir.realtime.valkey import Valkey

PER_REPLY = 1_000


async def answer_census(valkey: Valkey, instance_id: str, registry: Registry[Connection], ids: Sequence[str]) -> None:
    """Publishes this instance's claimed connections to the channel that the question names, then that it is done.

    Raises `ValkeyUnavailable`.
    """
    held = [[each.mitra_id, each.connection_id] for each in registry if each.row is not None]
    for reply_to in ids[:1]:
        for chunk in chunks(held, PER_REPLY):
            await _reply(valkey, reply_to, {"instance": instance_id, "held": chunk, "done": False})
        await _reply(valkey, reply_to, {"instance": instance_id, "held": [], "done": True})


async def _reply(valkey: Valkey, channel: str, payload: object) -> None:
    await valkey.command("PUBLISH", channel, orjson.dumps(payload))

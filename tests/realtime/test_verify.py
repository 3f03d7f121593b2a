"""`hadir verify`: it finds what differs, says where, names who did not answer, and repairs."""

from __future__ import annotations

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.realtime import verify
from tests.support import eventually
from tests.support.system import System

CALM = {"MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "30"}
GHOST = "3d3b2c1a-0000-4000-8000-000000000000"


async def test_drift_is_told_key_by_key_and_repaired(
    database: str, valkey: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        mitra = await system.account()
        await system.phone(served, mitra)
        await eventually(lambda: served.node.feed._led)  # type: ignore[union-attr] # what a new leader reads again is read
        config = system.config(**CALM)
        assert await verify.run(config, repair=False) == 0
        assert capsys.readouterr().out == "1 mitras compared, 0 differences\n"
        await system.valkey.srem("mitras:online", mitra.id)
        await system.valkey.set(f"mitra:capacity:{mitra.id}", 7)
        await system.valkey.sadd("mitras:deactivated", GHOST)
        assert await verify.run(config, repair=False) == 1
        told = capsys.readouterr().out
        assert f"{mitra.id}: mitras:online" in told
        assert f"{mitra.id}: mitra:capacity" in told
        assert GHOST in told
        assert "3 differences" in told
        assert await verify.run(config, repair=True) == 0
        assert capsys.readouterr().out.endswith("1 mitras compared, 0 differences\n")
        assert await system.valkey.smembers("mitras:online") == {mitra.id}
        assert not await system.valkey.exists("mitras:deactivated")


async def test_sockets_and_rows_that_disagree_are_told(
    database: str, valkey: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(**CALM)
        node = served.node
        assert node is not None
        mitra = await system.account()
        claim = (
            "UPDATE mitra_presence SET is_online = true, connection_id = 'gone', instance_id = $2 WHERE mitra_id = $1"
        )
        await system.sql.execute(claim, mitra.id, node.id)
        await eventually(lambda: system.valkey.sismember("mitras:online", mitra.id))
        assert await verify.run(system.config(**CALM), repair=False) == 1
        assert f"{mitra.id}: its row names a socket that {node.id} does not hold" in capsys.readouterr().out


async def test_an_instance_that_does_not_answer_is_named(
    database: str, valkey: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    async with System(database, valkey.url) as system:
        process = await system.process(None, **CALM)
        frozen = await system.sql.fetchval("SELECT id FROM instances")
        process.freeze()
        try:
            assert await verify.run(system.config(**CALM), repair=False) == 0
        finally:
            process.thaw()
        assert f"instance {frozen} did not answer" in capsys.readouterr().out

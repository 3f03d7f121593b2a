"""What the simulation holds of one mitra, around losses and freezes, with a real client at a real small server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest

from hadir.client import MitraClient
from hadir.dev.told import Session
from hadir.dev.truth import Standing
from hadir.dev.whereabouts import AWAY, COVER_SLACK_S, State, Whereabouts
from tests.dev.fake_server import STALE_S, FakeServer
from tests.support import eventually

SESSION = Session("s1", "c1", "m1", "active", None, extensions=0, messages=0, version=1)
SURE, GONE = Standing(sure=True, possible=True), Standing(sure=False, possible=False)
COVER_S = STALE_S + COVER_SLACK_S


@pytest.fixture
async def client() -> AsyncIterator[MitraClient]:
    async with FakeServer() as server, MitraClient(server.url, "t", status=True, random=Random(1)) as client:
        await client.opened()
        yield client


async def test_it_is_sure_of_who_is_connected_and_acknowledged(client: MitraClient) -> None:
    where = Whereabouts()
    assert where.state(None, 0) is State.GONE
    assert where.standing(client, 0) == AWAY, "nothing is acknowledged yet"
    assert where.state(client, 0) is State.SETTLING
    where.intent = True
    assert where.standing(client, 0) == SURE
    assert where.state(client, 0) is State.AVAILABLE
    where.intent = False
    assert where.standing(client, 0) == GONE
    assert where.state(client, 0) is State.OFF


async def test_a_flaky_network_is_possible_until_back_and_then_sure(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    for losses in range(1, 4):
        where.lost(client, 100 * losses)
        client.drop()
        await eventually(lambda: not client.connected)
        assert where.standing(client, 100 * losses) == AWAY
        assert where.state(client, 100 * losses) is State.RECONNECTING
        await eventually(lambda: client.connected)
        assert where.opened(client, 100 * losses)
        assert not where.opened(client, 100 * losses), "told once"
        assert where.standing(client, 100 * losses) == SURE


async def test_who_vanishes_is_possible_until_its_beat_is_stale(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    where.lost(client, 0)
    assert where.standing(None, COVER_S - 0.1) == AWAY
    assert where.standing(None, COVER_S + 0.1) == GONE


async def test_a_goodbye_that_nobody_hears_is_a_loss(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    client.drop()
    await eventually(lambda: not client.connected)
    where.says_goodbye(client, 0, within_s=0)
    await client.goodbye()
    where.said_goodbye(client, 0)
    assert where.standing(client, COVER_S - 0.1) == AWAY
    assert where.standing(client, COVER_S + 0.1) == GONE


async def test_a_goodbye_that_was_heard_is_gone_soon(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    where.says_goodbye(client, 0, within_s=5)
    await client.goodbye()
    where.said_goodbye(client, 1)
    assert where.standing(client, 1 + COVER_SLACK_S - 0.1) == AWAY
    assert where.standing(client, 1 + COVER_SLACK_S + 0.1) == GONE


async def test_who_froze_is_sure_again_once_a_beat_is_answered(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    where.frozen_at = 0
    client.freeze()
    assert where.state(client, 0) is State.FROZEN
    assert where.standing(client, COVER_S - 0.1) == AWAY
    assert where.standing(client, COVER_S + 0.1) == GONE
    where.thawed(client, COVER_S)
    assert where.standing(client, COVER_S) == AWAY
    client.thaw()
    await eventually(lambda: where.standing(client, COVER_S) == SURE)


async def test_a_connection_that_comes_although_the_app_froze_is_heard_of_from_then_on(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent, where.frozen_at = True, 0
    client.freeze()
    where.opened(client, 5)
    assert where.standing(client, 5 + COVER_S - 0.1) == AWAY
    assert where.standing(client, 5 + COVER_S + 0.1) == GONE
    client.thaw()


async def test_who_was_sent_away_for_good_is_stopped_until_it_comes_anew(client: MitraClient) -> None:
    where = Whereabouts()
    await client.goodbye()
    where.stopped = True
    assert where.state(client, 0) is State.STOPPED
    where.came()
    assert where.state(client, 0) is State.GONE


async def test_with_an_open_session_it_is_not_available(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    where.hears_of("m1", SESSION)
    assert where.standing(client, 0) == GONE
    assert where.state(client, 0) is State.BUSY
    where.hears_of("m1", replace(SESSION, status="ended"))
    assert where.standing(client, 0) == SURE


async def test_a_session_that_was_handed_over_is_another_mitras(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    where.hears_of("m1", SESSION)
    where.hears_of("m1", replace(SESSION, mitra_id="m2"))
    assert where.standing(client, 0) == SURE


async def test_a_hello_tells_all_its_sessions(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    where.has_open(["s1"])
    assert where.standing(client, 0) == GONE
    where.has_open([])
    assert where.standing(client, 0) == SURE


async def test_while_an_accept_or_an_end_is_under_way_it_may_be_either(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    where.asks()
    assert where.standing(client, 0) == AWAY
    where.hears_of("m1", SESSION)
    where.answered()
    assert where.standing(client, 0) == GONE
    where.asks()
    assert where.standing(client, 0) == AWAY, "it ends the session"
    where.came()
    where.intent = True
    assert where.standing(client, 0) == SURE, "an app that is started anew has asked for nothing"


async def test_who_cannot_hear_of_the_end_of_its_session_may_be_available(client: MitraClient) -> None:
    where = Whereabouts()
    where.intent = True
    where.hears_of("m1", SESSION)
    client.drop()
    await eventually(lambda: not client.connected)
    assert where.standing(client, 0) == AWAY
    await eventually(lambda: client.connected)
    assert where.standing(client, 0) == GONE
    client.freeze()
    where.frozen_at = 0
    assert where.standing(client, 0) == AWAY
    client.thaw()

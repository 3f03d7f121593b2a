"""The HTTP surface: beacon, status endpoints, health, internal actions; errors are problem documents."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.support import eventually
from tests.support.system import Account, Served, System


async def post(system: System, url: str, account: Account, body: Any = None, **headers: str) -> httpx.Response:
    return await system.http.post(url, json=body, headers=account.bearer | headers)


async def test_the_beacon_says_its_truth_and_its_age(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served, other = [await system.instance(BEACON_CACHE_SECONDS="5") for _ in range(2)]
        for each in (served, other):
            await eventually(each.node.mirror.counts)  # type: ignore[union-attr]
        answer = await system.http.get(f"{served.url}/api/beacon")
        body = answer.json()
        assert set(body) == {"available", "online", "as_of", "max_age_s", "state"}
        assert (body["available"], body["online"], body["max_age_s"], body["state"]) == (0, 0, 5, "live")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cache-control"] in ("public, max-age=4", "public, max-age=3")
        for known in known_as(answer.headers["etag"]):
            again = await system.http.get(f"{served.url}/api/beacon", headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
        assert (await system.http.get(f"{other.url}/api/beacon")).json() == body, "one count for the whole cluster"


def known_as(etag: str) -> list[str]:
    """The ways in which a client may say that it knows an answer."""
    return [etag, f"W/{etag}", f'"another", W/{etag}', "*"]


async def test_the_beacon_is_rebuilt_from_postgres_then_stale_then_unavailable(
    own_postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    async with System(own_postgres.url, valkey.url) as system:
        served = await system.instance(MITRA_HEARTBEAT_STALE_SECONDS="60")
        node = served.node
        assert node is not None
        await system.phone(served, await system.account())
        await system.available(served, 1)
        valkey.freeze()
        try:

            async def says(state: str) -> bool:
                answer = await system.http.get(f"{served.url}/api/beacon")
                assert answer.json()["state"] == state
                assert answer.headers["cache-control"] == "public, max-age=1"
                assert answer.json()["available"] == 1
                return True

            await eventually(lambda: says("rebuilding"))
            own_postgres.kill()
            await eventually(lambda: says("stale"))
            node.availability._clock = lambda: 1e9
            answer = await system.http.get(f"{served.url}/api/beacon")
            assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
            assert answer.headers["retry-after"] == "2"
        finally:
            valkey.thaw()


async def test_presence_over_http(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MITRA_OFFLINE_GRACE_SECONDS="60")
        mitra = await system.account()
        base = f"{served.url}/api/mitra/status"
        assert (await post(system, f"{base}/heartbeat", mitra)).json()["online"] is False
        answer = await post(system, f"{base}/online", mitra)
        assert answer.json() == {"online": True, "suspect": False, "owner": "http"}
        await system.available(served, 1)
        assert (await post(system, f"{base}/heartbeat", mitra)).json()["owner"] == "http"
        await system.becomes(mitra, "suspect", within=9)
        assert (await post(system, f"{base}/heartbeat", mitra)).json() == answer.json(), "its own suspect row"
        phone = await system.phone(served, mitra)
        told = (await post(system, f"{base}/heartbeat", mitra)).json()
        assert told == {"online": True, "suspect": False, "owner": "socket"}
        fenced = await post(system, f"{base}/offline", mitra, {"connection_id": "another"})
        assert (fenced.status_code, fenced.json()["code"]) == (409, "not_owner")
        gone = await post(system, f"{base}/offline", mitra, {"connection_id": phone.hello["connection_id"]})
        assert gone.json()["online"] is False
        assert (await phone.message("sync"))["state"]["online"] is False
        assert [line for line in await system.log_of(mitra) if line[0] == "offline"] == [("offline", "http")]


async def test_an_http_mitra_that_stops_beating_goes_suspect_then_offline(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra = await system.account()
        await post(system, f"{served.url}/api/mitra/status/online", mitra)
        row = await system.becomes(mitra, "suspect", within=9)
        assert (row["suspect_since"] - row["last_heartbeat_at"]).total_seconds() == pytest.approx(4, abs=0.01)
        await system.becomes(mitra, "offline", within=9)
        assert await system.log_of(mitra) == [("online", "http"), ("suspect", "stale"), ("offline", "stale")]


async def test_waiting_for_a_change_of_state(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        mitra = await system.account()
        state = await system.http.get(f"{first.url}/api/mitra/state", headers=mitra.bearer)
        assert state.json()["online"] is False

        async def waiting() -> dict[str, Any]:
            answer = await system.http.get(
                f"{first.url}/api/mitra/state", params={"wait": "20"}, headers=mitra.bearer, timeout=30
            )
            found: dict[str, Any] = answer.json()
            return found

        waiter = asyncio.create_task(waiting())
        await eventually(lambda: system.waits(first, mitra))
        await system.phone(second, mitra)
        assert (await asyncio.wait_for(waiter, 5))["online"] is True
        answer = await system.http.get(f"{first.url}/api/mitra/state", params={"wait": "99"}, headers=mitra.bearer)
        assert (answer.status_code, answer.json()["field"]) == (422, "wait")


async def test_deactivation_reaches_every_instance_and_both_stores(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        operator, mitra = await system.account("operator"), await system.account()
        phone = await system.phone(second, mitra)
        url = f"{first.inner_url}/api/internal/mitras/{mitra.id}"
        answer = await post(system, f"{url}/deactivate", operator)
        assert (answer.json()["is_active"], answer.json()["state"]) == (False, "offline")
        assert await phone.ended(within=1.0) == 4502
        assert await system.valkey.sismember("mitras:deactivated", mitra.id)
        revoked = await system.sql.fetchval("SELECT revoked_at FROM auth_sessions WHERE id = $1", mitra.sid)
        assert revoked is not None
        beat = await post(system, f"{first.url}/api/mitra/status/heartbeat", mitra)
        assert (beat.status_code, beat.json()["code"]) == (403, "deactivated")
        record = await system.sql.fetchrow("SELECT reason, actor FROM presence_log WHERE state = 'offline'")
        assert dict(record) == {"reason": "deactivated", "actor": operator.id}
        assert (await post(system, f"{url}/activate", operator)).json()["is_active"] is True
        assert not await system.valkey.sismember("mitras:deactivated", mitra.id)


async def test_another_programs_deactivation_is_found_without_any_event(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MITRA_HEARTBEAT_STALE_SECONDS="20")
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", mitra.id)
        assert await phone.ended(within=4.0) == 4502
        await eventually(lambda: system.valkey.sismember("mitras:deactivated", mitra.id), 4)
        assert (await system.log_of(mitra))[-1] == ("offline", "external")


async def test_an_operators_offline_keeps_the_socket_and_is_not_undone_by_beats(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        operator, mitra = await system.account("operator"), await system.account()
        phone = await system.phone(second, mitra)
        await post(system, f"{first.inner_url}/api/internal/mitras/{mitra.id}/offline", operator)
        assert (await phone.message("sync"))["state"]["online"] is False
        assert (await phone.ask(type="ping"))["type"] == "pong"
        await second.node.heartbeats.flush()  # type: ignore[union-attr]
        assert await system.state(mitra) == "offline"
        assert (await phone.ask(type="status", online=True))["type"] == "ack"
        assert await system.state(mitra) == "online"


async def test_a_revocation_closes_only_that_login(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        operator, mitra, other = await system.account("operator"), await system.account(), await system.account()
        phone, bystander = await system.phone(second, mitra), await system.phone(second, other)
        url = f"{first.inner_url}/api/internal/auth-sessions"
        assert (await post(system, f"{url}/{mitra.sid}/revoke", operator)).json() == {"revoked": True}
        assert await phone.ended(within=1.0) == 4501
        assert (await system.becomes(mitra, "offline"))["reason"] == "revoked"
        assert (await bystander.ask(type="ping"))["type"] == "pong"
        assert (await post(system, f"{url}/{uuid.uuid4()}/revoke", operator)).status_code == 404


async def test_a_revocation_by_another_program_is_found_without_any_event(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance(MITRA_HEARTBEAT_STALE_SECONDS="20")
        mitra = await system.account()
        phone = await system.phone(served, mitra)
        await system.sql.execute("UPDATE auth_sessions SET revoked_at = now() WHERE id = $1", mitra.sid)
        assert await phone.ended(within=4.0) == 4501
        await system.becomes(mitra, "offline")


async def test_config_is_typed_cached_everywhere_and_told_to_apps(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        first, second = await system.instance(), await system.instance()
        operator, mitra = await system.account("operator"), await system.account()
        phone = await system.phone(second, mitra)
        url = f"{first.inner_url}/api/internal/config"

        async def put(key: str, body: Any) -> httpx.Response:
            return await system.http.put(f"{url}/{key}", json=body, headers=operator.bearer)

        assert (await put("app_notice", {"value": "Maintenance at ten"})).status_code == 200
        assert (await phone.message("config.updated", 1.0))["config"] == {"app_notice": "Maintenance at ten"}
        assert (await put("app_notice", {"value": 5})).json()["field"] == "value"
        assert (await put("max_sessions", {"value": 0})).status_code == 422
        assert (await put("nonsense", {"value": 1})).json()["field"] == "key"
        assert (await put("max_sessions", {})).status_code == 422
        answer = await put("max_sessions", {"value": 3})
        assert answer.json()["moved"] == 1
        assert (await system.row(mitra))["max_sessions"] == 3
        await eventually(lambda: second.node.app_config["max_sessions"] == 3)  # type: ignore[union-attr]
        await system.sql.execute("UPDATE app_config SET value = '\"by hand\"' WHERE key = 'app_notice'")
        await eventually(lambda: second.node.app_config["app_notice"] == "by hand")  # type: ignore[union-attr]


async def test_who_may_do_what(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra, viewer = await system.account(), await system.account("viewer")
        counts, act = f"{served.inner_url}/api/internal/counts", f"{served.inner_url}/api/internal/mitras/{mitra.id}"
        assert (await system.http.get(counts, headers=viewer.bearer)).status_code == 200
        assert (await post(system, f"{act}/deactivate", viewer)).json()["code"] == "viewer"
        assert (await system.http.get(counts, headers=mitra.bearer)).status_code == 403
        assert (await system.http.get(counts)).status_code == 401
        assert (await post(system, f"{served.url}/api/mitra/status/heartbeat", viewer)).status_code == 403
        await system.sql.execute("UPDATE auth_sessions SET revoked_at = now() WHERE id = $1", viewer.sid)
        assert (await system.http.get(counts, headers=viewer.bearer)).status_code == 401


async def test_counts_and_instances(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, {"MITRA_OFFLINE_GRACE_SECONDS": "20"}) as system:
        served = await system.instance()
        viewer, lost = await system.account("viewer"), await system.account()
        await system.phone(served, await system.account())
        (await system.phone(served, lost)).cut()
        await system.becomes(lost, "suspect")
        answer = await system.http.get(f"{served.inner_url}/api/internal/counts", headers=viewer.bearer)
        assert answer.json() == {
            "online": 2,
            "suspect": 1,
            "available": 1,
            "busy": 0,
            "deactivated": 0,
            "connected": 1,
            "state": "live",
        }
        listed = await system.http.get(f"{served.inner_url}/api/internal/instances", headers=viewer.bearer)
        assert [(each["state"], each["self"]) for each in listed.json()["instances"]] == [("ready", True)]


BAD_REQUESTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/nothing", {}, 404),
    ("POST", "/api/beacon", {}, 405),
    ("GET", "/api/mitra/status/heartbeat", {}, 405),
    ("POST", "/api/mitra/status/offline", {"content": b"x" * 70_000}, 413),
    ("POST", "/api/mitra/status/offline", {"content": b"a=b", "headers": {"content-type": "text/plain"}}, 415),
    ("POST", "/api/mitra/status/offline", {"content": b"{", "headers": {"content-type": "application/json"}}, 422),
    ("POST", "/api/mitra/status/offline", {"json": [1]}, 422),
    ("POST", "/api/mitra/status/offline", {"json": {"connection_id": 5}}, 422),
    ("POST", "/api/mitra/status/offline", {"json": {"connection_id": "a\0b"}}, 422),
]


async def test_every_refusal_is_a_problem_document(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra, operator = await system.account(), await system.account("operator")
        for method, path, options, status in BAD_REQUESTS:
            headers = mitra.bearer | options.get("headers", {})
            answer = await system.http.request(method, served.url + path, **{**options, "headers": headers})
            problem(answer, status)
        for path, status in (("mitras/x/deactivate", 422), (f"mitras/{uuid.uuid4()}/deactivate", 404)):
            problem(await post(system, f"{served.inner_url}/api/internal/{path}", operator), status)
        problem(await post(system, f"{served.inner_url}/api/internal/expiry/release", operator), 409)


def problem(answer: httpx.Response, status: int) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document = answer.json()
    assert document["status"] == status
    assert document["code"]
    assert document["detail"].endswith(".")


async def test_health_and_readiness(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        for path in ("/health", "/healthz", "/ready", "/readyz"):
            assert (await system.http.get(served.url + path)).status_code == 200
            assert (await system.http.get(served.inner_url + path)).status_code == 200
        valkey.freeze()
        try:

            async def degraded() -> bool:
                answer = await system.http.get(f"{served.url}/ready")
                assert answer.status_code == 200
                return bool(answer.json()["state"] == "degraded" and "valkey" in answer.json()["why"])

            await eventually(degraded)
        finally:
            valkey.thaw()


async def test_metrics_are_told(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        await system.phone(served, await system.account())
        text = (await system.http.get(f"{served.inner_url}/metrics")).text
        for name in ("hadir_connections", "hadir_mirror_warm", "hadir_valkey_circuit_open", "hadir_apply_lag_seconds"):
            assert name in text


async def test_the_two_listeners_do_not_share_routes(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served: Served = await system.instance()
        problem(await system.http.get(f"{served.url}/api/internal/counts"), 404)
        problem(await system.http.get(f"{served.url}/metrics"), 404)
        problem(await system.http.get(f"{served.inner_url}/api/beacon"), 404)


async def test_whoever_may_no_longer_be_there_no_longer_reads_its_state(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        mitra, other = await system.account(), await system.account()
        url = f"{served.url}/api/mitra/state"
        assert (await system.http.get(url, headers=mitra.bearer)).status_code == 200
        await system.sql.execute("UPDATE auth_sessions SET revoked_at = now() WHERE id = $1", mitra.sid)
        assert (await system.http.get(url, headers=mitra.bearer)).status_code == 401
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", other.id)
        refused = await system.http.get(url, headers=other.bearer)
        assert (refused.status_code, refused.json()["code"]) == (403, "deactivated")


async def test_what_a_client_says_it_knows_is_compared_as_etags_are(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        assert served.node is not None
        mitra = await system.account()
        url, held = f"{served.url}/api/mitra/state?wait=20", served.node.waiters._waiting
        etag = (await system.http.get(f"{served.url}/api/mitra/state", headers=mitra.bearer)).headers["etag"]

        def ask(known: str) -> asyncio.Task[httpx.Response]:
            headers = mitra.bearer | {"If-None-Match": known}
            return asyncio.create_task(system.http.get(url, headers=headers, timeout=30))

        waiting = [ask(known) for known in known_as(etag)]
        # All of them have read, and wait.
        await eventually(lambda: sum(bool(each.changed._waiters) for each in held.get(mitra.id, ())) == len(waiting))
        await post(system, f"{served.url}/api/mitra/status/online", mitra)
        for answer in await asyncio.wait_for(asyncio.gather(*waiting), 5):
            assert answer.json()["online"] is True
        for known in known_as(etag)[:-1]:
            assert (await asyncio.wait_for(ask(known), 5)).json()["online"] is True, "it is another: no wait"


async def test_of_too_many_requests_that_wait_for_one_account_the_oldest_gives_way(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        assert served.node is not None
        mitra = await system.account()
        url = f"{served.url}/api/mitra/state?wait=20"
        held = served.node.waiters._waiting
        waiting: list[asyncio.Task[httpx.Response]] = []

        def only_four_wait() -> bool:
            done = sum(task.done() for task in waiting)
            return done == max(0, len(waiting) - 4) and len(held.get(mitra.id, ())) == len(waiting) - done

        for _ in range(6):
            waiting.append(asyncio.create_task(system.http.get(url, headers=mitra.bearer, timeout=30)))
            await eventually(only_four_wait)
        assert [task.done() for task in waiting] == [True] * 2 + [False] * 4
        assert {task.result().json()["online"] for task in waiting[:2]} == {False}, "they are told what is known"
        await post(system, f"{served.url}/api/mitra/status/online", mitra)
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert {answer.status_code for answer in answers} == {200}
        assert [answer.json()["online"] for answer in answers] == [False] * 2 + [True] * 4
        assert not held

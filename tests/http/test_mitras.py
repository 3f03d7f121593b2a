"""What the control centre looks up: mitras, their history, the pool, the configuration."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import httpx
import pytest

from hadir.dev.embedded import EmbeddedValkey
from tests.support import eventually
from tests.support.system import FAST, Account, Served, System

BEFORE_TIME = base64.urlsafe_b64encode(
    b'{"at":"0001-01-01T00:00:00+14:00","recorded_at":"0001-01-01T00:00:00+14:00"}'
).decode()
NOBODY = uuid.UUID(int=0)  # the same in every process, since it is part of the names of tests
CALM = {**FAST, "MITRA_HEARTBEAT_INTERVAL_SECONDS": "10", "MITRA_HEARTBEAT_STALE_SECONDS": "60"}


class Centre:
    """The control centre's view of one instance."""

    def __init__(self, system: System, served: Served, account: Account) -> None:
        self.system, self.served, self.account = system, served, account

    async def get(self, path: str, **query: Any) -> httpx.Response:
        url = f"{self.served.inner_url}/api/internal/{path}"
        return await self.system.http.get(url, params=query, headers=self.account.bearer)

    async def read(self, path: str, **query: Any) -> dict[str, Any]:
        answer = await self.get(path, **query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def names(self, **query: Any) -> list[str]:
        return [mitra["display_name"] for mitra in (await self.read("mitras", **query))["mitras"]]


async def centre(system: System, role: str = "viewer") -> Centre:
    return Centre(system, await system.instance(), await system.account(role))


async def named(system: System, name: str) -> Account:
    mitra = await system.account()
    await system.sql.execute("UPDATE mitras SET display_name = $2 WHERE id = $1", mitra.id, name)
    return mitra


async def test_mitras_are_found_by_the_beginning_of_their_name_in_any_case(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        for name in ("Budi Santoso", "budiman", "Bayu", "Siti", "ÉMILE", "100%", "1000"):
            await named(system, name)
        assert await view.names(q="bud") == ["Budi Santoso", "budiman"]
        assert await view.names(q="BUDI S") == ["Budi Santoso"]
        assert await view.names(q="émi") == ["ÉMILE"]
        assert await view.names(q="100%") == ["100%"], "nothing is a wildcard"
        assert await view.names(q="nobody") == []


async def test_mitras_are_found_by_their_id_or_its_beginning(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        mitra = await named(system, "Budi")
        await named(system, "Siti")
        for search in (mitra.id, mitra.id.upper(), mitra.id[:8], mitra.id[:13]):
            assert await view.names(q=search) == ["Budi"]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": "name "},
        {"state": "offline"},
        {"sort": "name"},
        {"sort": "changed"},
        {"sort": "changed", "q": "name ", "state": "offline"},
    ],
)
async def test_pages_follow_each_other_without_gap_or_repetition_while_rows_come_and_go(
    database: str, valkey: EmbeddedValkey, query: dict[str, str]
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        accounts = await system.accounts(25)
        await system.sql.execute("UPDATE mitras SET display_name = 'Name ' || left(id::text, 1)")  # many of the same
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await view.read("mitras", limit=7, **query, **cursor)
            seen += [mitra["id"] for mitra in page["mitras"]]
            await system.sql.execute("DELETE FROM mitras WHERE id = $1", seen[0])  # behind us: moves nothing
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert sorted(seen) == sorted(account.id for account in accounts)
        assert len(set(seen)) == len(seen)


async def test_mitras_are_sorted_by_name_or_by_their_last_change(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        mitras = {name: await named(system, name) for name in ("siti", "Budi", "budiman", "Agus")}
        for name in ("Budi", "Agus", "siti", "budiman"):
            await system.sql.execute(
                "UPDATE mitra_presence SET wants_online = false WHERE mitra_id = $1", mitras[name].id
            )
        assert await view.names(sort="name") == ["Agus", "Budi", "budiman", "siti"]
        assert await view.names(sort="changed") == ["budiman", "siti", "Agus", "Budi"]
        assert await view.names(sort="changed", q="BUD") == ["budiman", "Budi"]
        assert await view.names(sort="name", q="bud") == ["Budi", "budiman"]
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", mitras["Agus"].id)
        assert await view.names(sort="changed") == ["Agus", "budiman", "siti", "Budi"]
        assert await view.names(sort="changed", state="deactivated") == ["Agus"]
        for sort in ("name", "changed"):
            assert await view.names(sort=sort, q=mitras["siti"].id[:13]) == ["siti"]
        by_name = await view.read("mitras", sort="name", limit=2)
        crossed = await view.get("mitras", sort="changed", cursor=by_name["next"])
        assert (crossed.status_code, crossed.json()["field"]) == (422, "cursor")


async def test_pages_by_change_walk_over_rows_that_changed_at_the_same_time(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        ids = sorted((account.id for account in await system.accounts(9)), reverse=True)
        await system.sql.execute("ALTER TABLE mitra_presence DISABLE TRIGGER USER")
        await system.sql.execute("UPDATE mitra_presence SET changed_at = now() - interval '1 h'")
        await system.sql.execute("ALTER TABLE mitra_presence ENABLE TRIGGER USER")
        seen: list[list[str]] = []
        cursor: dict[str, str] = {}
        while True:
            page = await view.read("mitras", sort="changed", limit=2, **cursor)
            seen.append([mitra["id"] for mitra in page["mitras"]])
            if len(seen) == 2:  # one that was listed, and one that was not: both are ahead of the cursor now
                for changes in (ids[0], ids[6]):
                    await system.sql.execute(
                        "UPDATE mitra_presence SET wants_online = false WHERE mitra_id = $1", changes
                    )
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert seen == [ids[0:2], ids[2:4], ids[4:6], ids[7:9]]
        assert await view.read("mitras", sort="changed", limit=2) | {"next": None} == {
            "mitras": [await summary(view, ids[6]), await summary(view, ids[0])], "next": None,
        }  # fmt: skip


async def summary(view: Centre, mitra_id: str) -> dict[str, Any]:
    """A mitra as lists show it."""
    (found,) = (await view.read("mitras", q=mitra_id))["mitras"]
    return dict(found)


async def test_mitras_are_filtered_by_state(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM | {"MITRA_OFFLINE_GRACE_SECONDS": "60"}) as system:
        view = await centre(system)
        one, busy, lost, off, out = [await named(system, name) for name in ("one", "busy", "lost", "off", "out")]
        for mitra in (one, busy):
            await system.phone(view.served, mitra)
        (await system.phone(view.served, lost)).cut()
        await system.sql.execute("UPDATE mitra_presence SET open_sessions = 1 WHERE mitra_id = $1", busy.id)
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", out.id)
        await system.becomes(lost, "suspect")
        expected = {
            "online": {"one", "busy"},
            "suspect": {"lost"},
            "offline": {"off", "out"},
            "available": {"one"},
            "busy": {"busy"},
            "deactivated": {"out"},
        }
        assert {state: set(await view.names(state=state)) for state in expected} == expected
        assert await view.names(state="online", q="b") == ["busy"]
        assert off.id


async def test_one_mitra_whole_and_its_history(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        mitra = await named(system, "Budi")
        for _ in range(3):
            await (await system.phone(view.served, mitra)).goodbye()
            await system.becomes(mitra, "offline")
        phone = await system.phone(view.served, mitra)
        found = await view.read(f"mitras/{mitra.id}")
        assert (found["display_name"], found["state"], found["reason"]) == ("Budi", "online", "connected")
        assert found["connection_id"] == phone.hello["connection_id"]
        assert found["has_capacity"] is True
        assert [login["sid"] for login in found["logins"]] == [mitra.sid]
        assert found["sessions"] == []
        changes: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = await view.read(f"mitras/{mitra.id}/history", limit=3, **cursor)
            changes += page["changes"]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        said = [(change["state"], change["reason"]) for change in changes]
        assert said == [("online", "connected"), *[("offline", "goodbye"), ("online", "connected")] * 3]


async def test_the_pool_is_in_the_order_of_the_queue_warm_or_cold(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        await system.sql.execute("""INSERT INTO app_config (key, value) VALUES ('max_sessions', '3')""")
        mitras = await system.accounts(4)
        for mitra in mitras:
            await system.phone(view.served, mitra)
        order = [mitras[2], mitras[0], mitras[3], mitras[1]]
        for n, mitra in enumerate(order):
            await system.sql.execute(
                "UPDATE mitra_presence SET open_sessions = $2, last_session_at = now() - $3 * interval '1 min' "
                "WHERE mitra_id = $1",
                *(mitra.id, n // 2, -n),
            )
        await system.available(view.served, 4)
        await eventually_pool(view, [mitra.id for mitra in order], "live")
        await valkey.stop()
        await eventually_pool(view, [mitra.id for mitra in order], "rebuilding")
        assert len((await view.read("available", limit=2))["mitras"]) == 2


async def eventually_pool(view: Centre, ids: list[str], state: str) -> None:
    async def same() -> bool:
        pool = await view.read("available")
        assert ([mitra["id"] for mitra in pool["mitras"]], pool["state"]) == (ids, state)
        return True

    await eventually(same)


async def test_configuration_is_typed_and_every_change_is_on_record(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system, "operator")
        url = f"{view.served.inner_url}/api/internal/config"
        keys = {each["key"]: each for each in (await view.read("config"))["settings"]}
        assert keys["max_sessions"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100}
        for value in (2, 3):
            answer = await system.http.put(f"{url}/max_sessions", json={"value": value}, headers=view.account.bearer)
            assert answer.json()["value"] == value
        for wrong in (0, 101, "2", 2.5, True, None):
            answer = await system.http.put(f"{url}/max_sessions", json={"value": wrong}, headers=view.account.bearer)
            assert (answer.status_code, answer.json()["field"]) == (422, "value")
        changes = (await view.read("config/max_sessions"))["changes"]
        assert [(change["from"], change["to"]) for change in changes] == [(2, 3), (None, 2)]
        assert {change["actor"] for change in changes} == {view.account.id}


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("mitras", {"cursor": "nonsense"}, "cursor"),
        ("mitras", {"cursor": "bnVsbA"}, "cursor"),
        ("mitras", {"q": "bud", "cursor": "eyJtaXRyYV9pZCI6IngifQ"}, "cursor"),
        ("mitras", {"limit": "0"}, "limit"),
        ("mitras", {"limit": "201"}, "limit"),
        ("mitras", {"limit": "many"}, "limit"),
        ("mitras", {"limit": "²"}, "limit"),
        ("mitras", {"state": "asleep"}, "state"),
        ("mitras", {"sort": "age"}, "sort"),
        ("mitras", {"sort": ""}, "sort"),
        (f"mitras/{NOBODY}/timeline", {"cursor": "eyJhdCI6IngifQ"}, "cursor"),
        ("config/unknown/history", {}, "key"),
        ("mitras", {"q": "x" * 101}, "q"),
        ("mitras", {"q": "a\0b"}, "q"),
        ("mitras/nobody", {}, "id"),
        ("mitras/nobody/history", {}, "id"),
        (f"mitras/{NOBODY}/history", {"cursor": "eyJhdCI6IngifQ"}, "cursor"),
        (f"mitras/{NOBODY}/history", {"cursor": BEFORE_TIME}, "cursor"),
        ("available", {"limit": "-1"}, "limit"),
        ("config/unknown", {}, "key"),
    ],
)
async def test_bad_input_is_named(
    database: str, valkey: EmbeddedValkey, path: str, query: dict[str, str], field: str
) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        answer = await view.get(path, **query)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_who_may_not_and_what_is_not_there(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, CALM) as system:
        view = await centre(system)
        nobody = uuid.uuid4()
        assert (await view.get(f"mitras/{nobody}")).status_code == 404
        assert (await view.get(f"mitras/{nobody}/history")).status_code == 404
        inner = view.served.inner_url
        writes = [
            ("PUT", f"{inner}/api/internal/config/max_sessions"),
            ("POST", f"{inner}/api/internal/mitras/{nobody}/deactivate"),
            ("POST", f"{inner}/api/internal/expiry/release"),
        ]
        for method, url in writes:
            answer = await system.http.request(method, url, headers=view.account.bearer, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "viewer")
        on_mitra_path = await system.http.post(
            f"{view.served.url}/api/mitra/status/online", headers=view.account.bearer
        )
        assert (on_mitra_path.status_code, on_mitra_path.json()["code"]) == (403, "wrong_role")
        mitra = await system.account()
        refused = await system.http.get(f"{inner}/api/internal/mitras", headers=mitra.bearer)
        assert refused.status_code == 403

"""The audit log: no act of an operator without its line, no line without its act."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.http.audit import ACTIONS
from tests.support.couples import accepted, paid
from tests.support.market import CALM, TOKEN
from tests.support.system import Account, Served, System

NOBODY = str(uuid.UUID(int=0))
SETTINGS = {**CALM, "MITRA_OFFLINE_GRACE_SECONDS": "30"}  # no sweep ends the hold that is only made up
BREAKS = """
CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'as in a crash' USING ERRCODE = 'lock_not_available'; END $$;
CREATE TRIGGER fails BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION fails();
"""
"""The line cannot be written: what would have been done with it must be undone."""
CHANGED = ("mitra_presence", "auth_sessions", "expiry_hold", "chat_sessions", "pairings", "payments", "app_config")
CANNOT_COMMIT = """
CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'as in a crash' USING ERRCODE = 'lock_not_available'; END $$;
""" + "".join(
    f"CREATE CONSTRAINT TRIGGER fails AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION fails();"
    for table in CHANGED
)
"""Everything is written and nothing can be committed."""


@dataclass
class Scene:
    """An operator at one instance, and one of everything that can be acted on."""

    system: System
    served: Served
    operator: Account
    mitra: Account
    session: dict[str, Any]

    async def post(self, path: str, body: Any = None, who: Account | None = None) -> httpx.Response:
        url = f"{self.served.inner_url}/api/internal/{path}"
        return await self.system.http.post(url, json=body, headers=(who or self.operator).bearer)

    async def put(self, path: str, body: Any, who: Account | None = None) -> httpx.Response:
        url = f"{self.served.inner_url}/api/internal/{path}"
        return await self.system.http.put(url, json=body, headers=(who or self.operator).bearer)

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        url = f"{self.served.inner_url}/api/internal/{path}"
        answer = await self.system.http.get(url, params=query, headers=self.operator.bearer)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def lines(self) -> list[tuple[str, str, str]]:
        """(actor, action, subject) of all there are, oldest first."""
        entries = (await self.get("audit", limit=200))["entries"]
        return [(each["actor"], each["action"], each["subject"]) for each in reversed(entries)]

    async def truth(self) -> list[Any]:
        """Everything that an operator can change."""
        return [
            await self.system.sql.fetch(f"SELECT * FROM {statement}")
            for statement in (
                "app_config",
                "expiry_hold",
                "(SELECT id, revoked_at FROM auth_sessions) AS a ORDER BY id",
                "(SELECT mitra_id, is_active, wants_online, is_online FROM mitra_presence) AS p ORDER BY mitra_id",
                "(SELECT id, status, mitra_id, extensions, expires_at FROM chat_sessions) AS s ORDER BY id",
                "(SELECT id, status FROM pairings) AS p ORDER BY id",
                "payments",
            )
        ]


async def prepared(system: System) -> Scene:
    served = await system.instance()
    operator, mitra, customer = [await system.account(role) for role in ("operator", "mitra", "customer")]
    await system.phone(served, mitra)
    session = await accepted(system, served, customer, mitra)
    await system.sql.execute("UPDATE expiry_hold SET since = now(), due = 30")
    return Scene(system, served, operator, mitra, session)


Act = Callable[[Scene], Awaitable[httpx.Response]]
ACTS: dict[str, tuple[Act, Callable[[Scene], str]]] = {
    "activate": (lambda s: s.post(f"mitras/{s.mitra.id}/activate"), lambda s: s.mitra.id),
    "deactivate": (lambda s: s.post(f"mitras/{s.mitra.id}/deactivate"), lambda s: s.mitra.id),
    "offline": (lambda s: s.post(f"mitras/{s.mitra.id}/offline"), lambda s: s.mitra.id),
    "revoke": (lambda s: s.post(f"auth-sessions/{s.mitra.sid}/revoke"), lambda s: s.mitra.sid),
    "release_expiry": (lambda s: s.post("expiry/release"), lambda s: "expiry"),
    "end_session": (lambda s: s.post(f"sessions/{s.session['id']}/end"), lambda s: str(s.session["id"])),
    "reroute": (lambda s: s.post(f"sessions/{s.session['id']}/reroute"), lambda s: str(s.session["id"])),
    "paid": (lambda s: s.post(f"sessions/{s.session['id']}/paid", {"amount": 5}), lambda s: str(s.session["id"])),
    "config": (lambda s: s.put("config/app_notice", {"value": "Halo"}), lambda s: "app_notice"),
}
"""How each action is done over HTTP, and what its line says that it was done to."""


async def out_of_service(scene: Scene, action: str) -> None:
    """Only who is out of service can be taken back."""
    if action == "activate":
        statement = "UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1"
        await scene.system.sql.execute(statement, scene.mitra.id)


def test_every_action_is_tried() -> None:
    assert set(ACTS) == set(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_act_has_one_line_and_repeated_has_no_other(
    database: str, valkey: EmbeddedValkey, action: str
) -> None:
    async with System(database, valkey.url, SETTINGS) as system:
        scene = await prepared(system)
        await out_of_service(scene, action)
        act, subject = ACTS[action]
        assert (await act(scene)).is_success
        line = (scene.operator.id, action, subject(scene))
        assert await scene.lines() == [line]
        await act(scene)
        expected = [line] * (2 if action == "config" else 1)  # a setting that is set again is set again
        assert await scene.lines() == expected


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_act_whose_line_cannot_be_written_is_undone(
    database: str, valkey: EmbeddedValkey, action: str
) -> None:
    async with System(database, valkey.url, SETTINGS) as system:
        scene = await prepared(system)
        await out_of_service(scene, action)
        await system.sql.execute(BREAKS)
        before = await scene.truth()
        answer = await ACTS[action][0](scene)
        assert answer.status_code == 503, answer.text
        assert await scene.truth() == before
        await system.sql.execute("DROP TRIGGER fails ON audit_log")
        assert await scene.lines() == []
        assert (await ACTS[action][0](scene)).is_success
        assert await scene.truth() != before


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_act_that_ends_before_its_commit_leaves_no_line(
    database: str, valkey: EmbeddedValkey, action: str
) -> None:
    async with System(database, valkey.url, SETTINGS) as system:
        scene = await prepared(system)
        await out_of_service(scene, action)
        await system.sql.execute(CANNOT_COMMIT)
        before = await scene.truth()
        answer = await ACTS[action][0](scene)
        assert answer.status_code == 503, answer.text
        assert await scene.truth() == before
        assert await scene.lines() == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_what_is_refused_leaves_no_line(database: str, valkey: EmbeddedValkey, action: str) -> None:
    async with System(database, valkey.url, SETTINGS) as system:
        scene = await prepared(system)
        viewer = await system.account("viewer")
        before = await scene.truth()
        scene.operator, operator = viewer, scene.operator
        assert (await ACTS[action][0](scene)).status_code == 403
        scene.operator = operator
        assert await scene.truth() == before
        await system.sql.execute("UPDATE expiry_hold SET since = NULL")
        await system.sql.execute("UPDATE chat_sessions SET status = 'ended'")
        refusals: dict[str, Act] = {
            "activate": lambda s: s.post(f"mitras/{NOBODY}/activate"),
            "deactivate": lambda s: s.post(f"mitras/{NOBODY}/deactivate"),
            "offline": lambda s: s.post(f"mitras/{NOBODY}/offline"),
            "revoke": lambda s: s.post(f"auth-sessions/{NOBODY}/revoke"),
            "config": lambda s: s.put("config/max_sessions", {"value": 0}),
        }
        refused = await refusals.get(action, ACTS[action][0])(scene)
        assert refused.status_code in (404, 409, 422), refused.text
        assert await scene.lines() == []


async def test_the_sides_of_a_session_leave_no_line(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, SETTINGS) as system:
        scene = await prepared(system)
        customer = Account(scene.session["customer_id"], str(uuid.uuid4()), "customer", system.config())
        await system.sql.execute(
            "INSERT INTO auth_sessions (id, subject_id, role, expires_at) VALUES ($1, $2, 'customer', 'infinity')",
            customer.sid,
            customer.id,
        )
        path = f"/api/sessions/{scene.session['id']}"
        assert (await system.ask(scene.served, customer, "POST", f"{path}/reroute")).status_code == 201
        assert (await system.ask(scene.served, customer, "POST", f"{path}/end")).status_code == 200
        assert await scene.lines() == []


async def test_the_log_is_read_by_who_what_and_to_what_page_by_page(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url, SETTINGS) as system:
        scene = await prepared(system)
        other = await system.account("operator")
        for value in range(1, 6):
            await scene.put("config/max_sessions", {"value": value}, other if value % 2 else scene.operator)
        await scene.post(f"mitras/{scene.mitra.id}/deactivate")
        await paid(system, scene.served, scene.session, other)

        async def values(**query: Any) -> list[Any]:
            entries = (await scene.get("audit", **query))["entries"]
            return [each["details"].get("to") for each in entries]

        assert await values(action="config") == [5, 4, 3, 2, 1]
        assert await values(actor=other.id, subject="max_sessions") == [5, 3, 1]
        assert await values(actor=other.id, action="config", subject="app_notice") == []
        (line,) = (await scene.get("audit", subject=scene.mitra.id))["entries"]
        assert (line["actor"], line["action"], line["details"]) == (scene.operator.id, "deactivate", {"was": "online"})
        (line,) = (await scene.get("audit", action="paid"))["entries"]
        assert line["details"] == {"extension": 0, "amount": 50_000}
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await scene.get("audit", limit=3, **cursor)
            seen += [each["at"] for each in page["entries"]]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert len(seen) == len(set(seen)) == 7
        assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"action": "dance"}, "action"),
        ({"actor": ""}, "actor"),
        ({"subject": "x" * 101}, "subject"),
        ({"cursor": "eyJsaW5lIjoieCJ9"}, "cursor"),
        ({"cursor": "eyJsaW5lIjoiOTk5OTk5OTk5OTk5OTk5OTk5OTkifQ"}, "cursor"),
    ],
)
async def test_bad_input_is_named(database: str, valkey: EmbeddedValkey, query: dict[str, str], field: str) -> None:
    async with System(database, valkey.url, SETTINGS) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        url = f"{served.inner_url}/api/internal/audit"
        answer = await system.http.get(url, params=query, headers=viewer.bearer)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_settings_say_what_they_take_who_set_them_and_what_they_were(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url, CALM | {"XENDIT_CALLBACK_TOKEN": TOKEN}) as system:
        scene = await prepared(system)
        settings = {each["key"]: each for each in (await scene.get("config"))["settings"]}
        limits = settings["max_sessions"]
        assert (limits["kind"], limits["min"], limits["max"], limits["value"]) == ("integer", 1, 100, 1)
        assert (limits["updated_at"], limits["actor"]) == (None, None)
        notice = settings["app_notice"]
        assert (notice["kind"], notice["min"], notice["max"], notice["default"]) == ("text", None, 500, "")
        assert all(each["doc"] for each in settings.values())
        for value in (2, 3, 4):
            await scene.put("config/max_sessions", {"value": value})
        (limits,) = [each for each in (await scene.get("config"))["settings"] if each["key"] == "max_sessions"]
        assert (limits["value"], limits["actor"]) == (4, scene.operator.id)
        first = await scene.get("config/max_sessions/history", limit=2)
        assert [(each["value"], each["before"]) for each in first["changes"]] == [(4, 3), (3, 2)]
        rest = await scene.get("config/max_sessions/history", limit=2, cursor=first["next"])
        assert [(each["value"], each["before"]) for each in rest["changes"]] == [(2, None)]
        assert rest["next"] is None
        assert rest["changes"][0]["actor"] == scene.operator.id

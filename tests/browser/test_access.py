"""For everybody: axe-core finds nothing serious in any view, theme and size; a keyboard is enough."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from hadir.dev.embedded import EmbeddedValkey
from tests.browser.scene import CALM, HERO, scene
from tests.browser.window import AXE, DESK, PHONE, Theme, Window, window
from tests.support import eventually
from tests.support.system import System

LOOKS: list[tuple[str, tuple[int, int], Theme]] = [
    ("light", DESK, "light"),
    ("dark", DESK, "dark"),
    ("a phone", PHONE, "light"),
    ("a phone in the dark", PHONE, "dark"),
]
STOPS_MAX = 60


@pytest.mark.parametrize(("size", "theme"), [each[1:] for each in LOOKS], ids=[each[0] for each in LOOKS])
async def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_window(
    database: str, valkey: EmbeddedValkey, browser: Browser, size: tuple[int, int], theme: Theme
) -> None:
    async with System(database, valkey.url, CALM) as system, scene(system, mitras=12, trades=4) as made:
        sql = "SELECT id::text FROM pairings WHERE status = 'accepted' ORDER BY created_at DESC LIMIT 1"
        pairing = await system.sql.fetchval(sql)
        session = await system.sql.fetchval("SELECT id::text FROM chat_sessions WHERE status = 'active' LIMIT 1")
        views = ["/", "/mitras", f"/mitras/{HERO}", "/pairings?status=accepted", f"/pairings/{pairing}"]
        views += ["/sessions?status=all", f"/sessions/{session}", "/reports", "/reports?kind=online-time"]
        views += ["/reports?kind=funnel", "/settings/max_sessions", "/audit", "/nowhere"]
        found: list[str] = []
        async with window(browser, made.instances[0], made.operator, size=size, theme=theme) as page:
            for view in views:
                await page.visit(view)
                await page.loaded()
                if AXE.exists():
                    found += [f"{view}: {fault}" for fault in await page.faults()]
                if wide := await page.overflows():
                    found.append(f"{view}: wider than its window by {wide} px")
            await page.visit(f"/mitras/{HERO}")
            await page.loaded()
            await page.button("Deactivate").click()
            if AXE.exists():
                found += [f"a dialog: {fault}" for fault in await page.faults()]
        async with window(browser, made.instances[0], None, size=size, theme=theme) as page:
            if AXE.exists():
                found += [f"the gate: {fault}" for fault in await page.faults()]
        assert found == []
        if not AXE.exists():
            pytest.skip("Nothing is too wide; axe-core is not installed (npm install --prefix tests/foreign)")


async def walk(page: Window, until: str, *, back: bool = False) -> list[str]:
    """Tab by tab to what is called so; answers the stops."""
    stops: list[str] = []
    for _ in range(STOPS_MAX):
        await page.page.keyboard.press("Shift+Tab" if back else "Tab")
        stops.append(await page.focused())
        if re.search(until, stops[-1]):
            return stops
    raise AssertionError(f"no way by keyboard to {until}: {stops}")


async def test_a_keyboard_is_enough(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(), await system.account()
        await system.sql.execute("UPDATE mitras SET display_name = 'Siti' WHERE id = $1", mitra.id)
        await system.phone(served, mitra)
        async with window(browser, served, await system.account("operator")) as page:
            press = page.page.keyboard.press
            assert (await walk(page, "Skip to the content"))[0] == "Skip to the content", "it is the first stop"
            await press("Enter")
            assert await page.page.evaluate("document.activeElement.id") == "main"
            assert await page.page.evaluate("location.hash") == "#/"
            await press("/")
            await expect(page.page.get_by_role("searchbox")).to_be_focused()
            await page.page.keyboard.type("siti")
            await expect(page.page.get_by_role("table", name="Mitras").locator("tbody tr")).to_have_count(1)
            await expect(page.page).to_have_url(re.compile("q=siti"))
            await walk(page, "^Siti")
            ring = "getComputedStyle(document.activeElement).outlineStyle"
            assert await page.page.evaluate(ring) == "solid", "whoever walks sees where"
            await press("Enter")
            await expect(page.page.get_by_role("heading", level=1, name="Siti")).to_be_focused()
            await walk(page, "^Deactivate$")
            await press("Enter")
            dialog = page.page.get_by_role("dialog")
            await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
            inside = "document.querySelector('dialog').contains(document.activeElement) || !document.hasFocus()"
            for _ in range(5):
                await press("Tab")
                assert await page.page.evaluate(inside), "the focus stays in the dialog"
            await press("Escape")
            await expect(page.button("Deactivate")).to_be_focused()
            await press("Enter")
            await walk(page, "^Deactivate$")
            await press("Enter")
            await expect(page.page.locator(".heading .badge")).to_have_text("Deactivated")


async def test_a_phone_has_every_view_behind_its_menu(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        async with window(browser, served, await system.account("viewer"), size=PHONE, has_touch=True) as page:
            views = page.page.get_by_role("navigation", name="Views")
            await expect(views).to_be_hidden()
            await page.button("Menu").tap()
            await views.get_by_role("link", name="Audit log").tap()
            await expect(page.page.get_by_role("heading", level=1)).to_have_text("Audit log")
            await expect(views).to_be_hidden()


async def test_the_theme_follows_the_system_until_one_is_chosen(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        ground = "getComputedStyle(document.body).backgroundColor"
        async with window(browser, served, await system.account("viewer"), theme="dark") as page:
            dark = await page.page.evaluate(ground)
            await page.page.emulate_media(color_scheme="light")

            async def is_light() -> bool:
                return bool(await page.page.evaluate(ground) != dark)

            await eventually(is_light)
            await page.button("Switch to the dark theme").click()
            assert await page.page.evaluate(ground) == dark
            await page.page.reload()
            await page.loaded()
            assert await page.page.evaluate(ground) == dark, "it is remembered"


async def test_whoever_listens_is_told_now_and_then(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        async with window(browser, served, await system.account("viewer")) as page:
            await expect(page.page.locator(".feed[aria-live], .feed [aria-live]")).to_have_count(0)
            customers = await system.accounts(5, "customer")
            for each in customers:
                await system.pair(served, each)
            aloud = page.page.locator(".feed-card [role=status]")
            await expect(page.page.locator(".feed li").nth(4)).to_contain_text("A customer asks")
            await expect(aloud).to_have_text(re.compile(r"^A customer asks: pairing \w{8}, and \d+ more things$"))

"""What operators do on the page: asked before, done for real, on record; viewers see no buttons."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, expect

from hadir.dev.embedded import EmbeddedValkey
from tests.browser.scene import CALM
from tests.browser.window import Window, window
from tests.support.market import Market
from tests.support.system import Account, Served, System

ACTING = ("Deactivate", "Activate", "Take offline", "Revoke", "Mark as paid", "Reroute", "Cancel", "End", "Save …")


@asynccontextmanager
async def at_mitra(
    browser: Browser, system: System, served: Served, mitra: Account, role: str = "operator"
) -> AsyncIterator[Window]:
    """A window on the page of a mitra."""
    async with window(browser, served, await system.account(role), at=f"/mitras/{mitra.id}") as page:
        yield page


async def test_deactivating_closes_the_socket_on_another_instance(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other, mitra = await system.instance(), await system.instance(), await system.account()
        phone = await system.phone(other, mitra)
        async with at_mitra(browser, system, served, mitra) as page:
            await page.button("Deactivate").click()
            await expect(page.page.get_by_role("dialog")).to_contain_text("closed at once, on every instance")
            assert phone.closed_with is None, "nothing is done before it is confirmed"
            began = time.monotonic()
            await page.page.get_by_role("dialog").get_by_role("button", name="Deactivate").click()
            assert await phone.ended() == 4502
            print(f"from the click to the close: {time.monotonic() - began:.3f} s")
            await expect(page.page.locator(".heading .badge")).to_have_text("Deactivated")
            await expect(page.page.locator(".why")).to_contain_text("Out of service")
            await expect(page.page.locator(".timeline")).to_contain_text("out of service")
            await page.button("Activate").click()
            await page.confirm("Activate")
            await expect(page.page.locator(".heading .badge")).to_have_text("Offline")
            assert (await system.row(mitra))["is_active"] is True


async def test_cancelling_does_nothing(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(), await system.account()
        await system.phone(served, mitra)
        async with at_mitra(browser, system, served, mitra) as page:
            dialog = page.page.get_by_role("dialog")
            for leave in ("button", "Escape"):
                await page.button("Deactivate").click()
                if leave == "button":
                    await dialog.get_by_role("button", name="Cancel").click()
                else:
                    await page.page.keyboard.press("Escape")
                await expect(dialog).to_have_count(0)
                assert await page.focused() == "Deactivate", "the focus is back where it was"
            assert await system.state(mitra) == "online"


async def test_taking_offline_and_revoking_a_login(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(), await system.account()
        phone = await system.phone(served, mitra)
        async with at_mitra(browser, system, served, mitra) as page:
            await page.button("Take offline").click()
            await page.confirm("Take offline")
            await expect(page.page.locator(".heading .badge")).to_have_text("Offline")
            await expect(page.page.locator(".why")).to_contain_text("an operator took it offline")
            assert phone.closed_with is None
            await page.page.get_by_role("button", name="Revoke the login").click()
            await page.confirm("Revoke")
            assert await phone.ended() == 4501
            await expect(page.page.get_by_role("table", name="Logins")).to_contain_text("Revoked")


async def test_sessions_are_paid_rerouted_and_ended(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        _, phone = await market.mitra(served)
        session = await market.won(served, await system.account("customer"), phone)
        async with window(browser, served, await system.account("operator"), at=f"/sessions/{session['id']}") as page:
            await page.button("Mark as paid").click()
            dialog = page.page.get_by_role("dialog")
            await dialog.get_by_label("Amount in rupiah").fill("fifty")
            await dialog.get_by_role("button", name="Mark as paid").click()
            await expect(dialog.get_by_text("A whole number of rupiah, or nothing.")).to_be_visible()
            await dialog.get_by_label("Amount in rupiah").fill("50000")
            await page.confirm("Mark as paid")
            await expect(page.page.locator(".heading .badge")).to_have_text("Active")
            await expect(page.page.get_by_role("table", name="Payments")).to_contain_text("50.000")
            assert (await market.row(session["id"]))["status"] == "active"
            await page.button("Reroute").click()
            await page.confirm("Search")
            await expect(page.page.get_by_role("heading", level=1)).to_contain_text("Pairing")
            await page.page.go_back()
            await page.button("End").click()
            await page.confirm("End the session")
            await expect(page.page.locator(".heading .badge")).to_have_text("Ended")
            await expect(page.button("End")).to_have_count(0)
            assert (await market.row(session["id"]))["end_reason"] == "operator"


async def test_a_refusal_is_said_in_the_dialog(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        _, phone = await market.mitra(served)
        session = await market.won(served, await system.account("customer"), phone)
        at = f"/sessions/{session['id']}"
        async with window(browser, served, await system.account("operator"), at=at, expected="409") as page:
            await page.button("Cancel").click()
            await market.operator(served, "POST", f"/api/internal{at}/end", json={})
            await page.page.get_by_role("dialog").get_by_role("button", name="Cancel the session").click()
            await expect(page.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("cancelled")
            await expect(page.page.get_by_role("dialog")).to_be_visible()


async def test_a_setting_is_checked_changed_and_on_record(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(), await system.account()
        async with window(browser, served, await system.account("operator"), at="/settings/max_sessions") as page:
            value = page.page.get_by_label("Value")
            for wrong in ("0", "101", "many", ""):
                await value.fill(wrong)
                await page.button("Save …").click()
                await expect(page.page.get_by_text("This must be a whole number from 1 to 100.")).to_be_visible()
            await value.fill("3")
            await page.button("Save …").click()
            await expect(page.page.get_by_role("dialog")).to_contain_text("To: 3")
            await page.confirm("Change it")
            await expect(page.page.get_by_role("status").get_by_text("max_sessions is changed")).to_be_visible()
            await expect(
                page.page.get_by_role("table", name="Changes of max_sessions").get_by_role("row")
            ).to_have_count(2)
            assert (await system.row(mitra))["max_sessions"] == 3
            await page.visit("/audit")
            log = page.page.get_by_role("table", name="Audit log")
            await expect(log).to_contain_text("Change a setting")
            await page.page.get_by_label("Action", exact=True).select_option("deactivate")
            await expect(page.page.get_by_text("No action fits")).to_be_visible()


async def test_a_viewer_sees_no_buttons_that_act(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        mitra, phone = await market.mitra(served)
        session = await market.won(served, await system.account("customer"), phone)
        views = (f"/mitras/{mitra.id}", f"/sessions/{session['id']}", "/settings", "/audit", "/")
        async with window(browser, served, await system.account("viewer")) as page:
            for view in views:
                await page.visit(view)
                await page.loaded()
                for name in ACTING:
                    await expect(page.button(name)).to_have_count(0)
                await expect(page.page.get_by_role("button", name="Revoke")).to_have_count(0)
        async with window(browser, served, await system.account("operator"), at=views[0]) as page:
            await expect(page.button("Deactivate")).to_be_visible()

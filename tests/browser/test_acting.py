"""What operators do on the page: asked before, done for real, on record; viewers see no buttons."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, expect

from hadir.dev.embedded import EmbeddedValkey
from tests.browser.scene import CALM
from tests.browser.window import PATIENCE_S, Window, window
from tests.support.market import TOKEN, Market, invoice
from tests.support.system import Account, Served, System

ACTING = ("Deactivate", "Activate", "Take offline", "Revoke", "End", "Mark as paid", "Reroute", "Cancel", "Save …")
SOON_S = 1.0


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
            await page.confirm("Deactivate")
            assert await phone.ended() == 4502
            await expect(page.page.locator(".heading .badge")).to_have_text("Deactivated")
            await expect(page.page.locator(".why")).to_contain_text("Out of service")
            await expect(page.page.locator(".timeline")).to_contain_text("out of service")
            await page.button("Activate").click()
            await page.confirm("Activate")
            await expect(page.page.locator(".heading .badge")).to_have_text("Offline")
            assert (await system.row(mitra))["is_active"] is True


async def test_deactivating_takes_less_than_a_second_at_best_of_three(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    """From the click to the close that the app sees on another instance; best of three, as machines are busy."""
    async with System(database, valkey.url, CALM) as system:
        served, other = await system.instance(), await system.instance()
        took_s: list[float] = []
        async with window(browser, served, await system.account("operator")) as page:
            while len(took_s) < 3 and min(took_s, default=math.inf) > SOON_S:
                mitra = await system.account()
                phone = await system.phone(other, mitra)
                await page.visit(f"/mitras/{mitra.id}")
                await page.button("Deactivate").click()
                button = page.page.get_by_role("dialog").get_by_role("button", name="Deactivate")
                await expect(button).to_be_visible()
                began = time.monotonic()
                clicking = asyncio.create_task(button.click())
                assert await phone.ended(PATIENCE_S) == 4502
                took_s.append(time.monotonic() - began)
                await clicking
        assert min(took_s) <= SOON_S, took_s


async def test_nobody_leaves_while_it_is_being_done_and_that_ends(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(), await system.account()
        async with at_mitra(browser, system, served, mitra) as page:
            asked = asyncio.Event()
            await page.page.route("**/deactivate", lambda _: asked.set())  # and never an answer
            dialog = page.page.get_by_role("dialog")
            await page.button("Deactivate").click()
            await dialog.get_by_role("button", name="Deactivate").click()
            await asyncio.wait_for(asked.wait(), PATIENCE_S)
            await expect(dialog.get_by_role("button", name="Cancel")).to_be_disabled()
            for _ in range(3):  # browsers let no page refuse a second one
                await page.page.keyboard.press("Escape")
            await page.page.mouse.click(5, 5)
            await expect(dialog).to_be_visible()
            alert = dialog.get_by_role("alert")
            await expect(alert).to_contain_text("did not answer within 15 s", timeout=60_000)
            await expect(alert).to_contain_text("It may have been done nevertheless")
            await page.page.keyboard.press("Escape")
            await expect(dialog).to_have_count(0)


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
        unused = await system.account(sub=mitra.id)
        async with at_mitra(browser, system, served, mitra) as page:
            await page.button("Take offline").click()
            await page.confirm("Take offline")
            await expect(page.page.locator(".heading .badge")).to_have_text("Offline")
            await expect(page.page.locator(".why")).to_contain_text("an operator took it offline")
            assert phone.closed_with is None
            dialog, logins = page.page.get_by_role("dialog"), page.page.get_by_role("table", name="Logins")
            await page.button(f"Revoke the login {unused.sid[:8]}").click()
            await expect(dialog).to_contain_text("No connection uses it at the moment.")
            await page.confirm("Revoke")
            await expect(logins.get_by_text("Revoked", exact=True)).to_have_count(1)
            assert phone.closed_with is None
            await page.button(f"Revoke the login {mitra.sid[:8]}").click()
            await expect(dialog).to_contain_text("Its connection is closed at once, on whichever instance it is.")
            await page.confirm("Revoke")
            assert await phone.ended() == 4501
            await expect(logins.get_by_text("Revoked", exact=True)).to_have_count(2)


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


async def test_who_said_that_it_was_paid(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, {**CALM, "XENDIT_CALLBACK_TOKEN": TOKEN}) as system:
        market, served = Market(system), await system.instance()
        _, phone = await market.mitra(served)
        session = await market.won(served, await system.account("customer"), phone)
        assert (await market.webhook(served, invoice(session["id"]))).status_code == 200
        await market.becomes(session["id"], "active")
        viewer = await system.account("viewer")
        async with window(browser, served, viewer, at=f"/sessions/{session['id']}") as page:
            payments = page.page.get_by_role("table", name="Payments")
            await expect(payments).to_contain_text("the provider")
            await expect(payments).not_to_contain_text("operator")


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


async def test_a_draft_outlives_what_happens_beside_it(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        async with window(browser, served, await system.account("operator"), at="/settings") as page:
            notice = page.page.get_by_role("form", name="Change app_notice")
            sessions = page.page.get_by_role("form", name="Change max_sessions")
            await notice.get_by_label("Value").fill("Half a sentence")
            await sessions.get_by_label("Value").fill("3")
            answer = await market.operator(served, "PUT", "/api/internal/config/max_sessions", json={"value": 5})
            assert answer.status_code == 200
            await sessions.get_by_role("button", name="Save …").click()
            dialog = page.page.get_by_role("dialog")
            await expect(dialog).to_contain_text("From: 5")
            await expect(dialog).to_contain_text("To: 3")
            await page.confirm("Change it")
            section = page.page.locator("section", has=sessions)
            await expect(section).to_contain_text("Last changed")
            await expect(sessions.get_by_label("Value")).to_have_value("3")
            await expect(notice.get_by_label("Value")).to_have_value("Half a sentence")
            answer = await market.operator(served, "PUT", "/api/internal/config/max_sessions", json={"value": 4})
            assert answer.status_code == 200
            await expect(sessions.get_by_label("Value")).to_have_value("4")
            await expect(notice.get_by_label("Value")).to_have_value("Half a sentence")


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
        async with window(browser, served, await system.account("operator")) as page:
            for view, names in zip(views, (ACTING[:1], ACTING[5:8], ACTING[8:]), strict=False):
                await page.visit(view)
                for name in names:
                    await expect(page.button(name).first).to_be_visible()

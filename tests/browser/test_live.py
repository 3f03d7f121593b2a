"""The live page: counts move when sockets do, and what it no longer knows it does not show as known."""

from __future__ import annotations

import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.async_api import Browser, expect

from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.browser.scene import CALM
from tests.browser.window import window
from tests.support import eventually
from tests.support.system import System

LOST = "WebSocket connection to|net::ERR_|Failed to load resource"
"""What Chromium says by itself of a server that is away."""
GREY = "(place) => getComputedStyle(document.querySelector(place)).filter.includes('grayscale')"
POINTS_SINCE = """async (began) => {
    const modules = performance.getEntriesByType("resource").map((each) => each.name);
    const { hour } = await import(modules.find((each) => each.endsWith("/hour.js")));
    return hour.at.filter((at) => at > began).length;
}"""
"""How many points the plots have since then: of the module that the page itself uses."""


async def test_counts_move_when_sockets_do(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other = await system.instance(), await system.instance()
        async with window(browser, served, await system.account("viewer")) as page:
            await expect(page.figure("online")).to_have_text("0")
            here = await system.phone(served, await system.account())
            elsewhere = await system.phone(other, await system.account())
            await expect(page.figure("online")).to_have_text("2")
            await expect(page.figure("available")).to_have_text("2")
            await expect(page.page.get_by_text("2 sockets open")).to_be_visible()
            await here.goodbye()
            await expect(page.figure("online")).to_have_text("1")
            elsewhere.cut()
            await expect(page.figure("suspect")).to_have_text("1")
            await expect(page.figure("available")).to_have_text("0")
            await expect(page.page.get_by_role("table", name="Instances").get_by_role("row")).to_have_count(3)


async def test_a_fresh_page_has_the_last_hour(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, now = await system.instance(), datetime.now(UTC)
        aligned = now - timedelta(seconds=now.timestamp() % 10)
        for minutes, online in ((50, 7), (30, 90), (10, 40)):
            await system.sql.execute(
                "INSERT INTO centre_series (at, online) VALUES ($1, $2)", aligned - timedelta(minutes=minutes), online
            )
        async with window(browser, served, await system.account("viewer")) as page:
            plot = page.page.get_by_role("img", name="Online, the last hour")
            await expect(plot).to_have_accessible_name("Online, the last hour: latest 0, least 0, most 90")
            await expect(plot.locator("canvas")).to_be_visible()


async def test_the_plots_grow_by_what_the_page_hears(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        async with window(browser, served, await system.account("viewer")) as page:
            began = await page.page.evaluate("Date.now() / 1000")

            async def grown() -> bool:
                await system.phone(served, await system.account())  # so that frames come all the time
                return int(await page.page.evaluate(POINTS_SINCE, began)) >= 4

            await eventually(grown, 30)


async def test_it_survives_a_restart_and_says_so_meanwhile(
    database: str, valkey: EmbeddedValkey, browser: Browser, tmp_path: Path
) -> None:
    async with System(database, valkey.url, CALM) as system:
        process = await system.process(tmp_path / "log")
        await system.phone(process.served, await system.account())
        async with window(browser, process.served, await system.account("viewer"), expected=LOST) as page:
            await expect(page.figure("online")).to_have_text("1")
            process.signal(signal.SIGTERM)
            await expect(page.page.get_by_text("Not live since")).to_be_visible()
            await expect(page.page.locator("body")).to_have_attribute("data-live", "reconnecting")
            await expect(page.page.locator(".banner .next")).to_contain_text("try")
            assert await page.page.evaluate(GREY, ".tile")
            await expect(page.figure("online")).to_have_text("1")  # what was last known
            await process.stopped()
            await page.visit("/mitras")
            await expect(page.page.get_by_role("alert")).to_have_text(re.compile("cannot be reached"))
            late = await system.account()  # first: a list that is read is not added to
            await process.start(system.http)
            await system.phone(process.served, late)
            await page.loaded()
            await expect(page.page.get_by_role("table", name="Mitras").locator("tbody tr")).to_have_count(2)
            await page.visit("/")
            await expect(page.page.get_by_text("Not live since")).to_be_hidden()
            await expect(page.figure("available")).to_have_text("1")
            assert not await page.page.evaluate(GREY, ".tile")


async def test_a_server_that_only_froze_is_not_live_either(
    database: str, valkey: EmbeddedValkey, browser: Browser, tmp_path: Path
) -> None:
    async with System(database, valkey.url, CALM) as system:
        process = await system.process(tmp_path / "log")
        viewer = await system.account("viewer")
        async with window(browser, process.served, viewer, at="/mitras", expected=LOST) as page:
            process.freeze()
            try:
                not_live = page.page.get_by_text("Not live since")
                await expect(page.page.locator("body")).to_have_attribute("data-live", "stale", timeout=60_000)
                await expect(not_live).to_be_visible()
                assert await page.page.evaluate(GREY, "main .card"), "every view is grey, not the overview alone"
            finally:
                process.thaw()
            await page.loaded()
            await expect(not_live).to_be_hidden()


async def test_counts_that_nobody_can_make_are_stale(
    valkey: EmbeddedValkey, own_postgres: EmbeddedPostgres, browser: Browser
) -> None:
    async with System(own_postgres.url, valkey.url, CALM) as system:
        served = await system.instance()
        async with window(browser, served, await system.account("viewer"), expected=LOST) as page:
            own_postgres.kill()
            await valkey.stop()
            cannot = page.page.get_by_text("The servers cannot count at the moment.")
            await expect(cannot).to_be_visible(timeout=60_000)
            await expect(page.page.locator("body")).to_have_attribute("data-live", "stale")
            await own_postgres.start()
            await valkey.start()
            await page.loaded()
            await expect(cannot).to_be_hidden()


async def test_what_happens_is_told_once_and_leads_to_it(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, other = await system.instance(), await system.instance()
        async with window(browser, served, await system.account("viewer")) as page:
            feed = page.page.get_by_role("list", name="What happens")
            pairing = await system.pair(other, await system.account("customer"))
            asked = feed.get_by_text(f"A customer asks: pairing {pairing['id'][:8]}")
            await expect(asked).to_be_visible()
            await expect(page.figure("waiting")).to_have_text("1")
            await page.button("Operators").click()
            await expect(asked).to_be_hidden()
            await page.button("Pairings").click()
            await expect(asked).to_have_count(1)
            await asked.get_by_role("link").click()
            await expect(page.page.get_by_role("heading", level=1)).to_have_text(f"Pairing {pairing['id'][:8]}")


async def test_a_login_that_is_revoked_is_signed_out(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, operator, viewer = (
            await system.instance(),
            await system.account("operator"),
            await system.account("viewer"),
        )
        async with window(browser, served, viewer, expected="401") as page:
            url = f"{served.inner_url}/api/internal/auth-sessions/{viewer.sid}/revoke"
            assert (await system.http.post(url, headers=operator.bearer)).status_code == 200
            await expect(page.page.get_by_role("heading", name="Control centre")).to_be_visible()
            await expect(page.page.get_by_text("revoked")).to_be_visible()
            assert await page.page.evaluate("sessionStorage.getItem('token')") is None


async def test_the_way_in(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer, mitra = await system.instance(), await system.account("viewer"), await system.account()
        async with window(browser, served, None) as page:
            box = page.page.get_by_label("Token of an operator or viewer")
            for token, why in (
                ("", "Paste a token first."),
                ("rubbish", "This is not a token"),
                (mitra.token, "needs operator or viewer"),
                (viewer.make_token(-60), "has expired"),
            ):
                await box.fill(token)
                await page.button("Sign in").click()
                await expect(page.page.get_by_role("alert")).to_contain_text(why)
            await box.fill(f"Bearer {viewer.token}")
            await page.button("Sign in").click()
            await page.loaded()
            await page.page.reload()
            await page.loaded()
            await page.button("Sign out").click()
            await expect(page.page.get_by_role("alert")).to_have_text("You have signed out.")
        async with window(browser, served, viewer) as page:
            assert page.page.url == f"{served.inner_url}/#/", "a token in the address is taken out of it"


async def test_a_newer_version_of_the_page_is_offered(
    database: str, valkey: EmbeddedValkey, browser: Browser, tmp_path: Path
) -> None:
    async with System(database, valkey.url, CALM) as system:
        process = await system.process(tmp_path / "log")
        async with window(browser, process.served, await system.account("viewer"), expected=LOST) as page:
            body = await (await page.page.request.get(process.served.inner_url)).text()
            newer = body.replace('name="version" content="', 'name="version" content="0')
            await page.page.route(process.served.inner_url + "/", lambda route: route.fulfill(body=newer))
            await process.kill()
            await process.start(system.http)
            await page.loaded()
            await expect(page.button("Load it")).to_be_visible()

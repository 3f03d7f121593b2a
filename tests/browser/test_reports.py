"""Reports on the page: a table, a plot that says what it shows, and the same as a file."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from playwright.async_api import Browser, expect

from hadir.dev.embedded import EmbeddedValkey
from tests.browser.scene import CALM
from tests.browser.window import window
from tests.support.system import System


async def test_online_time_is_shown_and_downloaded(
    database: str, valkey: EmbeddedValkey, browser: Browser, tmp_path: Path
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra, viewer = await system.instance(), await system.account(), await system.account("viewer")
        day = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=2)
        for hours, state in ((0, "online"), (2.5, "offline")):
            await system.sql.execute(
                "INSERT INTO presence_log (at, mitra_id, state, reason) VALUES ($1, $2, $3, 'goodbye')",
                day + timedelta(hours=hours),
                mitra.id,
                state,
            )
        asked = f"from={day:%Y-%m-%d}&to={day:%Y-%m-%d}&tz=UTC"
        async with window(browser, served, viewer, at=f"/reports?kind=online-time&{asked}") as page:
            lines = page.page.get_by_role("table", name="Online time").locator("tbody tr")
            await expect(lines).to_have_count(1)
            await expect(lines).to_contain_text("2 h 30 min")
            plot = page.page.get_by_role(
                "img", name="Online time by day. Online: latest 2.5 h, least 2.5 h, most 2.5 h"
            )
            await expect(plot.locator("canvas")).to_be_visible()
            async with page.page.expect_download() as downloading:
                await page.button("Download CSV").click()
            download = await downloading.value
            assert download.suggested_filename == f"online-time_{day:%Y-%m-%d}_{day:%Y-%m-%d}.csv"
            await download.save_as(tmp_path / "report.csv")
            url = f"{served.inner_url}/api/internal/reports/online-time?{asked}&format=csv"
            assert (tmp_path / "report.csv").read_bytes() == (await system.http.get(url, headers=viewer.bearer)).content
            assert f"{day:%Y-%m-%d},{mitra.id}" in (tmp_path / "report.csv").read_text()


async def test_supply_and_demand_and_the_funnel(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        await system.pair(served, await system.account("customer"))
        async with window(browser, served, await system.account("viewer"), at="/reports") as page:
            await expect(
                page.page.get_by_role("img", name=re.compile("Available mitras against pairings"))
            ).to_be_visible()
            await expect(page.page.locator(".strip")).to_contain_text("Asked")
            await expect(page.page.locator(".strip dd").first).to_have_text("1")
            await page.button("Offer funnel").click()
            await expect(page.page.get_by_role("table", name="Offer funnel").locator("tbody tr")).to_have_count(7)
            await expect(page.page).to_have_url(re.compile(r"kind=funnel"))
            await page.button("Today").click()
            await expect(page.page.get_by_role("table", name="Offer funnel").locator("tbody tr")).to_have_count(1)
            await expect(page.page.get_by_role("img", name=re.compile("Pairings by day"))).to_be_visible()


async def test_what_is_asked_wrongly_is_said(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        async with window(browser, served, viewer, at="/reports", expected="422") as page:
            zone = page.page.get_by_label("Time zone")
            await zone.fill("Mars/Olympus")
            await zone.press("Enter")
            await expect(page.page.get_by_role("alert")).to_contain_text("tz must be")
            await zone.fill("Asia/Jakarta")
            await zone.press("Enter")
            await expect(page.page.get_by_role("alert")).to_have_count(0)
            await expect(page.page.get_by_role("table", name="Supply and demand")).to_be_visible()
            await zone.fill("")
            await zone.press("Enter")
            await expect(zone).to_have_value("Asia/Jakarta")
            await expect(page.page).to_have_url(re.compile(r"tz=Asia%2FJakarta"))


async def test_days_are_those_of_the_time_zone(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        async with window(browser, served, viewer) as page:
            for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # one of them has another date than Jakarta
                days = {f"{datetime.now(ZoneInfo(zone)):%Y-%m-%d}"}
                await page.visit(f"/reports?tz={zone}")
                shown = await page.page.get_by_label("To", exact=True).input_value()
                assert shown in days | {f"{datetime.now(ZoneInfo(zone)):%Y-%m-%d}"}, zone


async def test_sums_say_of_what_they_are(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitras = await system.instance(), await system.accounts(120)
        day = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=2)
        for hours, state in ((0, "online"), (1, "offline")):
            await system.sql.execute(
                "INSERT INTO presence_log (at, mitra_id, state, reason) SELECT $1, unnest($2::uuid[]), $3, 'goodbye'",
                day + timedelta(hours=hours),
                [each.id for each in mitras],
                state,
            )
        at = f"/reports?kind=online-time&from={day:%Y-%m-%d}&to={day:%Y-%m-%d}&tz=UTC"
        async with window(browser, served, await system.account("viewer"), at=at) as page:
            online, partly = (
                page.page.locator(".strip dd").first,
                page.page.get_by_text("the sums of the first 100 rows"),
            )
            await expect(online).to_have_text("100 h")
            await expect(partly).to_be_visible()
            await page.button("Load more").click()
            await expect(online).to_have_text("120 h")
            await expect(partly).to_be_hidden()

"""Finding: search, filter, order, more of it; addresses that can be sent to somebody; and what happened, told."""

from __future__ import annotations

import re

from playwright.async_api import Browser, expect

from hadir.dev.embedded import EmbeddedValkey
from tests.browser.scene import CALM
from tests.browser.window import window
from tests.support.market import Market
from tests.support.system import System

MARKUP = "<img src=x onerror=\"document.title='broken in'\"><b>Budi</b>"


async def named(system: System, names: list[str]) -> list[str]:
    """Mitras of these names; answers their ids."""
    made = await system.accounts(len(names))
    rows = [(each.id, name) for each, name in zip(made, names, strict=True)]
    await system.sql.executemany("UPDATE mitras SET display_name = $2 WHERE id = $1", rows)
    return [each.id for each in made]


async def test_searching_as_one_types_filtering_and_coming_back(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, ids = await system.instance(), await named(system, ["Budi Santoso", "Budiman", "Siti", "Wulan"])
        await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", ids[1])
        async with window(browser, served, await system.account("viewer"), at="/mitras") as page:
            lines = page.page.get_by_role("table", name="Mitras").locator("tbody tr")
            await expect(lines).to_have_count(4)
            await page.page.keyboard.press("/")
            assert await page.focused() == "Search mitras by name or id"
            await page.page.keyboard.type("budi", delay=30)
            await expect(lines).to_have_count(2)
            await page.page.get_by_role("button", name=re.compile("^Deactivated")).click()
            await expect(lines).to_have_count(1)
            await expect(page.page).to_have_url(re.compile(r"#/mitras\?q=budi&state=deactivated$"))
            address = page.page.url
            await lines.get_by_role("link").click()
            await expect(page.page.get_by_role("heading", level=1)).to_have_text("Budiman")
            await expect(page.page).to_have_title("Budiman · Hadir")
            await page.page.go_back()
            await expect(lines).to_have_count(1)
            await expect(page.page.get_by_role("searchbox")).to_have_value("budi")
            await page.page.go_back()
            await expect(lines).to_have_count(2)
            await page.page.goto(address)
            await page.page.reload()
            await expect(lines).to_have_count(1)
            await page.page.get_by_role("searchbox").fill("nobody of this name")
            await expect(page.page.get_by_text("No mitra fits")).to_be_visible()


async def test_more_is_read_page_by_page_and_rows_stay_as_they_are_now(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served = await system.instance()
        ids = await named(system, [f"Mitra {n:03}" for n in range(120)])
        async with window(browser, served, await system.account("viewer"), at="/mitras?sort=name") as page:
            lines = page.page.get_by_role("table", name="Mitras").locator("tbody tr")
            await expect(lines).to_have_count(50)
            await page.button("Load more").click()
            await expect(lines).to_have_count(100)
            await expect(page.page.get_by_text("100 mitras so far")).to_be_visible()
            await page.button("Load more").click()
            await expect(lines).to_have_count(120)
            await expect(page.button("Load more")).to_be_hidden()
            names = await page.page.locator("tbody .entity .name").all_inner_texts()
            assert names == [f"Mitra {n:03}" for n in range(120)]
            await system.sql.execute("UPDATE mitra_presence SET is_active = false WHERE mitra_id = $1", ids[110])
            await expect(lines.nth(110)).to_contain_text("Deactivated")
            assert await lines.count() == 120


async def test_a_name_is_never_markup(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, ids = await system.instance(), await named(system, [MARKUP])
        async with window(browser, served, await system.account("operator"), at="/mitras") as page:
            await expect(page.page.get_by_text(MARKUP)).to_be_visible()
            await page.visit(f"/mitras/{ids[0]}")
            await expect(page.page.get_by_role("heading", level=1)).to_have_text(MARKUP)
            await page.button("Deactivate").click()
            await expect(page.page.get_by_role("dialog")).to_contain_text(MARKUP)
            assert await page.page.locator("img[src=x]").count() == 0


async def test_why_was_it_offline(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, {**CALM, "MITRA_OFFLINE_GRACE_SECONDS": "1"}) as system:
        served, mitra = await system.instance(), await system.account()
        phone = await system.phone(served, mitra)
        async with window(browser, served, await system.account("viewer"), at=f"/mitras/{mitra.id}") as page:
            await expect(page.page.locator(".heading .badge")).to_have_text("Available")
            phone.cut()
            await expect(page.page.locator(".heading .badge")).to_have_text("Offline")
            await expect(page.page.locator(".why")).to_contain_text("its connection was lost")
            events = page.page.locator(".timeline .event-title")
            await expect(events).to_have_text(["Offline", "Suspect", "Online"])
            await expect(page.page.locator(".timeline")).to_contain_text("its connection was lost")


async def test_what_became_of_a_pairing(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        _, first = await market.mitra(served)
        _, second = await market.mitra(served)
        async with window(browser, served, await system.account("viewer"), at="/pairings") as page:
            await expect(page.page.get_by_text("Nobody waits")).to_be_visible()
            pairing = await market.offered(served, await system.account("customer"), first, second)
            await page.page.get_by_role("link", name=pairing["id"][:8]).click()
            await expect(page.page.locator(".heading .badge")).to_have_text("Waiting")
            await first.ask(type="offer.seen", pairing_id=pairing["id"])
            await first.ask(type="offer.decline", pairing_id=pairing["id"])
            await second.ask(type="offer.accept", pairing_id=pairing["id"])
            await expect(page.page.locator(".heading .badge")).to_have_text("Accepted")
            titles = page.page.locator(".event-title")
            for title in ("The customer asked", "Wave 1", "Offered", "Delivered", "Seen", "Declined", "Accepted"):
                await expect(titles.get_by_text(title, exact=True).first).to_be_visible()
            numbers = page.page.locator(".steps-number")
            await expect(numbers).to_have_text(["2", "2", "1", "1", "1"])


async def test_what_is_not_there_is_said(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, viewer = await system.instance(), await system.account("viewer")
        async with window(browser, served, viewer, expected="404|422") as page:
            await page.visit("/mitras/7d1f7b2e-0000-4000-8000-000000000001")
            await expect(page.page.get_by_text("There is no mitra with this id.").first).to_be_visible()
            await page.visit("/pairings/no-id")
            await expect(page.page.get_by_text("id must be a UUID.")).to_be_visible()
            await page.visit("/nowhere")
            await expect(page.page.get_by_role("heading", level=1)).to_have_text("There is no such page")


async def test_whoever_is_at_a_line_stays_at_it(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        mitra, phone = await market.mitra(served)
        first = await market.offered(served, await system.account("customer"), phone)
        async with window(browser, served, await system.account("viewer"), at="/pairings") as page:
            lines = page.page.get_by_role("table", name="Pairings").locator("tbody tr")
            await page.page.get_by_role("link", name=first["id"][:8]).focus()
            await system.pair(served, await system.account("customer"))
            await expect(lines).to_have_count(2)
            await expect(page.page.get_by_role("link", name=first["id"][:8])).to_be_focused()
            await page.visit(f"/mitras/{mitra.id}")
            entry = page.page.get_by_role("link", name=first["id"][:8]).first
            await entry.focus()
            await phone.goodbye()
            await expect(page.page.locator(".timeline .event-title").first).to_have_text("Offline")
            await expect(entry).to_be_focused()


async def test_a_long_past_is_read_in_parts_and_goes_on(
    database: str, valkey: EmbeddedValkey, browser: Browser
) -> None:
    async with System(database, valkey.url, CALM) as system:
        served, mitra = await system.instance(), await system.account()
        await system.sql.execute(
            "INSERT INTO presence_log (at, mitra_id, state, reason) SELECT now() - n * interval '1 hour', $1, "
            "CASE WHEN n % 2 = 0 THEN 'online' ELSE 'offline' END, 'status' FROM generate_series(1, 120) AS n",
            mitra.id,
        )
        async with window(browser, served, await system.account("viewer"), at=f"/mitras/{mitra.id}") as page:
            events = page.page.locator(".timeline .event-title")
            await expect(events).to_have_count(50)
            await page.button("Earlier").click()
            await expect(events).to_have_count(100)
            await system.phone(served, mitra)
            await expect(events).to_have_count(101)
            await expect(events.first).to_have_text("Online")
            await page.button("Earlier").click()
            await expect(events).to_have_count(121)
            await expect(page.button("Earlier")).to_be_hidden()


async def test_lists_follow_what_others_do(database: str, valkey: EmbeddedValkey, browser: Browser) -> None:
    async with System(database, valkey.url, CALM) as system:
        market, served = Market(system), await system.instance()
        mitra, phone = await market.mitra(served)
        await market.won(served, await system.account("customer"), phone)
        async with window(browser, served, await system.account("viewer"), at="/sessions?status=all") as page:
            line = page.page.get_by_role("table", name="Sessions").locator("tbody tr")
            await expect(line).to_have_count(1)
            await expect(line).not_to_contain_text("not online")
            await phone.goodbye()
            await expect(line).to_contain_text("not online")
            await page.visit("/audit")
            await expect(page.page.get_by_text("Nothing was done yet")).to_be_visible()
            await market.operator(served, "POST", f"/api/internal/mitras/{mitra.id}/deactivate", json={})
            await expect(page.page.get_by_role("table", name="Audit log")).to_contain_text("Deactivate")
            actor, subject = page.page.get_by_label("Operator's id"), page.page.get_by_label("Id or setting")
            await actor.fill("nobody")
            await subject.fill(mitra.id)
            await expect(page.page).to_have_url(re.compile(f"actor=nobody&subject={mitra.id}"))

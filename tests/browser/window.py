"""A window of Debian's Chromium on the control centre, driven by Playwright; what goes wrong inside is on record."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request, async_playwright, expect

from tests.support.system import Account, Served

AXE = Path(__file__).parent.parent / "foreign" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_S = 20.0
"""How long what must come may take on a machine that does other things, too."""
Theme = Literal["light", "dark"]
DESK, PHONE = (1440, 900), (375, 812)
expect.set_options(timeout=PATIENCE_S * 1000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser, for a block; the test is skipped where there is none."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    flags = [
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--font-render-hinting=none",
    ]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=flags)
        try:
            yield browser
        finally:
            await browser.close()


class Window:
    """One page of the control centre, signed in."""

    def __init__(self, page: Page, served: Served) -> None:
        self.page = page
        self.served = served
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("request", self._request)
        page.on("websocket", lambda socket: self.requests.append(socket.url))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)

    @property
    def strangers(self) -> list[str]:
        """Requests to other origins; what the page makes itself (`blob:`) is none."""
        own = urlsplit(self.served.inner_url).netloc
        return [url for url in self.requests if not url.startswith("blob:") and urlsplit(url).netloc != own]

    def unexpected(self, expected: str | None = None) -> list[str]:
        """Errors of the console but those that a test brought about."""
        return [each for each in self.errors if expected is None or not re.search(expected, each)]

    async def visit(self, path: str = "/") -> None:
        """Another view, as a link would; it is there, though what it shows may be on its way."""
        await self.page.evaluate("(hash) => { location.hash = hash }", path)
        await expect(self.page.locator("#main")).to_have_attribute("data-path", path)

    async def loaded(self) -> None:
        """Nothing is being read any more, and it is live."""
        await expect(self.page.locator(".pill")).to_contain_text("Live")
        await expect(self.page.locator(".skeleton")).to_have_count(0)

    def figure(self, name: str) -> Locator:
        """The big number of a tile."""
        return self.page.locator(f"[data-figure={name}]")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def confirm(self, name: str) -> None:
        """Presses the button of the dialog, which then closes."""
        dialog = self.page.get_by_role("dialog")
        await dialog.get_by_role("button", name=name, exact=True).click()
        await expect(dialog).to_have_count(0)

    async def focused(self) -> str:
        """What the keyboard is at: its name, or its text."""
        return str(
            await self.page.evaluate(
                "() => { const at = document.activeElement;"
                " return (at.getAttribute('aria-label') ?? at.labels?.[0]?.textContent ?? at.textContent).trim(); }"
            )
        )

    async def overflows(self) -> int:
        """By how many pixels the page is wider than its window."""
        wide = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return int(wide)

    async def faults(self) -> list[str]:
        """What axe-core calls serious or critical, each with where it is."""
        # Added as a file would be: the page's policy holds for scripts in the page, not for its tools.
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = await self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{each['impact']} {each['id']}: {node['target']} {node.get('failureSummary', '')}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


@asynccontextmanager
async def window(
    browser: Browser,
    served: Served,
    account: Account | None,
    *,
    at: str = "/",
    size: tuple[int, int] = DESK,
    theme: Theme = "light",
    expected: str | None = None,
    **options: Any,
) -> AsyncIterator[Window]:
    """A window on an instance, for a block: signed in, or at the gate; its console stays clean but for `expected`."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=theme,
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="Asia/Jakarta",
        **options,
    )
    context.set_default_timeout(PATIENCE_S * 1000)
    try:
        opened = Window(await context.new_page(), served)
        await opened.page.goto(f"{served.inner_url}/{f'#token={account.token}' if account else ''}")
        if account is not None:
            await opened.loaded()
            if at != "/":
                await opened.visit(at)
                await opened.loaded()
        yield opened
        assert opened.unexpected(expected) == []
        assert opened.strangers == []
    finally:
        await context.close()


async def texts(locator: Locator) -> Sequence[str]:
    """What each of them says."""
    return [text.strip() for text in await locator.all_inner_texts()]

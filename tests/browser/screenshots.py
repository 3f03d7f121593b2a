"""`make screenshots`: the pictures of docs/, of the page on a lively scene."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from playwright.async_api import Browser

from hadir.db.migrate import migrate
from hadir.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.browser.scene import CALM, HERO, Scene, scene
from tests.browser.window import DESK, PHONE, Theme, chromium, window
from tests.conftest import make_folder
from tests.support.system import System

SIZE_MAX = 300 * 1024
PICTURES: dict[str, tuple[str, tuple[int, int], Theme]] = {
    "centre-light": ("/", DESK, "light"),
    "centre-dark": ("/", DESK, "dark"),
    "centre-phone": ("/", PHONE, "dark"),
    "centre-mitra": (f"/mitras/{HERO}", DESK, "light"),
}
"""Name → view, size, theme."""


async def take(browser: Browser, made: Scene, name: str, folder: Path) -> Path:
    """One of the pictures."""
    view, size, theme = PICTURES[name]
    file = folder / f"{name}.png"
    async with window(browser, made.instances[0], made.operator, at=view, size=size, theme=theme) as page:
        await page.page.evaluate("document.fonts.ready.then(() => true)")
        await page.page.mouse.move(0, 0)
        await page.page.screenshot(path=file)
    assert file.stat().st_size <= SIZE_MAX, f"{name} has {file.stat().st_size} bytes"
    return file


async def main(folder: Path, wanted: list[str]) -> None:
    place = make_folder()
    try:
        async with (
            EmbeddedPostgres(place / "postgres", fsync=False) as postgres,
            EmbeddedValkey(place / "valkey") as valkey,
        ):
            await migrate(postgres.url)
            async with System(postgres.url, valkey.url, CALM) as system, chromium() as browser:
                async with scene(system, mitras=480, trades=24) as made:
                    for name in wanted or PICTURES:
                        print(await take(browser, made, name, folder), flush=True)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    asyncio.run(main(Path(__file__).parent.parent.parent / "docs", sys.argv[1:]))

"""The page's files: what is served, as what, for how long, and that nothing comes from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import re
from pathlib import Path

import pytest

from hadir.dev.embedded import EmbeddedValkey
from hadir.http import assets
from tests.support.system import System

CENTRE = Path(assets.__file__).parent / "centre"
WRITTEN_HERE = sorted(name for name in assets.FILES if not name.startswith("vendor/"))
SCRIPTS = [name for name in WRITTEN_HERE if name.endswith(".js")]


async def test_the_page_and_its_files_are_served_without_a_token(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        page = await system.http.get(f"{served.inner_url}/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert named
        for url in named:
            answer = await system.http.get(served.inner_url + url)
            assert answer.status_code == 200, url
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        for name, asset in assets.ASSETS.items():
            if name != assets.PAGE:
                answer = await system.http.get(f"{served.inner_url}/centre/{assets.VERSION}/{name}")
                assert answer.content == asset.body, name
                assert answer.headers["content-type"] == asset.media_type
                assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await system.http.get(f"{served.url}/")).status_code == 404, "not on the public listener"


async def test_nothing_but_the_listed_files_is_served(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        for name in ("index.html", "vendor/README.md", "vendor/SHA256SUMS", "..%2Fassets.py", "views/", "no.js"):
            answer = await system.http.get(f"{served.inner_url}/centre/{assets.VERSION}/{name}")
            assert answer.status_code == 404, name
            assert answer.headers["content-type"] == "application/problem+json"


async def test_the_policy_allows_this_origin_alone(database: str, valkey: EmbeddedValkey) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        for path in ("/", f"/centre/{assets.VERSION}/app.js"):
            policy = (await system.http.get(served.inner_url + path)).headers["content-security-policy"]
            assert "default-src 'self';" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy


async def test_what_one_has_is_not_sent_again_and_what_is_of_another_version_is_not_kept(
    database: str, valkey: EmbeddedValkey
) -> None:
    async with System(database, valkey.url) as system:
        served = await system.instance()
        for path in ("/", f"/centre/{assets.VERSION}/style.css"):
            first = await system.http.get(served.inner_url + path)
            again = await system.http.get(served.inner_url + path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["cache-control"] == first.headers["cache-control"]
        other = await system.http.get(f"{served.inner_url}/centre/0000/style.css")
        assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
        plain = await system.http.get(
            f"{served.inner_url}/centre/{assets.VERSION}/app.js", headers={"Accept-Encoding": "identity"}
        )
        assert "content-encoding" not in plain.headers
        assert len(gzip.compress(plain.content)) < len(plain.content)


def test_the_version_is_that_of_every_file() -> None:
    changed = dict(assets.FILES)
    assert assets._version(changed) == assets.VERSION
    changed["views/audit.js"] += b" "
    assert assets._version(changed) != assets.VERSION


def test_other_peoples_files_are_as_they_came() -> None:
    folder = CENTRE / "vendor"
    lines = (line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines())
    sums = {name: digest for digest, name in lines}
    assert sums == {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in folder.iterdir()
        if each.name not in ("SHA256SUMS", "README.md")
    }
    assert {"LICENSE-uPlot.txt", "LICENSE-Inter.txt"} <= sums.keys()


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = assets.FILES[assets.PAGE].decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page) == []
    for name in WRITTEN_HERE:
        text = assets.FILES[name].decode()
        elsewhere = set(re.findall(r"\b(?:https?|wss?)://[\w.$-]+", text)) - {"http://www.w3.org"}
        assert elsewhere == set(), name


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_out_of_text(name: str) -> None:
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc",
        assets.FILES[name].decode(),
    )
    assert found == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_import_is_there_and_used(name: str) -> None:
    text = assets.FILES[name].decode()
    for names, path in re.findall(r"^import (.+?) from \"(.+?)\";", text, re.MULTILINE):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        assert target in assets.FILES, f"{name} imports {target}"
        exported = assets.FILES[target].decode()
        for each in re.findall(r"\w+(?: as \w+)?", names) if names.startswith("{") else []:
            theirs, _, ours = each.partition(" as ")
            assert re.search(rf"export (async )?(const|class|function) {theirs}\b", exported), (
                f"{target} has no {theirs}"
            )
            assert len(re.findall(rf"\b{ours or theirs}\b", text)) > 1, f"{name} does not use {theirs}"


def test_every_file_is_short_enough_to_be_read() -> None:
    assert {name for name in WRITTEN_HERE if assets.FILES[name].count(b"\n") >= 250} == set()

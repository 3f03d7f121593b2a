"""The control centre's page: files read once, served without a token, and kept by browsers by their content."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

from hadir.errors import Refused
from hadir.http.requests import none_match

TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""What is served, and as what; other files of the folder (licences, checksums) are for people who read the source."""
FOLDERS = ("", "views/", "vendor/")
PAGE = "index.html"
VERSION_MARK = b"{version}"
POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
GUARDED: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
ASK_AGAIN = "no-cache"
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent; `zipped` where that is shorter."""

    body: bytes
    zipped: bytes | None
    etag: str
    media_type: str


def _asset(name: str, body: bytes) -> Asset:
    zipped = gzip.compress(body, mtime=0)
    etag = f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'  # weak where it is sent: of both encodings
    return Asset(body, zipped if len(zipped) < len(body) else None, etag, TYPES[_ending(name)])


def _ending(name: str) -> str:
    return name[name.rfind(".") :]


def _files() -> dict[str, bytes]:
    folder = resources.files("hadir.http") / "centre"
    return {
        beneath + each.name: each.read_bytes()
        for beneath in FOLDERS
        for each in sorted((folder / beneath if beneath else folder).iterdir(), key=_name)
        if _ending(each.name) in TYPES
    }


def _name(file: Traversable) -> str:
    return file.name


def _version(files: Mapping[str, bytes]) -> str:
    """One for all files together: modules import each other by relative paths, so they are of one version or none."""
    digest = hashlib.blake2b(digest_size=8)
    for name, body in sorted(files.items()):
        digest.update(f"{name} {len(body)} ".encode() + body)
    return digest.hexdigest()


FILES = _files()
VERSION = _version(FILES)
ASSETS: Mapping[str, Asset] = {
    name: _asset(name, body.replace(VERSION_MARK, VERSION.encode()) if name == PAGE else body)
    for name, body in FILES.items()
}


async def page(request: Request) -> Response:
    """The shell; it holds no data, and asks for a token itself."""
    return _answer(request, ASSETS[PAGE], ASK_AGAIN)


async def file(request: Request) -> Response:
    """A file of the page.

    One that another version's page asks for, while instances are replaced, is answered but not kept.
    """
    path = request.url.path.split("/", 3)[3]
    if path not in ASSETS or path == PAGE:
        raise Refused(404, "not_found", "The page has no such file.")
    kept = request.path_params["version"] == VERSION
    return _answer(request, ASSETS[path], FOR_EVER if kept else ASK_AGAIN)


def _answer(request: Request, asset: Asset, cache: str) -> Response:
    headers = {"cache-control": cache, "etag": f"W/{asset.etag}", "vary": "accept-encoding", **GUARDED}
    if {asset.etag, "*"} & none_match(request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=headers)
    body = asset.body
    if asset.zipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["content-encoding"] = asset.zipped, "gzip"
    return Response(body, headers=headers | {"content-type": asset.media_type})

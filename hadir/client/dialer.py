"""Which address and which token the next connection is opened with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import urlencode, urlsplit, urlunsplit

from hadir.client.events import Failed
from hadir.client.link import Habits, Link
from hadir.client.verdict import Refused

SCHEMES = {"http": "ws", "https": "wss"}

Token = str | Callable[[], Awaitable[str]]


class Dialer:
    """Opens links, to one URL after the other, at `path` where a URL has none of its own."""

    def __init__(self, urls: str | Sequence[str], path: str, token: Token, habits: Habits) -> None:
        self._urls = [urls] if isinstance(urls, str) else list(urls)
        if not self._urls:
            raise ValueError("urls may not be empty")
        self._path = path
        self._token = token
        self._habits = habits
        self._turn = 0

    @property
    def gets_new_tokens(self) -> bool:
        return callable(self._token)

    async def open(self, query: Mapping[str, str]) -> Link:
        """One attempt: each URL once, until one says hello. Raises the last one's `Refused`."""
        failure: Refused | None = None
        for _ in self._urls:
            url = address(self._urls[self._turn % len(self._urls)], self._path, query)
            self._turn += 1
            try:
                return await Link.open(url, await self.token(), self._habits)
            except Refused as refused:
                failure = refused
                stops = refused.final(new_token=self.gets_new_tokens)
                told = Failed(str(refused), refused.status, refused.problem, refused.close_code, stops)
                self._habits.tell(told)
                if not refused.elsewhere:
                    break
        raise failure or Refused("no url was tried")

    async def token(self) -> str:
        """The token to use now. Raises `Refused` when there is none at the moment."""
        try:
            return await current(self._token)
        except OSError as error:
            raise Refused(f"there is no token at the moment: {error}") from error


async def current(token: Token) -> str:
    """The token to use now. Raises what its source raises."""
    return token if isinstance(token, str) else await token()


def address(url: str, path: str, query: Mapping[str, str]) -> str:
    """The WebSocket's address; a URL that has a path or a query of its own keeps them."""
    parts = urlsplit(url)
    path = parts.path if parts.path.strip("/") else path
    return urlunsplit(
        (SCHEMES.get(parts.scheme, parts.scheme), parts.netloc, path, urlencode(query) or parts.query, "")
    )

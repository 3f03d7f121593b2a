"""Which address and which token the next connection is opened with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode, urlsplit, urlunsplit

from hadir.client.events import Failed
from hadir.client.link import Habits, Link
from hadir.client.verdict import Refused

PATH = "/ws/mitra"
SCHEMES = {"http": "ws", "https": "wss"}

Token = str | Callable[[], Awaitable[str]]


class Dialer:
    """Opens links, to one URL after the other."""

    def __init__(self, urls: str | Sequence[str], token: Token, habits: Habits) -> None:
        self._urls = [urls] if isinstance(urls, str) else list(urls)
        if not self._urls:
            raise ValueError("urls may not be empty")
        self._token = token
        self._habits = habits
        self._turn = 0

    @property
    def gets_new_tokens(self) -> bool:
        return callable(self._token)

    async def open(self, status: bool | None) -> Link:
        """One attempt: each URL once, until one says hello. Raises the last one's `Refused`."""
        failure: Refused | None = None
        for _ in self._urls:
            url = address(self._urls[self._turn % len(self._urls)], status)
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
        if isinstance(self._token, str):
            return self._token
        try:
            return await self._token()
        except OSError as error:
            raise Refused(f"there is no token at the moment: {error}") from error


def address(url: str, status: bool | None) -> str:
    """The WebSocket's address, with the command in its query."""
    parts = urlsplit(url)
    query = parts.query if status is None else urlencode({"status": "online" if status else "offline"})
    path = parts.path if parts.path.strip("/") else PATH
    return urlunsplit((SCHEMES.get(parts.scheme, parts.scheme), parts.netloc, path, query, ""))

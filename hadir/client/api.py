"""What customers ask for over HTTP: to be paired, and what comes after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from hadir.client.dialer import Token, current
from hadir.client.exchange import Answer, exchange
from hadir.client.wire import Message, parse


class Problem(Exception):
    """The server refused: an HTTP `status` and a `code` for programs, the text for people.

    `members` is the whole problem document: `pairing_id` where another one is open, `state` where it was too late.
    """

    def __init__(self, status: int, members: Message) -> None:
        code = members.get("code")
        super().__init__(f"{status} {code}: {members.get('detail')}" if code else f"answered {status}")
        self.status = status
        self.code: str | None = code if isinstance(code, str) else None
        self.members = members


class CustomerApi:
    """One customer's requests to the server at `url`; `token` as for `CustomerClient`.

    Pairings, sessions and messages are dicts, as docs/protocol.md has them. Everything raises `Problem`, or OSError
    (TimeoutError is one) when there was no answer within `timeout_s`: whether it was done is not known then.
    """

    def __init__(self, url: str, token: Token, *, timeout_s: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s

    async def create_pairing(self, key: str, *, note: str | None = None) -> Message:
        """Asks to be paired. With the same `key` again, for a day, it is the same pairing."""
        body = {} if note is None else {"note": note}
        return await self._ask("POST", "/api/pairings", body, headers={"Idempotency-Key": key})

    async def pairing(self, pairing_id: str, *, wait_s: int = 0) -> Message:
        """The pairing with its `session`; with `wait_s` (up to 25) once it is decided, or then."""
        path = f"/api/pairings/{pairing_id}" + (f"?wait={wait_s}" if wait_s else "")
        return await self._ask("GET", path, more_s=wait_s)

    async def cancel(self, pairing_id: str) -> Message:
        """Raises `Problem` `wrong_state` where it was accepted or had expired before."""
        return await self._ask("DELETE", f"/api/pairings/{pairing_id}")

    async def sessions(self, *, limit: int | None = None, cursor: str | None = None) -> Message:
        """`sessions`, the newest first, and `next`, a cursor, where there are more."""
        return await self._ask("GET", "/api/sessions" + _query(limit=limit, cursor=cursor))

    async def session(self, session_id: str) -> Message:
        return await self._ask("GET", f"/api/sessions/{session_id}")

    async def end(self, session_id: str) -> Message:
        """Raises `Problem` `wrong_state` where it was over before."""
        return await self._ask("POST", f"/api/sessions/{session_id}/end")

    async def extend(self, session_id: str) -> Message:
        """`external_id`, what the payment is to carry, and the `session`: longer once that is paid."""
        return await self._ask("POST", f"/api/sessions/{session_id}/extend")

    async def reroute(self, session_id: str) -> Message:
        """A pairing that searches another mitra; the session stays with the present one until somebody accepts."""
        return await self._ask("POST", f"/api/sessions/{session_id}/reroute")

    async def messages(self, session_id: str, *, after: int = 0, limit: int | None = None) -> Message:
        """`messages` with a higher `seq` than `after`, in order, and whether there are `more`."""
        return await self._ask("GET", f"/api/sessions/{session_id}/messages" + _query(after=after, limit=limit))

    async def send_message(self, session_id: str, body: str, *, client_id: str) -> Message:
        """Stored once, however often it is sent with the same `client_id`."""
        fields = {"client_id": client_id, "body": body}
        return await self._ask("POST", f"/api/sessions/{session_id}/messages", fields)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        more_s: float = 0.0,
    ) -> Message:
        sent = {"Authorization": f"Bearer {await current(self._token)}", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        content = b"" if body is None else orjson.dumps(body)
        timeout_s = self._timeout_s + more_s
        return _result(await exchange(method, self._url + path, sent, content, timeout_s=timeout_s))


def _query(**fields: int | str | None) -> str:
    present = {name: value for name, value in fields.items() if value is not None}
    return f"?{urlencode(present)}" if present else ""


def _result(answer: Answer) -> Message:
    fields = parse(answer.body)
    if not 200 <= answer.status < 300:
        raise Problem(answer.status, fields)
    return fields

"""The customers' beacon, over HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import orjson

from hadir.client.exchange import exchange

ANSWER_MAX = 64 * 1024
FIELDS = {"available": int, "online": int, "as_of": str, "max_age_s": int | float, "state": str}


@dataclass(frozen=True, slots=True)
class Beacon:
    """An answer of the beacon. `as_of`: when it was counted (ISO-8601, server's clock), valid for `max_age_s`."""

    available: int
    online: int
    as_of: str
    max_age_s: float
    state: str
    etag: str | None
    fresh_for_s: float
    """Seconds for which the HTTP answer said it may be kept, from when it came."""
    unchanged: bool = False
    """The server answered 304: nothing has changed since the one that was handed in."""


class BeaconUnavailable(Exception):
    """There was an answer, but it was no beacon; `status` is its HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the beacon answered {status}")
        self.status = status


class BeaconMalformed(Exception):
    """There was an answer with status 200, but not as the protocol has it; the text says what was wrong."""


async def fetch_beacon(url: str, previous: Beacon | None = None, *, timeout_s: float = 5.0) -> Beacon:
    """One GET of the beacon at `url`; with `previous`, a conditional one.

    Raises `BeaconUnavailable`, `BeaconMalformed`, or OSError (TimeoutError is one) when there was no answer.
    """
    conditional = {} if previous is None or previous.etag is None else {"If-None-Match": previous.etag}
    answer = await exchange("GET", url, conditional, timeout_s=timeout_s, longest=ANSWER_MAX)
    max_age = re.search(r"max-age=(\d+)", answer.headers.get("Cache-Control", ""))
    fresh_for_s = float(max_age.group(1)) if max_age else 0.0
    if answer.status == 304 and previous is not None:
        return replace(previous, fresh_for_s=fresh_for_s, unchanged=True)
    if answer.status != 200:
        raise BeaconUnavailable(answer.status)
    try:
        return _parse(answer.body, answer.headers.get("ETag"), fresh_for_s)
    except (KeyError, TypeError, ValueError) as error:  # JSONDecodeError is a ValueError
        raise BeaconMalformed(f"the beacon's answer is not of the protocol: {error!r}") from error


def _parse(body: bytes, etag: str | None, fresh_for_s: float) -> Beacon:
    """Raises KeyError, TypeError or ValueError."""
    fields = orjson.loads(body)
    beacon = Beacon(etag=etag, fresh_for_s=fresh_for_s, **{name: fields[name] for name in FIELDS})
    for name, kind in FIELDS.items():
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise TypeError(f"{name} is {fields[name]!r}")
    return beacon

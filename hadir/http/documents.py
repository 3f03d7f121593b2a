"""Documents that the code writes: `python -m hadir.http.documents FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hadir.http import asyncapi, openapi
from hadir.realtime import session

SESSIONS = """# Sessions

A pairing that a mitra accepted becomes a session. It waits for its payment, then it is active until its time is over
or somebody ends it. `pending_payment` and `active` take the mitra's capacity; the other states are final. What is not
in the table is not possible: it changes nothing and is refused as `wrong_state`; a payment becomes `refund_due`.

{table}
A search for another mitra ends with its session.

## Why it ended

| `end_reason` | |
|---|---|
{reasons}
Another program may write a reason of its own. This page is written by `make docs`.
"""


def sessions() -> str:
    """docs/sessions.md."""
    reasons = "".join(f"| `{reason}` | {meaning} |\n" for reason, meaning in session.END_REASONS.items())
    return SESSIONS.format(table=session.described(), reasons=reasons)


def text_of(described: Mapping[str, Any]) -> str:
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


FILES: Mapping[str, Callable[[], str]] = {
    "openapi.json": lambda: text_of(openapi.document()),
    "asyncapi.json": lambda: text_of(asyncapi.document()),
    "sessions.md": sessions,
}
"""What is committed in docs/, by name."""


def main() -> None:
    folder = Path(sys.argv[1])
    for name, write in FILES.items():
        (folder / name).write_text(write())


if __name__ == "__main__":
    main()

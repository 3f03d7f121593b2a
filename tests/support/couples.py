"""A customer and a mitra who have found each other, for tests of what comes afterwards."""

from __future__ import annotations

from typing import Any

from tests.support import eventually
from tests.support.system import Account, Served, System


async def accepted(system: System, served: Served, customer: Account, mitra: Account) -> dict[str, Any]:
    """The customer asks, the mitra (who is online) accepts; answers the session."""
    pairing = await system.pair(served, customer)

    async def won() -> Any:
        path = f"/api/mitra/offers/{pairing['id']}/accept"
        answer = (await system.ask(served, mitra, "POST", path)).json()
        return answer["session"] if answer["result"] == "won" else None

    session: dict[str, Any] = await eventually(won)
    return session


async def paid(system: System, served: Served, session: dict[str, Any], operator: Account) -> dict[str, Any]:
    """An operator says that it is paid; answers the session."""
    url = f"{served.inner_url}/api/internal/sessions/{session['id']}/paid"
    answer = await system.http.post(url, json={"amount": 50_000}, headers=operator.bearer)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found

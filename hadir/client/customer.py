"""A customer's app: it is told of its pairings, sessions and messages; what it asks for goes over `CustomerApi` too."""

from __future__ import annotations

from hadir.client.app import App


class CustomerClient(App):
    """Keeps one customer connected; for the arguments see `App`. Several of one customer do not concern each other."""

    PATH = "/ws/customer"

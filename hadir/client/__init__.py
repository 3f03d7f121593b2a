"""A small asyncio client of Hadir's protocol, for other programs; needs only `websockets` and `orjson`.

docs/client.md says how to use it.
"""

from hadir.client.api import CustomerApi, Problem
from hadir.client.beacon import Beacon, BeaconMalformed, BeaconUnavailable, fetch_beacon
from hadir.client.customer import CustomerClient
from hadir.client.events import Counters, Ended, Event, Failed, Opened, Replied
from hadir.client.mitra import MitraClient, OfferResult
from hadir.client.verdict import ClientStopped, Verdict
from hadir.client.wire import Answered

__all__ = [
    "Answered",
    "Beacon",
    "BeaconMalformed",
    "BeaconUnavailable",
    "ClientStopped",
    "Counters",
    "CustomerApi",
    "CustomerClient",
    "Ended",
    "Event",
    "Failed",
    "MitraClient",
    "OfferResult",
    "Opened",
    "Problem",
    "Replied",
    "Verdict",
    "fetch_beacon",
]

"""A small asyncio client of Hadir's protocol, for other programs; needs only `websockets` and `orjson`::

async with MitraClient("wss://hadir.example.com", token) as mitra:
    await mitra.set_status(True)
    ...
    await mitra.goodbye()

beacon = await fetch_beacon("https://hadir.example.com/api/beacon")
"""

from hadir.client.beacon import Beacon, BeaconUnavailable, fetch_beacon
from hadir.client.link import Answered, Counters
from hadir.client.mitra import MitraClient
from hadir.client.verdict import ClientStopped

__all__ = [
    "Answered",
    "Beacon",
    "BeaconUnavailable",
    "ClientStopped",
    "Counters",
    "MitraClient",
    "fetch_beacon",
]

"""Do the peers do what they are measured at? Every one that is installed is started and spoken to.

Each is a small program that does for a mitra's socket what Hadir does, with the libraries that its users use;
README.md says what they leave out. `PEERS` is what a benchmark needs of them.
"""

from __future__ import annotations

from benchmarks.peers.catalogue import FLOOR, PEERS, Peer
from benchmarks.peers.programs import publish

__all__ = ["FLOOR", "PEERS", "Peer", "publish"]

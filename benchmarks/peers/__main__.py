"""`hadir bench peers`: see the package."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import traceback
from pathlib import Path

import benchmarks.peers
from benchmarks.peers import PEERS
from benchmarks.peers.checks import check
from hadir.dev.embedded import EmbeddedValkey


async def check_all(words: list[str]) -> int:
    """Every peer whose name contains one of the words, or all. Valkey is a new one for each."""
    failed = 0
    for peer in PEERS:
        if words and not any(word.lower() in peer.name.lower() for word in words):
            continue
        if why := peer.missing():
            print(f"{peer.name}: left out. {why}")
            continue
        with tempfile.TemporaryDirectory(prefix="hadir-peers-") as folder:
            async with EmbeddedValkey(Path(folder, "valkey")) as valkey:
                try:
                    seen = await check(peer, valkey.url, secrets.token_hex(32))
                except Exception:
                    failed += 1
                    print(f"{peer.name} ({peer.versions()}): FAILED\n{traceback.format_exc()}")
                else:
                    print(f"{peer.name} ({peer.versions()}): {'; '.join(seen)}.")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=benchmarks.peers.__doc__)
    parser.add_argument("words", nargs="*", help="of the names of those that are wanted; without them all")
    return asyncio.run(check_all(parser.parse_args().words))


if __name__ == "__main__":
    sys.exit(main())

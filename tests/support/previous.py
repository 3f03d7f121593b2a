"""Another version of the program beside this one: its code in a folder, out of the repository's history."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MARKET = "0003_pairing.sql"
"""The load needs what this made."""
CHOSEN = os.environ.get("HADIR_TEST_PREVIOUS")


def of_code_in(folder: Path) -> dict[str, str]:
    """The environment of a process that runs `hadir` from there, wherever else one is installed."""
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


def previous_version(folder: Path) -> Path:
    """Where the code of the commit before this one is (`HADIR_TEST_PREVIOUS` names another): put into `folder`.

    Without its history (a tarball, a shallow clone) it is this version itself, and a line says so.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel").decode().strip()).resolve() != ROOT:
            raise OSError("this folder is not the repository's own")
        archive = _git("archive", CHOSEN or "HEAD~1", "hadir")
    except (OSError, subprocess.CalledProcessError) as error:
        if CHOSEN is not None:
            raise
        print(f"No history of the repository ({error}): this version is run against itself.")
        return ROOT
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        if hasattr(tarfile, "data_filter"):  # from 3.11.4 on
            files.extraction_filter = tarfile.data_filter
        files.extractall(folder)
    if CHOSEN is None and (changed := _migrations_that_changed(folder)):
        print(f"{', '.join(changed)} changed since, before any release: this version is run against itself.")
        return ROOT
    return folder


def _migrations_that_changed(folder: Path) -> list[str]:
    """Of the earlier version's migrations, those that are others here: its databases are none of this version's."""
    ours, theirs = (each / "hadir/db/migrations" for each in (ROOT, folder))
    missing = [] if (theirs / MARKET).exists() else [MARKET]
    return missing + [
        each.name
        for each in sorted(theirs.glob("*.sql"))
        if not (ours / each.name).exists() or (ours / each.name).read_bytes() != each.read_bytes()
    ]


def _git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, check=True).stdout


async def python(*words: str, environment: Mapping[str, str]) -> str:
    """What Python prints, told these words, in that environment; it must end with 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()

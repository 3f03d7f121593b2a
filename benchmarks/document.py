"""Measured figures in docs/reliability.md, each part between the markers of its name."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from functools import cache
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
RELIABILITY = ROOT / "docs/reliability.md"
NO_COMMIT = "no commit"


def rewritten(document: str, name: str, text: str) -> str:
    """The document with what stands between the markers of a name replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    assert len(pattern.findall(document)) == 1, f"{begin} and its end stand once in the document"
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", document)


def write(document: Path, name: str, text: str) -> None:
    document.write_text(rewritten(document.read_text(), name, text))


def made() -> str:
    """When, of which code, and on what something was measured."""
    return f"Measured {time.strftime('%Y-%m-%d')} at {commit()}: {machine()}."


@cache
def commit() -> str:
    """Which code is measured."""
    command = ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return NO_COMMIT
    return answer.stdout.strip() or NO_COMMIT


def machine() -> str:
    names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    gigabytes = psutil.virtual_memory().total / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} cores ({names[0] if names else platform.machine()}), {gigabytes:.0f} GB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )

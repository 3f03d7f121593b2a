"""Runs the rigs side by side, keeps what they find, and writes the document."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

import benchmarks.deaths
from benchmarks.deaths import plot, report
from benchmarks.deaths.kinds import KINDS, PROFILES, RIGS, Profile
from benchmarks.deaths.measure import Asked, Deaths, Found, measure
from benchmarks.document import NO_COMMIT, RELIABILITY, ROOT, commit, machine, rewritten
from hadir import logs
from hadir.config import raise_descriptor_limit
from hadir.dev.embedded import dies_with_parent

LONGEST_FIRST = ("most-held",)
HANGS_S = 1_500.0
INTERRUPTED = 130
NAME = "deaths"


def say(text: str) -> None:
    print(time.strftime("[%H:%M:%S]"), text, flush=True)


def kept_in(options: argparse.Namespace, profile: str, rig: str) -> Path:
    folder: Path = options.results
    return folder / f"{profile}-{rig}.json"


def asked_for(options: argparse.Namespace, profile: str, rig: str) -> Asked:
    kinds = [name for name in options.kinds if KINDS[name].rig == rig]
    seed = options.seed + RIGS.index(rig)
    return Asked(rig, kinds, PROFILES[profile], options.die, options.alive, options.window, seed)


def key_of(asked: Asked) -> dict[str, object]:
    """What makes a kept result the answer to the same question."""
    return {
        "commit": commit(),
        "kinds": list(asked.kinds),
        "settings": dict(asked.profile.settings),
        "sizes": [asked.die, asked.alive, asked.window_s, asked.seed],
    }


def kept(path: Path) -> Found:
    fields = json.loads(path.read_text())["found"]
    return Found(**fields | {"deaths": [Deaths(**each) for each in fields["deaths"]]})


def is_kept(path: Path, asked: Asked) -> bool:
    is_known = commit() != NO_COMMIT and not commit().endswith("-dirty")
    return is_known and path.exists() and json.loads(path.read_text())["key"] == key_of(asked)


async def one(options: argparse.Namespace) -> int:
    """A rig in this process: what `all_of` starts."""
    (profile,), rig = options.profile, options.rig
    asked, path = asked_for(options, profile, rig), kept_in(options, profile, rig)
    path.unlink(missing_ok=True)
    options.folder.mkdir(mode=0o711)
    raise_descriptor_limit()
    logs.setup("error", "text")  # that a store is away is no news here
    found = await measure(asked, options.folder, lambda text: say(f"{profile} {rig}: {text}"))
    for line in report.wrong(found):
        say(f"{profile} {rig}: {report.BEYOND.strip()} {line}")
    say(f"{profile} {rig}: done after {found.took_s:.0f} s, the machine was {found.cpu:.0f} % busy")
    path.with_suffix(".new").write_text(json.dumps({"key": key_of(asked), "found": found.json()}))
    path.with_suffix(".new").rename(path)
    return 0


async def all_of(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as Ctrl-C: nothing stays behind
    options.results.mkdir(parents=True, exist_ok=True)
    wanted = [
        (profile, rig)
        for rig in sorted(RIGS, key=lambda rig: rig not in LONGEST_FIRST)
        for profile in options.profile
        if any(KINDS[name].rig == rig for name in options.kinds)
    ]
    turns = asyncio.Semaphore(options.jobs)
    with TemporaryDirectory(prefix="hadir-deaths-") as name:
        Path(name).chmod(0o711)  # for the user that PostgreSQL runs as

        async def measured(profile: str, rig: str) -> bool:
            async with turns:
                if not options.again and is_kept(kept_in(options, profile, rig), asked_for(options, profile, rig)):
                    say(f"{profile} {rig}: kept from before")
                    return True
                folder = Path(name) / f"{profile}-{rig}"
                return await in_process([*arguments, "--profile", profile, "--rig", rig, "--folder", str(folder)])

        well = await asyncio.gather(*(measured(*each) for each in wanted))
    if not all(well):
        failed = [f"{profile} {rig}" for (profile, rig), ok in zip(wanted, well, strict=True) if not ok]
        say(f"not measured: {', '.join(failed)}; the rest is kept, run it again")
        return 1
    return concluded(options)


async def in_process(arguments: Sequence[str]) -> bool:
    """Whether a rig came to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", benchmarks.deaths.__name__, *arguments),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=dies_with_parent(),
    )
    try:
        async with asyncio.timeout(HANGS_S):
            return await process.wait() == 0
    except TimeoutError:
        return False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def concluded(options: argparse.Namespace) -> int:
    """Prints each profile's table; writes it into the document where it is whole. 1 where a promise is broken."""
    broken: list[str] = []
    for name in options.profile:
        rigs = [rig for rig in RIGS if any(KINDS[kind].rig == rig for kind in options.kinds)]
        found = [kept(kept_in(options, name, rig)) for rig in rigs]
        broken += [f"{name} {line}" for each in found for line in report.wrong(each)]
        print(f"\n{name}: {PROFILES[name].about}\n\n{report.table(found)}\n\n{report.notes(found)}\n")
        if options.document is not None and set(options.kinds) == set(KINDS):
            write(options.document, PROFILES[name], found)
    print(*broken, sep="\n")
    print(f"{len(broken)} promises broken" if broken else "Every promise kept.")
    return 1 if broken else 0


def write(document: Path, profile: Profile, found: Sequence[Found]) -> None:
    picture = document.with_name(f"deaths-{profile.name}.svg")
    picture.write_text(plot.svg(f"Time to offline by the way they went ({profile.name} settings)", found))
    made = f"Measured {time.strftime('%Y-%m-%d')} at {commit()}: {machine()}, {found[0].servers}."
    text = report.section(profile, found, made, picture.name)
    document.write_text(rewritten(document.read_text(), f"deaths {profile.name}", text))
    say(f"{document.name} and {picture.name} are written")


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A parser of a list of names, in the order that they are known in."""

    def parse(text: str) -> list[str]:
        asked = text.split(",")
        if unknown := set(asked) - set(known):
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, got {', '.join(sorted(unknown))}")
        return [name for name in known if name in asked]

    return parse


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"hadir bench {NAME}",
        description=benchmarks.deaths.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--profile", type=some_of(PROFILES), default=list(PROFILES), metavar="P", help="default,fast")
    parser.add_argument("--kinds", type=some_of(KINDS), default=list(KINDS), metavar="K", help=",".join(KINDS))
    parser.add_argument("--die", type=int, default=200, metavar="N", help="mitras that die, a kind (200)")
    parser.add_argument("--alive", type=int, default=1000, metavar="N", help="mitras that live, a rig (1000)")
    parser.add_argument("--window", type=float, metavar="S", help="how long clients go on dying; default: three sweeps")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="rigs at a time (4)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the moments of death (1)")
    parser.add_argument("--again", action="store_true", help="measure also what is kept from before")
    parser.add_argument("--results", type=Path, default=ROOT / ".data/deaths", help="where results are kept")
    parser.add_argument("--document", type=Path, default=RELIABILITY, help="written when every kind was measured")
    parser.add_argument("--rig", choices=RIGS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.results = options.results.resolve()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(one(options) if options.rig else all_of(options, arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

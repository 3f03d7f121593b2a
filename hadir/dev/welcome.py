"""What `hadir dev` prints once it is ready: where things are, and lines to paste that work as printed."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Mapping, Sequence

from hadir.dev.instances import PACKAGE_ROOT, Instance

NEW_MITRA, NEW_CUSTOMER = (f"00000000-0000-4000-8000-00000000000{k}" for k in (1, 2))


def text(
    instances: Sequence[Instance], environment: Mapping[str, str], operator_token: str, mitra_ids: Sequence[str]
) -> str:
    """All of it, for these instances and an operator's token."""
    first = instances[0]
    operator = f"-H {shlex.quote('Authorization: Bearer ' + operator_token)}"
    mitra = f"{first.internal_url}/api/internal/mitras/{mitra_ids[0]}" if mitra_ids else None
    lines = [
        "",
        "Hadir is ready. Ctrl-C ends all of it.",
        "",
        *(f"  {each.name}: public {each.url}, internal {each.internal_url}, pid {each.pid}" for each in instances),
        f"  sockets: {first.url.replace('http', 'ws', 1)}/ws/mitra and /ws/customer",
        f"  control centre: {first.internal_url}/#token={operator_token}",
        f"  operator token: {operator_token}",
        *_terms(environment),
        "",
        "Lines to paste:",
        "",
        "# what customers see",
        f"curl -sS -w '\\n' {first.url}/api/beacon",
        "# what the control centre sees",
        f"curl -sS -w '\\n' {operator} {first.internal_url}/api/internal/counts",
    ]
    if mitra is not None:
        lines += [
            "# take a simulated mitra out of service, and let it back in",
            f"curl -sS -w '\\n' -X POST {operator} {mitra}/deactivate",
            f"curl -sS -w '\\n' -X POST {operator} {mitra}/activate",
        ]
    lines += [
        "# whether Valkey, Postgres and the instances agree",
        command(environment, ("DATABASE_URL", "VALKEY_URL"), "verify"),
        "# a token for a mitra of your own",
        command(environment, ("DATABASE_URL", "AUTH_JWT_SECRET"), f"token --role mitra --sub {NEW_MITRA}"),
        "# and for a customer",
        command(environment, ("DATABASE_URL", "AUTH_JWT_SECRET"), f"token --role customer --sub {NEW_CUSTOMER}"),
        "",
    ]
    return "\n".join(lines)


def _terms(environment: Mapping[str, str]) -> list[str]:
    """How long things take here, which is shorter than elsewhere where nobody has said otherwise."""
    due, lasts = environment.get("PAYMENT_TIMEOUT_SECONDS"), environment.get("SESSION_SECONDS")
    terms = f"  sessions: to be paid within {due} s, then {lasts} s long (PAYMENT_TIMEOUT_SECONDS, SESSION_SECONDS)"
    return [terms] if due and lasts else []


def command(environment: Mapping[str, str], names: Sequence[str], arguments: str) -> str:
    """A `hadir` command with the environment that it needs, for a shell anywhere on this machine."""
    needed = {name: environment[name] for name in names}
    if not _installed():
        needed["PYTHONPATH"] = str(PACKAGE_ROOT)
    words = [f"{name}={shlex.quote(value)}" for name, value in needed.items()]
    return " ".join([*words, shlex.quote(sys.executable), "-m", "hadir", arguments])


def _installed() -> bool:
    try:
        importlib.metadata.distribution("hadir")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True

"""One log for the program and its libraries: an event a line, as JSON for machines or as text for people.

Code says `log.info("valkey.circuit_opened", extra={"why": why})`: the message is the event's name, extras are
its fields.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

MASK = "***"
MASKED = frozenset({"token", "authorization", "secret", "password"})
# What every record has; anything else was given as `extra`. uvicorn adds a coloured copy of its message.
PLUMBING = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# A line for each socket that they accept or lose would drown ours.
QUIET = ("asyncio", "redis", "uvicorn", "uvicorn.error", "websockets")


def setup(level: str, form: str, stream: TextIO | None = None) -> None:
    """Sends everything that is logged to `stream` (standard error), in `form`: json or text.

    Called again, the last call holds. uvicorn must be started with `log_config=None`, or it undoes this.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=least, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in QUIET:
        _hand_over(logging.getLogger(name), max(least, logging.WARNING))
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate, access.disabled = False, True


def _hand_over(logger: logging.Logger, least: int) -> None:
    """The root's handler speaks for this library from now on."""
    logger.handlers.clear()
    logger.propagate, logger.disabled = True, False
    logger.setLevel(least)


class JsonLines(logging.Formatter):
    """One object a line, in the shape that Cloud Logging reads without being configured."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": _time(record),
            "message": _sentence(record, fields),
            "event": _event(record),
            "logger": record.name,
        }
        if fields:
            line["fields"] = fields
        if traces := _traces(self, record):
            line["stack_trace"] = "\n".join(traces)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """A line for people: time, severity, event, fields; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname:<7} {_sentence(record, _fields(record))}"
        return "\n".join([_one_line(line), *_traces(self, record)])


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, UTC."""
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(record: logging.LogRecord) -> str:
    """Our messages are names of events; a library's event is the library."""
    return record.getMessage() if _is_ours(record) else record.name


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "hadir"


def _sentence(record: logging.LogRecord, fields: Mapping[str, Any]) -> str:
    message = record.getMessage() if _is_ours(record) else f"{record.name}: {record.getMessage()}"
    return " ".join([message, *(f"{name}={_shown(value)}" for name, value in fields.items())])


def _shown(value: Any) -> str:
    """Quoted only where it could be taken for something else."""
    text = str(value)
    return text if re.fullmatch(r"[^\s\"'=]+", text) else json.dumps(text, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: _masked(name, value) for name, value in vars(record).items() if name not in PLUMBING}


def _masked(name: str, value: Any) -> Any:
    """`auth_token` is a token too, and so is the one inside of a mapping."""
    if MASKED & set(re.split(r"[^a-z]+", name.lower())):
        return MASK
    if isinstance(value, Mapping):
        return {str(inner): _masked(str(inner), held) for inner, held in value.items()}
    return value


def _traces(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    traces = []
    if record.exc_info and record.exc_info[0] is not None:
        traces.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        traces.append(formatter.formatStack(record.stack_info))
    return traces


def _one_line(text: str) -> str:
    """What somebody else wrote cannot start a line of its own."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

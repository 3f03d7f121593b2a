"""The log: one event a line, in a shape that Cloud Logging reads, without secrets."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from hadir import logs

log = logging.getLogger("hadir.somewhere")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("uvicorn.access", *logs.QUIET):
        logger = logging.getLogger(name)
        logger.propagate, logger.disabled = True, False
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_json_says_severity_time_message_event_and_fields(stream: io.StringIO) -> None:
    logs.setup("info", "json", stream)
    log.warning("valkey.circuit_opened", extra={"why": "two deadlines", "calls": 2})
    (line,) = lines(stream)
    assert line["severity"] == "WARNING"
    assert line["event"] == "valkey.circuit_opened"
    assert line["message"] == 'valkey.circuit_opened why="two deadlines" calls=2'
    assert line["fields"] == {"why": "two deadlines", "calls": 2}
    assert line["logger"] == "hadir.somewhere"
    assert line["time"].endswith("Z")
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)


def test_an_exception_is_one_line_with_its_stack_trace(stream: io.StringIO) -> None:
    logs.setup("info", "json", stream)
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.exception("batch.item_failed", extra={"batcher": "claims"})
    (line,) = lines(stream)
    assert line["severity"] == "ERROR"
    assert line["stack_trace"].startswith("Traceback")
    assert line["stack_trace"].endswith("RuntimeError: broken")


def test_text_is_a_line_for_people_and_the_traceback_below_it(stream: io.StringIO) -> None:
    logs.setup("info", "text", stream)
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.exception("batch.item_failed", extra={"batcher": "claims"})
    first, second, *_, last = stream.getvalue().splitlines()
    assert first.endswith("Z ERROR   batch.item_failed batcher=claims")
    assert second.startswith("Traceback")
    assert last == "RuntimeError: broken"


@pytest.mark.parametrize("form", ["json", "text"])
def test_fields_that_hold_secrets_are_masked(stream: io.StringIO, form: str) -> None:
    logs.setup("info", form, stream)
    log.info(
        "auth.refused",
        extra={
            "token": "sesame",
            "Authorization": "Bearer sesame",
            "auth_jwt_secret": b"sesame",
            "headers": {"x-password": "sesame", "deeper": {"token": "sesame"}, "host": "example.com"},
            "tokens_seen": 3,
        },
    )
    assert "sesame" not in stream.getvalue()
    assert "example.com" in stream.getvalue()
    assert "tokens_seen=3" in stream.getvalue()


def test_fields_that_json_does_not_know_are_written_as_text(stream: io.StringIO) -> None:
    logs.setup("info", "json", stream)
    log.info("some.event", extra={"at": datetime(2026, 11, 23), "ids": frozenset({"a"}), "error": OSError("no route")})
    assert lines(stream)[0]["fields"] == {
        "at": "2026-11-23 00:00:00",
        "ids": "frozenset({'a'})",
        "error": "no route",
    }


def test_what_a_client_sent_cannot_forge_a_line(stream: io.StringIO) -> None:
    logs.setup("info", "text", stream)
    log.info("auth.refused", extra={"agent": "curl\n2026-11-23T00:00:00Z INFO forged"})
    logging.getLogger("library").warning("got %s", "a\nb\x1b[31m")
    assert len(stream.getvalue().splitlines()) == 2
    assert "\x1b" not in stream.getvalue()


def test_what_is_less_severe_than_the_level_is_left_out(stream: io.StringIO) -> None:
    logs.setup("warning", "json", stream)
    log.info("not.heard")
    log.warning("heard")
    assert [line["event"] for line in lines(stream)] == ["heard"]


def test_libraries_log_through_us_without_their_chatter(stream: io.StringIO) -> None:
    theirs = io.StringIO()
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).addHandler(logging.StreamHandler(theirs))
    logs.setup("info", "json", stream)
    logging.getLogger("uvicorn.error").info("connection open")
    logging.getLogger("uvicorn.access").critical("GET /health")
    logging.getLogger("uvicorn.error").error("bad %s", "request", extra={"color_message": "red"})
    logging.getLogger("asyncio").warning("slow callback")
    logging.getLogger("redis.asyncio.connection").warning("gone")
    assert [(line["event"], line["message"]) for line in lines(stream)] == [
        ("uvicorn.error", "uvicorn.error: bad request"),
        ("asyncio", "asyncio: slow callback"),
        ("redis.asyncio.connection", "redis.asyncio.connection: gone"),
    ]
    assert theirs.getvalue() == ""


def test_the_last_setup_holds(stream: io.StringIO) -> None:
    earlier = io.StringIO()
    logs.setup("info", "json", earlier)
    logs.setup("info", "json", stream)
    log.info("once")
    assert earlier.getvalue() == ""
    assert len(lines(stream)) == 1


def test_warnings_of_python_are_logged(stream: io.StringIO) -> None:
    logs.setup("info", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old thing", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "old thing" in lines(stream)[0]["message"]

"""The worker's log is one JSON object a line, whatever is logged."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_qdrant.errors import ConfigError
from clip_qdrant_ingestion.worker.logs import json_logging

logger = logging.getLogger("clip_qdrant_ingestion.anything")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    text = stream.getvalue()
    assert text == "" or text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.split("\n")[:-1]]


def fail(error: Exception) -> None:
    raise error


def test_a_line_has_time_level_logger_message_and_the_extra_fields() -> None:
    stream = io.StringIO()
    before = datetime.now(UTC)
    with json_logging(stream):
        logger.warning("%d objects", 3, extra={"collection": "photos", "shares": {"read": 0.5}, "time": "never"})

    [line] = lines(stream)
    time = datetime.fromisoformat(line.pop("time").replace("Z", "+00:00"))
    assert abs((time - before).total_seconds()) < 60
    assert list(line) == ["level", "logger", "message", "collection", "shares"]
    assert line == {
        "level": "WARNING",
        "logger": "clip_qdrant_ingestion.anything",
        "message": "3 objects",
        "collection": "photos",
        "shares": {"read": 0.5},
    }


def test_an_exception_is_told_with_its_traceback_in_the_same_line() -> None:
    stream = io.StringIO()
    with json_logging(stream):
        try:
            fail(ValueError("no\nway"))
        except ValueError:
            logger.exception("failed")

    [line] = lines(stream)
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: no\nway")


def test_what_a_terminal_acts_on_and_half_characters_are_escaped() -> None:
    stream = io.StringIO()
    name = os.fsdecode(b"caf\xe9\x1b[31m\n\x9b.jpg")
    with json_logging(stream):
        logger.info("read %s", name)

    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert lines(stream)[0]["message"] == "read caf\\udce9\x1b[31m\n\\udc9b.jpg"


def test_user_and_password_in_urls_are_masked_everywhere() -> None:
    stream = io.StringIO()
    url = "https://anna:p@ss@store.example:6333/x"
    with json_logging(stream):
        try:
            fail(OSError(f"no answer from {url}"))
        except OSError:
            logger.exception("cannot reach %s", url, extra={"location": url, "all": [url]})

    assert "p@ss" not in stream.getvalue()
    assert stream.getvalue().count("https://***@store.example:6333") == 4


def test_a_line_has_a_length() -> None:
    stream = io.StringIO()
    with json_logging(stream):
        logger.warning("refused: %s", "a" * 1_000_000, extra={"uri": "b" * 1_000_000})

    [line] = lines(stream)
    assert line["message"].startswith("refused: aaa")
    assert line["message"].endswith("a…")
    assert len(stream.getvalue()) < 40_000


def test_only_what_is_of_the_level_is_written_and_only_by_this_package() -> None:
    stream = io.StringIO()
    with json_logging(stream, level="warning"):
        logger.info("quiet")
        logging.getLogger("clip_qdrant.store.connect").warning("loud")
        logging.getLogger("httpx").error("another's")

    assert [line["message"] for line in lines(stream)] == ["loud"]


def test_warnings_of_python_become_lines() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with json_logging(stream):
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    [line] = lines(stream)
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in line["message"]


def test_what_a_library_adds_to_every_record_for_itself_is_left_out() -> None:
    stream, usual = io.StringIO(), logging.getLogRecordFactory()

    def marked(*args: Any, **options: Any) -> logging.LogRecord:  # as Ray does once it is imported
        record = usual(*args, **options)
        record._of_a_library = 1
        return record

    logging.setLogRecordFactory(marked)
    try:
        with json_logging(stream):
            logger.warning("told", extra={"images": 3})
    finally:
        logging.setLogRecordFactory(usual)

    [line] = lines(stream)
    assert set(line) == {"time", "level", "logger", "message", "images"}


def test_each_line_is_written_once_whatever_the_loggers_were_connected_to() -> None:
    text, stream = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(text)
    package = logging.getLogger("clip_qdrant_ingestion")
    package.addHandler(handler)
    try:
        with json_logging(stream):
            logger.warning("once")
        logger.warning("again as before")
    finally:
        package.removeHandler(handler)

    assert [line["message"] for line in lines(stream)] == ["once"]
    assert text.getvalue() == "again as before\n"


def test_afterwards_all_is_as_before() -> None:
    loggers = [logging.getLogger(name) for name in ("clip_qdrant", "clip_qdrant_ingestion", "py.warnings")]
    before = [(one.level, list(one.handlers)) for one in loggers]
    stream = io.StringIO()
    with pytest.raises(KeyError), json_logging(stream):
        raise KeyError
    logger.error("after")

    assert [(one.level, list(one.handlers)) for one in loggers] == before
    assert stream.getvalue() == ""


def test_a_level_that_there_is_not_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="the log level is 'loud': choose DEBUG, INFO, WARNING, ERROR"),
        json_logging(io.StringIO(), level="loud"),
    ):
        pass


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner) | st.sets(st.text()),
)


@given(message=st.text(st.characters()), value=VALUES)
def test_any_message_and_any_value_is_one_line_of_strict_json(message: str, value: object) -> None:
    stream = io.StringIO()
    with json_logging(stream):
        logger.error("%s", message, extra={"value": value})

    [line] = lines(stream)
    assert set(line) == {"time", "level", "logger", "message", "value"}
    json.dumps(line, ensure_ascii=False).encode()  # no half characters

"""The log: one JSON object a line, no mail address in it by default, nothing of what the libraries would say."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from aiohttp.http_exceptions import BadStatusLine
from prometheus_client import REGISTRY

from tracker.runtime import observe


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Logging is of the whole process: what a test sets is taken back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    loggers = [logging.getLogger(name) for name in (observe._ACCESS, *observe._QUIET, "aiohttp.server")]
    before = [(logger, logger.disabled, logger.level, list(logger.filters)) for logger in loggers]
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    for logger, disabled, level, filters in before:
        logger.disabled, logger.filters = disabled, filters
        logger.setLevel(level)


def _log(**options: bool | str) -> io.StringIO:
    stream = io.StringIO()
    observe.configure_logging(
        level=str(options.get("level", "info")), form="json", addresses=bool(options.get("addresses")), stream=stream
    )
    return stream


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_a_line() -> None:
    """Whatever a value holds, line ends included: nobody can forge a line."""
    stream = _log()

    structlog.get_logger().warning("copy_put_off", reply="450 no\n{}")

    (line,) = _lines(stream)
    assert (line["event"], line["level"], line["reply"]) == ("copy_put_off", "warning", "450 no\n{}")


def test_addresses_are_hashed_unless_asked_for() -> None:
    """The same address has the same hash within a process, and the address itself is not there."""
    stream = _log()
    for _ in range(2):
        structlog.get_logger().info("message_accepted", sender="ana@shop.example")
    one, other = _lines(stream)
    assert "ana@" not in stream.getvalue()
    assert one["sender_hash"] == other["sender_hash"]

    stream = _log(addresses=True)
    structlog.get_logger().info("message_accepted", sender="ana@shop.example")
    assert _lines(stream)[0]["sender"] == "ana@shop.example"


def test_the_level_holds() -> None:
    """What is below it is not written."""
    stream = _log(level="warning")

    structlog.get_logger().info("message_accepted")
    structlog.get_logger().warning("storage_unavailable")

    assert [line["event"] for line in _lines(stream)] == ["storage_unavailable"]


def test_request_lines_are_not_logged() -> None:
    """They hold tokens and addresses of visitors; the level plays no part."""
    stream = _log(level="debug")

    logging.getLogger("aiohttp.access").error("GET /l/AQABbAB")

    assert stream.getvalue() == ""


def test_what_is_no_http_is_counted_instead_of_logged() -> None:
    """A scanner must not fill the log, and the line would hold bytes of a token; faults of ours are still logged."""
    stream = _log()
    before = REGISTRY.get_sample_value("mailwake_http_malformed_requests_total") or 0

    try:
        raise BadStatusLine("GET /l/AQABbAB")
    except BadStatusLine:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", "192.0.2.1")
    assert stream.getvalue() == ""
    assert REGISTRY.get_sample_value("mailwake_http_malformed_requests_total") == before + 1

    logging.getLogger("aiohttp.server").error("Unhandled exception", exc_info=(RuntimeError, RuntimeError("x"), None))
    assert _lines(stream)[0]["event"] == "Unhandled exception"


def test_a_foreign_library_speaks_the_same_shape() -> None:
    """A line of the standard library's logging is an event, too."""
    stream = _log()

    logging.getLogger("sqlalchemy").warning("something %s", "odd", extra={})

    assert _lines(stream)[0]["event"] == "something odd"
    assert sys.stderr is not stream


def test_an_address_inside_of_anothers_text_is_covered() -> None:
    """Upstreams repeat the recipient in a refusal, exceptions repeat what they were given."""
    stream = _log()
    try:
        raise ValueError("no mailbox for <ana@client.example>")
    except ValueError:
        structlog.get_logger().exception("sending_failed", detail="550 5.1.1 <bo@client.example>: no such user")

    (line,) = _lines(stream)
    assert "@" not in stream.getvalue()
    assert line["detail"] == "550 5.1.1 <<address>>: no such user"
    assert "ValueError: no mailbox for <<address>>" in str(line["exception"])


def test_a_traceback_shows_no_values() -> None:
    """Local variables hold mail: neither form of the log prints them."""
    for form in ("json", "text"):
        stream = io.StringIO()
        observe.configure_logging(level="info", form=form, addresses=True, stream=stream)
        body = "the body of a mail"
        try:
            raise ValueError(str(len(body)))
        except ValueError:
            structlog.get_logger().exception("attempt_failed")

        assert "ValueError: 18" in stream.getvalue()
        assert "the body" not in stream.getvalue()

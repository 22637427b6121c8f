"""Prefect's run logs: an error that names itself needs no traceback, one that nobody foresaw keeps it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from slipway.errors import ResourceError
from tasks import run_log


@pytest.fixture
def run_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger(run_log.LOGGERS[0])
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    run_log.name_errors_in_one_line()
    yield logger
    logger.setLevel(level)
    logger.propagate = propagate
    logger.filters.clear()


def recorded(logger: logging.Logger, error: Exception) -> logging.LogRecord:
    """The record of `logger` about `error` while it is handled, as its handlers get it."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    before, logger.handlers = logger.handlers, [handler]  # Prefect's own wants a run to log for
    try:
        raise error
    except Exception as err:
        logger.error("failed: %r", err, exc_info=True)
    finally:
        logger.handlers = before
    (record,) = records
    return record


def test_a_named_error_is_one_line(run_logger: logging.Logger) -> None:
    record = recorded(run_logger, ResourceError("MLflow", "does not answer", "a server", "`make up`"))
    assert record.exc_info is None
    assert "MLflow: does not answer" in record.getMessage()


def test_an_unforeseen_error_keeps_its_traceback(run_logger: logging.Logger) -> None:
    assert recorded(run_logger, KeyError("x")).exc_info


def test_repeated_it_filters_once(run_logger: logging.Logger) -> None:
    run_log.name_errors_in_one_line()
    assert len(run_logger.filters) == 1

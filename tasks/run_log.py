"""What Prefect writes of an error that names itself: one line. A traceback is left to errors that nobody foresaw."""

from __future__ import annotations

import logging

from slipway.errors import SlipwayError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class _NamedErrors(logging.Filter):
    """Takes the traceback off a record about a SlipwayError; its message holds thing, value, expectation, next step."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], SlipwayError):
            record.exc_info, record.exc_text = None, None
        return True


_FILTER = _NamedErrors()


def name_errors_in_one_line() -> None:
    """Have Prefect's run logs, on the terminal and in its UI, show a SlipwayError without its traceback. Repeatable;
    with Prefect's log level DEBUG tracebacks stay."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not logger.isEnabledFor(logging.DEBUG):
            logger.addFilter(_FILTER)

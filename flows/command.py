"""Run a flow from a terminal: arguments in, tables or JSON out, the error's exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.logging.configuration import setup_logging

from flows.stopping import exit_code, stopped_by_signals
from slipway.cli.output import console, guarded
from slipway.cli.tables import error_document, show_error, show_json, show_run
from slipway.config.form import form_defaults
from slipway.config.load import Config, load_config
from slipway.errors import SlipwayError
from tasks.failures import failures_named
from tasks.health import require_prefect
from tasks.last_run import own_summary
from tasks.run_log import name_errors_in_one_line


def form_of_conf(conf: Path, *, is_main: bool) -> dict[str, Any]:
    """The defaults of the Prefect form. For a module run as a program, a broken `conf/` ends it with the error
    alone."""
    try:
        return form_defaults(load_config(conf))
    except SlipwayError as err:
        if not is_main:
            raise
        show({}, err, as_json="--json" in sys.argv)
        sys.exit(err.exit_code)


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every flow takes: `--conf` and `--json`."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--conf", type=Path, default=Path("conf"), help="folder with base.yaml and its layers")
    arguments.add_argument("--json", action="store_true", help="print JSON for programs")
    return arguments


def attempt(
    configure: Callable[[], Config],
    flow: Callable[[Config], Any],
    *,
    as_json: bool,
    shown: Callable[[Any, bool], int] | None = None,
) -> int:
    """Load the config, run the flow, show what it did. Returns the exit code of slipway.errors, or of a broken
    output. `shown`: shows the flow's result, as JSON or not, in place of a run's tables, and gives the exit code."""
    return guarded(lambda: _attempt(configure, flow, as_json=as_json, shown=shown))


def _attempt(
    configure: Callable[[], Config],
    flow: Callable[[Config], Any],
    *,
    as_json: bool,
    shown: Callable[[Any, bool], int] | None,
) -> int:
    quiet_on_terminals()
    name_errors_in_one_line()
    error: SlipwayError | None = None
    result: Any = None
    with own_summary() as summary:
        try:
            with stopped_by_signals(), failures_named():
                config = configure()
                require_prefect()
                result = flow(config)
        except SlipwayError as err:
            error = err
        except KeyboardInterrupt as err:
            sys.stderr.write(
                "interrupted; run again to go on: finished stages are reused, "
                "training resumes from its last checkpoint\n"
            )
            if as_json:
                show_json({**summary, "interrupted": True})
            return exit_code(err)
    if shown and not error:
        return shown(result, as_json)
    show(summary, error, as_json=as_json)
    return error.exit_code if error else 0


def show(summary: dict[str, Any], error: SlipwayError | None, *, as_json: bool) -> None:
    """The run's tables on stdout and the error on stderr; or both as one JSON document on stdout."""
    if as_json:
        show_json({**summary, **(error_document(error) if error else {})})
        return
    if summary:
        show_run(summary, console())
    if error:
        show_error(error)


def quiet_on_terminals() -> None:
    """Bars and tables say what happens; Prefect's own lines still reach its UI."""
    if sys.stderr.isatty():
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        setup_logging()

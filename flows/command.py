"""Run a flow from a terminal: arguments in, tables or JSON out, the error's exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect.logging.configuration import setup_logging
from rich.console import Console

from slipway.config import Config, load_config
from slipway.errors import SlipwayError
from slipway.tables import show_run
from slipway.views import show_error, show_json
from tasks.pipeline import summary_file


def main(flow: Callable[[Config], Any], arguments: Sequence[str]) -> int:
    """Run `flow` on conf/ and overrides; show what it did. Returns the exit code of slipway.errors."""
    parser = argparse.ArgumentParser(description=flow.__doc__)
    parser.add_argument("--conf", type=Path, default=Path("conf"), help="folder with base.yaml and its layers")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    options = parser.parse_args(arguments)
    quiet_on_terminals()
    try:
        config = load_config(options.conf, options.overrides)
        last = summary_file(config.store)
        last.unlink(missing_ok=True)
        error = attempt(flow, config)
    except SlipwayError as err:
        show({}, err, as_json=options.json)
        return err.exit_code
    show(json.loads(last.read_text()) if last.exists() else {}, error, as_json=options.json)
    return error.exit_code if error else 0


def attempt(flow: Callable[[Config], Any], config: Config) -> SlipwayError | None:
    try:
        flow(config)
    except SlipwayError as err:
        return err
    return None


def show(summary: dict[str, Any], error: SlipwayError | None, *, as_json: bool) -> None:
    if as_json:
        show_json({**summary, **({"error": error.to_json()} if error else {})})
        return
    if summary:
        show_run(summary, Console())
    if error:
        show_error(error, Console(stderr=True))


def quiet_on_terminals() -> None:
    """Bars and tables say what happens; Prefect's own lines still reach its UI."""
    if sys.stderr.isatty():
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        setup_logging()

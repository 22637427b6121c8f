"""Run a flow from a terminal: arguments in, tables or JSON out, the error's exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.logging.configuration import setup_logging
from rich.console import Console

from slipway.cli.tables import show_run
from slipway.cli.views import show_error, show_json
from slipway.config.load import Config
from slipway.errors import SlipwayError
from tasks.health import require_prefect
from tasks.pipeline import summary_file

INTERRUPTED = 130


def parser(description: str) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--conf", type=Path, default=Path("conf"), help="folder with base.yaml and its layers")
    found.add_argument("--json", action="store_true", help="print JSON for programs")
    return found


def attempt(configure: Callable[[], Config], flow: Callable[[Config], Any], *, as_json: bool) -> int:
    """Load the config, run the flow, show what it did. Returns the exit code of slipway.errors."""
    quiet_on_terminals()
    summary: dict[str, Any] = {}
    error: SlipwayError | None = None
    try:
        config = configure()
        require_prefect()
        last = summary_file(config.store)
        last.unlink(missing_ok=True)
        try:
            flow(config)
        finally:
            summary = json.loads(last.read_text()) if last.exists() else {}
    except SlipwayError as err:
        error = err
    except KeyboardInterrupt:
        sys.stderr.write(
            "interrupted; run again to go on: finished stages are reused, training resumes from its last checkpoint\n"
        )
        return INTERRUPTED
    show(summary, error, as_json=as_json)
    return error.exit_code if error else 0


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

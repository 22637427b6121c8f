"""A pipeline run from its first check to its last line: tracking, store, runner, terminal, and the summary left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from slipway.cli.progress import Bars
from slipway.config.load import Config
from slipway.config.store import StoreConfig
from slipway.ops.preflight import refuse_early
from slipway.runners.local import LocalRunner
from slipway.store.store import Store
from slipway.system.files import write_atomic
from tasks import prefect_ui
from tasks.stage import Run
from tasks.tracking import pipeline_run


@contextmanager
def pipeline(config: Config) -> Iterator[Run]:
    """Open a run. Raises, before any work, ConfigError for training that cannot end well and ResourceError when MLflow does not answer."""
    refuse_early(config)
    bars = Bars(Console(stderr=True))
    with pipeline_run(config) as tracker, bars.open():
        run = Run(config, Store(Path(config.store.root)), LocalRunner(), tracker, bars)
        run.summary.links = {"prefect": prefect_ui.flow_run_url(), "mlflow": tracker.run_url()}
        try:
            yield run
        finally:
            file = summary_file(config.store)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(run.summary.to_json(), indent=1) + "\n")


def summary_file(params: StoreConfig) -> Path:
    """What the last run did: stages, quality, gate, endpoint, links. JSON."""
    return Path(params.root) / "last-run.json"

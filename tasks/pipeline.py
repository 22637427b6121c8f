"""A pipeline run from its first check to its last line: tracking, store, runner, terminal, and the summary left
behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from rich.console import Console

from slipway.cli.progress import Bars
from slipway.config.load import Config
from slipway.config.store import StoreConfig
from slipway.ops.preflight import refuse_early
from slipway.pipeline.runs import Runs
from slipway.runners.local import LocalRunner
from slipway.store.key_notice import key_format_notice
from slipway.store.store import Store
from slipway.store.usage import in_use
from slipway.system.files import disk_full_is_named, remove, write_atomic
from slipway.system.json_files import is_present, read_json
from slipway.system.redact import mask_tree, masked_errors
from tasks import prefect_ui
from tasks.provenance import command_line
from tasks.run import Run
from tasks.takeover import take_over
from tasks.tracking.run import pipeline_run


@contextmanager
def pipeline(config: Config, name: str) -> Iterator[Run]:
    """Open a run called `name`, on record in the store while it works, and close what killed ones left open.

    Raises, before any work, ConfigError for training that cannot end well, and ResourceError when MLflow does not
    answer or the store cannot be written.
    """
    prefect_ui.name_flow_run(name)
    bars, runs, tracking = Bars(Console(stderr=True)), Runs(Path(config.store.root)), config.tracking
    with ExitStack() as stack:
        stack.enter_context(masked_errors())
        refuse_early(config)
        uri = tracking.uri.get_secret_value()
        entry = stack.enter_context(runs.open(name, command_line(), uri, prefect_ui.flow_run_id()))
        stack.enter_context(in_use(Path(config.store.root)))
        tracker = stack.enter_context(pipeline_run(config, entry.id))
        stack.enter_context(bars.open())
        for killed in take_over(runs, uri, tracking.experiment):
            get_run_logger().info("closed the killed run %s of %s", killed.name, killed.started)
        if notice := key_format_notice(Path(config.store.root)):
            bars.console.print(notice, highlight=False, markup=False, soft_wrap=True)
            get_run_logger().warning(notice)
        run = Run(config, Store(Path(config.store.root)), LocalRunner(), tracker, bars)
        run.summary.links = {"prefect": prefect_ui.flow_run_url(), "mlflow": tracker.run_url()}
        try:
            yield run
        finally:
            file = summary_file(config.store)
            with disk_full_is_named(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(file, json.dumps(mask_tree(run.summary.to_json()), indent=1) + "\n")


def shipped_name(config: Config) -> str:
    """What a run of the whole chain makes: `smollm2-135m qlora nvfp4a16 -> local`."""
    return f"{config.model.name} {config.train.method} {config.quantize.format} -> {config.deploy.target}"


def summary_file(params: StoreConfig) -> Path:
    """What the last run did: stages, quality, gate, endpoint, links. JSON."""
    return Path(params.root) / "last-run.json"


def forget_summary(params: StoreConfig) -> None:
    """Remove what an earlier run wrote, so that it is not taken for this one's."""
    remove(summary_file(params))


def last_summary(params: StoreConfig) -> dict[str, Any]:
    """What the run wrote; empty when it ended before it began. Raises StateError when somebody has damaged it since."""
    file = summary_file(params)
    return read_json(file, "summary of the run", "run again: finished stages are reused") if is_present(file) else {}

"""A pipeline run from its first check to its last line: tracking, store, runner, terminal, and the summary left
behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from rich.console import Console

from slipway.cli.progress import Bars
from slipway.config.load import Config
from slipway.config.store import StoreConfig
from slipway.deployment.decision.routing import route_lines
from slipway.engines.choose import resolved
from slipway.ops.preflight import refuse_early
from slipway.pipeline.runs import Runs
from slipway.runners.local import LocalRunner
from slipway.store.key_notice import key_format_notice
from slipway.store.store import Store
from slipway.store.usage import in_use
from slipway.system.files import disk_full_is_named, write_atomic
from slipway.system.redact import mask_tree, masked_errors
from tasks import prefect_ui
from tasks.provenance import command_line
from tasks.run import Run
from tasks.run_log import name_errors_in_one_line
from tasks.takeover import take_over
from tasks.tracking.registry import catch_up
from tasks.tracking.run import pipeline_run

_SUMMARY: ContextVar[dict[str, Any] | None] = ContextVar("summary", default=None)


@contextmanager
def pipeline(config: Config, name: str) -> Iterator[Run]:
    """Open a run called `name`, on record in the store while it works, and close what killed ones left open.

    `engine.kind: auto` becomes an engine first, and the table that it was chosen by is printed. Raises, before any
    work, ConfigError for training that cannot end well and where no engine serves, and ResourceError when MLflow does
    not answer or the store cannot be written.
    """
    name_errors_in_one_line()
    prefect_ui.name_flow_run(name)
    bars, runs, tracking = Bars(Console(stderr=True)), Runs(Path(config.store.root)), config.tracking
    with ExitStack() as stack:
        stack.enter_context(masked_errors())
        engine, choice = resolved(config.engine, config.model, config.quantize, config.serving)
        config = config.model_copy(update={"engine": engine})
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
        for alias in catch_up(config):
            get_run_logger().info("alias of %s: set to what serves there since %s", alias.target, alias.since)
        for line in (*route_lines(config.deploy.routed), *(choice.lines() if choice else ())):
            bars.console.print(line, highlight=False, markup=False, soft_wrap=True)
            get_run_logger().info(line)
        run = Run(config, Store(Path(config.store.root)), LocalRunner(), tracker, bars)
        run.summary.links = {"prefect": prefect_ui.flow_run_url(), "mlflow": tracker.run_url()}
        try:
            yield run
        finally:
            leave_summary(mask_tree(run.summary.to_json()), summary_file(config.store))


def shipped_name(config: Config) -> str:
    """What a run of the whole chain makes: `smollm2-135m qlora nvfp4a16 -> local`."""
    return f"{config.model.name} {config.train.method} {config.quantize.format} -> {config.deploy.target}"


def summary_file(params: StoreConfig) -> Path:
    """What the last run did: stages, quality, gate, endpoint, links. JSON."""
    return Path(params.root) / "last-run.json"


@contextmanager
def own_summary() -> Iterator[dict[str, Any]]:
    """What the run opened in the block does, filled when it ends, however it ends; empty when none began.

    Not read from the store: another run of the same store may have written its own file since.
    """
    summary: dict[str, Any] = {}
    token = _SUMMARY.set(summary)
    try:
        yield summary
    finally:
        _SUMMARY.reset(token)


def leave_summary(summary: dict[str, Any], file: Path) -> None:
    """Give the summary to whoever waits for it in this process, and leave it in the store."""
    waiting = _SUMMARY.get()
    if waiting is not None:
        waiting.update(summary)
    with disk_full_is_named(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(summary, indent=1) + "\n")

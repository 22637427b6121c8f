"""A pipeline run from its first check to its last line: tracking, store, runner, terminal, and the summary left
behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prefect import get_run_logger
from rich.console import Console

from slipway.cli.progress import Bars
from slipway.config.load import Config
from slipway.deployment.decision.routing import route_lines
from slipway.ops.chain.plan import as_run
from slipway.ops.chain.plan import shipped_name as shipped_name
from slipway.pipeline.runs import Runs
from slipway.runners.local import LocalRunner
from slipway.store.key_notice import key_format_notice
from slipway.store.store import Store
from slipway.store.usage import in_use
from slipway.system.redact import mask_tree, masked_errors
from tasks import prefect_ui
from tasks.last_run import leave_summary, summary_file
from tasks.notify import send_pending
from tasks.provenance import command_line
from tasks.run import Run
from tasks.run_log import name_errors_in_one_line
from tasks.takeover import take_over
from tasks.tracking.registry import catch_up
from tasks.tracking.run import pipeline_run


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
        config, chosen = as_run(config)
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
        for alias, version in catch_up(config):
            what = f"names version {version}" if version else f"not set, no version has engine {alias.engine[:12]}"
            get_run_logger().info("alias of %s, pending since %s: %s", alias.target, alias.since, what)
        for message in send_pending(config):
            get_run_logger().info("told now what was pending: %s", message.subject)
        for line in (*route_lines(config.deploy.routed), *chosen):
            bars.console.print(line, highlight=False, markup=False, soft_wrap=True)
            get_run_logger().info(line)
        run = Run(config, Store(Path(config.store.root)), LocalRunner(), tracker, bars)
        run.summary.links = {"prefect": prefect_ui.flow_run_url(), "mlflow": tracker.run_url()}
        try:
            yield run
        finally:
            leave_summary(mask_tree(run.summary.to_json()), summary_file(config.store))

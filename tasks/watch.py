"""A look at what serves: taken, tracked in MLflow, shown in the Prefect UI, and an event where it drifted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from slipway.config.deploy import DeployConfig
from slipway.config.load import Config
from slipway.deployment.state import champion
from slipway.ops.message import drifted
from slipway.pipeline.runs import Runs
from slipway.report.watch_rows import next_step, sentence, watch_figures, watch_rows
from slipway.store.usage import in_use
from slipway.system.redact import masked_errors
from slipway.watch.look import Look, look
from tasks import prefect_ui
from tasks.notify import notify, send_pending
from tasks.provenance import command_line
from tasks.run_log import name_errors_in_one_line
from tasks.stage_task import HOUR
from tasks.takeover import take_over
from tasks.tracking.run import Tracker, pipeline_run

DRIFT = "slipway.watch.drift"


@contextmanager
def watched(config: Config, name: str) -> Iterator[Tracker]:
    """The run in MLflow that a look is tracked by, on record in the store while it works. It leaves no `last-run.json`:
    that is of runs that decide what serves. Raises ResourceError when MLflow does not answer."""
    name_errors_in_one_line()
    prefect_ui.name_flow_run(name)
    runs, uri = Runs(Path(config.store.root)), config.tracking.uri.get_secret_value()
    with ExitStack() as stack:
        stack.enter_context(masked_errors())
        entry = stack.enter_context(runs.open(name, command_line(), uri, prefect_ui.flow_run_id()))
        stack.enter_context(in_use(Path(config.store.root)))
        tracker = stack.enter_context(pipeline_run(config, entry.id))
        tracker.tags({"mlflow.runName": name, "slipway.action": "watch"})
        take_over(runs, uri, config.tracking.experiment)
        send_pending(config)
        yield tracker


@task(name="look", cache_policy=NO_CACHE, timeout_seconds=4 * HOUR)
def look_at(config: Config) -> Look:
    """Ask what serves, compare, record. Raises as `slipway.watch.look.look`."""
    with masked_errors():
        taken = look(config, note=get_run_logger().info)
        get_run_logger().info(sentence(taken.document))
        return taken


def nothing_to_watch(params: DeployConfig) -> str:
    """Why a scheduled look has nothing to do: a schedule is installed before anything was released. Empty otherwise; a
    look by hand ends with an error there."""
    if prefect_ui.requester("").by == "schedule" and champion(params) is None:
        return f"nothing was released at {params.target} yet"
    return ""


def publish(config: Config, taken: Look, tracker: Tracker) -> str:
    """Table, report with its plot, metrics of the run; event and message where something drifted. The outcome in
    words."""
    from slipway.report.watch_report import PLOT, watch_report  # matplotlib takes seconds to import

    document = taken.document
    report = watch_report([*(one.document for one in taken.past), document])
    target = document["target"]
    prefect_ui.table(f"watch-{target}", watch_rows(document), sentence(document))
    prefect_ui.markdown(f"watch-{target}-report", report.inline, sentence(document))
    files = {"watch.md": report.linked, "watch.json": json.dumps(document, indent=1) + "\n"}
    tracker.report(files, {PLOT: report.plot}, watch_figures(document))
    tracker.tags({"slipway.watch": document["outcome"], "slipway.release": document["release"]})
    if taken.alarms:
        announce(taken)
        step = "; ".join(part for part in (next_step(document), prefect_ui.flow_run_url()) if part)
        notify(config, drifted(target, document["release"], sentence(document), step, document["at"]))
    return sentence(document)


def announce(taken: Look) -> None:
    """Emit DRIFT about the target, with what a message to a person needs: `summary`, `next_step`."""
    document, target = taken.document, taken.document["target"]
    emit_event(
        event=DRIFT,
        resource={"prefect.resource.id": f"slipway.target.{target}", "prefect.resource.name": target},
        payload={
            "target": target,
            "release": document["release"],
            "line": document["line"],
            "checks": [check.name for check in taken.alarms],
            "summary": sentence(document),
            "next_step": next_step(document),
            "flow_run": prefect_ui.flow_run_url(),
        },
    )

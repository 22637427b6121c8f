"""Report: the model card, the registered version, tables and plots in the Prefect UI and in MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.states import Completed, State

from slipway.deployment.decision.explanation import summary_table
from slipway.deployment.decision.record import Decision
from slipway.report.model_card import model_card
from slipway.report.record import RunRecord
from slipway.report.ui_rows import gate_rows, headline_figures, quality_rows
from slipway.store.artifacts import Adapter, Engine, Evaluation, Verdict
from tasks import prefect_ui
from tasks.provenance import git_commit
from tasks.run import Run
from tasks.stage_task import MINUTE, stage_task
from tasks.tracking import registry


@stage_task("report", timeout_s=10 * MINUTE)
def report(
    run: Run, engine: Engine, verdict: Verdict, adapter: Adapter, quality: Mapping[str, Evaluation], decided: Decision
) -> State[dict[str, str]]:
    """The documents of a release, by file name; everything else is left in the UIs."""
    from slipway.report.run_report import run_report  # matplotlib takes seconds to import

    about = {"git commit": git_commit(), **run.ids(), **{name: url for name, url in run.summary.links.items() if url}}
    record = RunRecord(run.config, engine, verdict, adapter, quality, about, summary_table(decided))
    card, document = model_card(record), run_report(record)
    version = registry.register(run.tracker, engine, verdict, card)
    run.summary.links["model"] = run.tracker.model_url(version)
    run.summary.quality = {n: {"metrics": m, "speed": record.speeds().get(n, [])} for n, m in record.metrics().items()}
    run.summary.gate = record.judged
    documents = {"card.md": card, "report.html": document.page}
    figures = headline_figures(run.summary.quality, record.judged)
    run.tracker.report({**documents, "report.md": document.linked}, document.plots, figures)
    prefect_ui.table("quality", quality_rows(run.summary.quality), "Quality as served, with intervals; speed")
    prefect_ui.table("gate", gate_rows(record.judged), f"Gate: {record.judged['outcome']}")
    prefect_ui.markdown("run-report", document.inline, "What this run did")
    prefect_ui.link("report", run.tracker.file_url("report/report.html"), "the report as one HTML page, in MLflow")
    prefect_ui.links(run.summary.links, mlflow="run in MLflow", model="model version in MLflow")
    return Completed(message=f"gate {record.judged['outcome']}; {run.config.line} version {version}", data=documents)

"""Where the rows of a run went, and whether enough are left to judge by: in the terminal and in the Prefect UI, for
reused data too."""

from __future__ import annotations

from prefect import get_run_logger

from slipway.data.funnel import funnel_rows, lines_of_text
from slipway.evaluation.decidability import undecidable
from slipway.store.artifacts import Dataset
from tasks import prefect_ui
from tasks.run import Run


def show_funnel(run: Run, data: Dataset) -> None:
    """Print the funnel of a dataset, and keep it as an artifact of the Prefect run; warn of a gate that its test rows
    will leave open."""
    funnel = data.summary["funnel"]
    rows = funnel_rows(funnel["steps"], funnel["shares"])
    text = "\n".join([f"data: {data.summary['source']}", *lines_of_text(rows), f"{data.summary['groups']}"])
    run.bars.console.print(text, highlight=False, markup=False, soft_wrap=True)
    for rule in undecidable(run.config.gate, run.config.evaluate, data.summary):
        run.bars.console.print(str(rule), highlight=False, markup=False, soft_wrap=True)
        get_run_logger().warning(str(rule))
    prefect_ui.table("data-funnel", rows, "From rows read to rows used, and the key that changes each step")

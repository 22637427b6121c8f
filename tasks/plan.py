"""The plan of a run in the Prefect UI: its first artifact, and what became of each stage as the run goes on."""

from __future__ import annotations

from slipway.cli.plan_tables import followed_rows
from slipway.cli.progress import duration
from slipway.config.load import Config
from slipway.ops.chain.plan import Plan, plan
from slipway.ops.preflight.finding import require_ready
from slipway.pipeline.ensure import Made
from tasks import prefect_ui
from tasks.provenance import ROOT

PREFLIGHT = "What every machine of this run says, before any work"


class PlanArtifact:
    """A table of the run's stages: planned, and what was. Written over when a stage ends."""

    def __init__(self, planned: Plan) -> None:
        self._document = planned.to_json()
        if planned.preflight:
            prefect_ui.table("preflight", [row.to_json() for row in planned.preflight], PREFLIGHT)
        self._actual: dict[str, Made] = {}
        self._table = prefect_ui.ChangingTable("plan")
        self._show()

    def ended(self, title: str, made: Made) -> None:
        """A stage has its artifact."""
        self._actual[title] = made
        self._show()

    def _show(self) -> None:
        rows, total = followed_rows(self._document, self._actual), self._document["total"]
        figures = f"{duration(total['seconds'])} planned where there are figures" if total["seconds"] else "no figures"
        self._table.show(rows, f"{len(self._actual)} of {len(rows)} stages have ended; {figures}")


def show_plan(config: Config) -> PlanArtifact:
    """The plan of this run as an artifact, to be followed. Raises ResourceError, before any work, naming every row of
    the preflight that fails."""
    planned = plan(config, ROOT)
    shown = PlanArtifact(planned)
    require_ready(planned.preflight)
    return shown

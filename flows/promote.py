"""By hand: promote the candidate of a passed verdict, or bring the previous release back. Both move MLflow's alias too.

python -m flows.promote promote [VERDICT] | rollback
"""

from __future__ import annotations

import functools
import sys
from argparse import ArgumentParser
from typing import Annotated, Any

from prefect import flow

from flows.command import attempt, parser
from slipway.config.form import OverridesForm
from slipway.config.load import load_config
from tasks.decide import answered, decide, tell
from tasks.parameters import resolved
from tasks.pipeline import pipeline, shipped_name
from tasks.promote import promote, rollback
from tasks.report import report
from tasks.rivals import judged_candidate


@flow(name="promote")
def promote_candidate(
    config: Any = None,
    verdict: str | None = None,
    approve: str = "",
    overrides: Annotated[Any, OverridesForm()] = (),
) -> None:
    """Promote the candidate of a verdict.

    Args:
        config: A partial config: what it names wins over conf/ and its layers, all else is as conf/ says.
        verdict: Its directory, or the first digits of its digest, or a version or alias of the registered model of
            the config's line; default the newest of that line.
        approve: Why an inconclusive gate is accepted.
        overrides: As on the command line: layers.deploy=deploy/spark, deploy.canary.way=mirror.
    """
    config = resolved(config, overrides, route=False)
    candidate = judged_candidate(config, verdict)
    with pipeline(candidate.config, f"promote {shipped_name(candidate.config)}") as run:
        decided = decide(run, candidate.engine, candidate.verdict, by_hand=True, named=bool(verdict), approve=approve)
        documents = report(run, candidate.engine, candidate.verdict, candidate.adapter, candidate.quality, decided)
        tell(run, decided)
        decided = answered(run, decided, run.config.deploy)
        promote(run, candidate.engine, candidate.verdict, candidate.data, documents, decided, run.config.deploy)


@flow(name="rollback")
def roll_back(config: Any) -> None:
    """Start the previous release beside the champion, check it, switch to it."""
    config = resolved(config)
    with pipeline(config, f"rollback -> {config.deploy.target}") as run:
        rollback(run, config.deploy)


def command_line() -> ArgumentParser:
    """What `slipway promote` hands over."""
    arguments = parser((__doc__ or "").splitlines()[0])
    arguments.add_argument("action", choices=["promote", "rollback"])
    arguments.add_argument(
        "verdict", nargs="?", help="directory, digits, version or alias; default: the newest of the line"
    )
    arguments.add_argument("--set", action="append", default=[], dest="overrides", help="key=value or layers=NAME")
    arguments.add_argument("--approve", default="", metavar="REASON", help="accept an inconclusive gate, and why")
    return arguments


if __name__ == "__main__":
    given = command_line().parse_intermixed_args()  # options may stand between the two positionals
    promotion = functools.partial(promote_candidate, verdict=given.verdict, approve=given.approve)
    chosen = roll_back if given.action == "rollback" else promotion
    sys.exit(attempt(lambda: load_config(given.conf, given.overrides), chosen, as_json=given.json))

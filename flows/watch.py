"""watch: look at what serves at a target, week after week. A look changes nothing; where it drifted it says so.

python -m flows.watch --set layers.deploy=deploy/TARGET
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed, State

from flows.command import attempt, parser
from slipway.cli.watch_command import show_watch
from slipway.config.form import OverridesForm
from slipway.config.load import load_config
from tasks.parameters import resolved
from tasks.watch import look_at, nothing_to_watch, publish, watched


@flow(name="watch")
def watch(config: Any = None, overrides: Annotated[Any, OverridesForm()] = ()) -> State[Any]:
    """Ask what serves some of its release's test rows again, compare captured prompts with them, test both.

    Args:
        config: A partial config: what it names wins over conf/ and its layers, all else is as conf/ says.
        overrides: As on the command line: layers.deploy=deploy/spark, watch.items=200.
    """
    config = resolved(config, overrides, route=False)
    if reason := nothing_to_watch(config.deploy):
        return Completed(message=reason)
    with watched(config, f"watch {config.deploy.target}") as tracker:
        taken = look_at(config)
        summary = publish(config, taken, tracker)
    return Completed(message=summary, data=taken.document)


def command_line() -> ArgumentParser:
    """What `slipway watch` hands over."""
    arguments = parser((__doc__ or "").splitlines()[0])
    arguments.add_argument("--set", action="append", default=[], dest="overrides", help="key=value or layers=NAME")
    return arguments


if __name__ == "__main__":
    given = command_line().parse_args()
    sys.exit(attempt(lambda: load_config(given.conf, given.overrides), watch, as_json=given.json, shown=show_watch))

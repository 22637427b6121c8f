"""tell-pending: send the messages that were written down while Prefect was away, as `slipway rollback` writes them.

python -m flows.tell_pending --set layers.deploy=deploy/TARGET
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed, State

from flows.command import attempt, parser
from slipway.config.form import OverridesForm
from slipway.config.load import load_config
from tasks.notify import send_pending
from tasks.parameters import resolved


@flow(name="tell-pending", timeout_seconds=600)
def tell_pending(config: Any = None, overrides: Annotated[Any, OverridesForm()] = ()) -> State[None]:
    """Tell the blocks of notify.to what they have not been told yet.

    Args:
        config: A partial config: what it names wins over conf/ and its layers, all else is as conf/ says.
        overrides: More of it as on the command line: notify.to=[slack-webhook/ops].
    """
    sent = send_pending(resolved(config, overrides, route=False))
    return Completed(message="; ".join(one.subject for one in sent) or "nothing was sent")


def command_line() -> ArgumentParser:
    """What `slipway rollback` hands over."""
    arguments = parser((__doc__ or "").splitlines()[0])
    arguments.add_argument("--set", action="append", default=[], dest="overrides", help="key=value or layers=NAME")
    return arguments


if __name__ == "__main__":
    given = command_line().parse_args()
    sys.exit(
        attempt(lambda: load_config(given.conf, given.overrides), tell_pending, as_json=given.json, shown=lambda *_: 0)
    )

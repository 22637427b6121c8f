"""A run that ended without a word of its own is told of by another: the deployment `tell-stuck` hears its crash."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed, State

from flows.finetune_and_ship import FORM
from slipway.config.form import ConfigForm, OverridesForm
from tasks.notify import notify
from tasks.parameters import resolved
from tasks.prefect_ui import stuck_message


@flow(name="tell-stuck", timeout_seconds=600)
def tell_stuck(
    run: str,
    config: Annotated[Any, ConfigForm(FORM)] = FORM,
    overrides: Annotated[Any, OverridesForm()] = (),
) -> State[None]:
    """Tell the blocks of notify.to of a run that crashed or took too long.

    Args:
        run: Id of the flow run, alone or as `prefect.flow-run.ID`.
        config: A partial config: what it names wins over conf/ and its layers, all else is as conf/ says.
        overrides: More of it as on the command line: notify.to=[slack-webhook/ops].
    """
    sent = notify(resolved(config, overrides, route=False), stuck_message(run.rpartition(".")[2]))
    return Completed(message=f"told {', '.join(sent)}" if sent else "nobody was told: see notify.to and notify.on")

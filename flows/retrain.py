"""Retraining that runs itself: the chain on a data version that was announced, and the look for one that was not."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed, State

from flows.finetune_and_ship import FORM, chain
from slipway.config.form import ConfigForm, OverridesForm
from tasks.data_version import asked_version, look, on_version, unchanged
from tasks.parameters import resolved
from tasks.superseded import superseded


@flow(name="retrain-on-data")
def retrain_on_data(
    path: str = "",
    digest: str = "",
    revision: str = "",
    announced: str = "",  # noqa: ARG001 (tasks/superseded.py reads it from the runs' records)
    config: Annotated[Any, ConfigForm(FORM)] = FORM,
    overrides: Annotated[Any, OverridesForm()] = (),
) -> State[None]:
    """Fine-tune and ship on one version of the data; nothing where data and config are unchanged.

    Args:
        path: The raw file, below the project's root, that the event is about; another than data.raw ends the run.
        digest: DVC's md5 of it; empty takes the version that the checked-out commit records.
        revision: The commit that records it.
        announced: When the event was sent: of runs that wait, the one that was announced last works.
        config: A partial config: what it names wins over conf/ and its layers, all else is as conf/ says.
        overrides: More of it as on the command line: train.epochs=2, layers=smoke.
    """
    config = resolved(config, overrides)
    if reason := superseded():
        return Completed(name="Superseded", message=reason)
    version = asked_version(config, path, digest, revision)
    if digest and version is None:
        return Completed(name="Skipped", message=f"the event is about {path}; this deployment's is {config.data.raw}")
    if version:
        config = on_version(config, version)
    if reason := unchanged(config):
        return Completed(name="Unchanged", message=reason)
    return chain(config)


@flow(name="look-for-data", timeout_seconds=600)
def look_for_data(
    config: Annotated[Any, ConfigForm(FORM)] = FORM, overrides: Annotated[Any, OverridesForm()] = ()
) -> State[None]:
    """Announce the version of data.raw that the upstream branch records and DVC's remote has, where nobody here has
    heard of it.

    Args:
        config: A partial config: what it names wins over conf/ and its layers, all else is as conf/ says.
        overrides: More of it as on the command line: data.raw=data/support.jsonl.
    """
    if reason := superseded():
        return Completed(name="Superseded", message=reason)
    name, message = look(resolved(config, overrides, route=False))
    return Completed(name=name, message=message)

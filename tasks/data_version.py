"""The data version of a retraining run: which one, its bytes, and whether it was heard of before."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from slipway.config.load import Config
from slipway.ops.chain.plan import as_run, plan
from slipway.ops.data_events import PUBLISHED, payload_of, resource_of
from slipway.ops.data_versions import (
    DataVersion,
    bytes_of,
    committed_version,
    last_seen,
    path_of,
    remember,
    upstream_version,
)
from slipway.ops.dvc_remote import missing_bytes
from slipway.system.redact import masked_errors
from tasks.provenance import ROOT
from tasks.stage_task import is_transient

UNCHANGED = "Unchanged"
VERSIONS = "data-versions"  # folder of the store with the files of versions that are not the working tree's


@task(
    name="data version",
    task_run_name="data version",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=20,
    retry_condition_fn=lambda _task, _run, state: is_transient(state.data),
)
@masked_errors()
def on_version(config: Config, version: DataVersion) -> Config:
    """`config` with the bytes of this version as `data.raw`, all else as it is: its data keep their name and keys.
    Raises DataError where the version cannot be had."""
    store = Path(config.store.root)
    raw = bytes_of(ROOT, version, store / VERSIONS)
    remember(store, version)
    get_run_logger().info("data version %s: %s", version, raw)
    if raw == ROOT / version.path:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"raw": str(raw)})})


def asked_version(config: Config, path: str, digest: str, revision: str) -> DataVersion | None:
    """The version that an event names, else the committed one; None where the event is about another file than
    `data.raw`, or no commit records one: then the run takes the file as it lies there.

    Raises DataError for what names no version."""
    if digest:
        named = DataVersion(path, digest, revision).checked()
        return named if path == path_of(ROOT, config.data.raw) else None
    return committed_version(ROOT, config.data.raw)


def unchanged(config: Config) -> str:
    """Why a run of `config` has nothing to do, told without making anything; empty where it has."""
    planned = plan(as_run(config)[0], ROOT)
    if not planned.nothing_to_do:
        return ""
    return f"data and config are unchanged: all {len(planned.stages)} stages are made and their engine serves already"


@task(name="look for data", task_run_name="look for data", cache_policy=NO_CACHE)
@masked_errors()
def look(config: Config) -> tuple[str, str]:
    """The state that a look ends in, and what was found: `Announced` a version that nobody here had heard of, `Waiting`
    for the bytes of one, which later looks ask for again, else `Unchanged`."""
    store = Path(config.store.root)
    version, problem = upstream_version(ROOT, config.data.raw)
    beside = f" ({problem})" if problem else ""
    if version is None:
        return UNCHANGED, f"no commit records a DVC version of {config.data.raw}: `dvc add`, then commit{beside}"
    seen = last_seen(store, version.path)
    if seen and seen.digest == version.digest:
        return UNCHANGED, f"{version} is known{beside}"
    if seen is None:
        remember(store, version)
        return UNCHANGED, f"{version} is the first that was looked at: later ones are compared with it{beside}"
    if missing := missing_bytes(ROOT, version, store / VERSIONS):
        return "Waiting", f"{version} is new, after {seen.digest[:12]}; {missing}: the next look asks again{beside}"
    emit_event(event=PUBLISHED, resource=resource_of(version), payload=payload_of(version))
    remember(store, version)
    return "Announced", f"{version} is new, after {seen.digest[:12]}: announced{beside}"

"""One stage in its own process: stage.json in, artifact out, errors left beside it."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slipway import __version__
from slipway.errors import ConfigError, ResourceError, SlipwayError, StateError
from slipway.pipeline.stage import ERROR_FILE, StageDocument, StageSpec, stage_spec
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Artifact
from slipway.store.references import resolve
from slipway.store.store import Store, load
from slipway.store.usage import in_use
from slipway.system.files import write_atomic
from slipway.system.installed import missing_is_named
from slipway.system.json_files import as_model, read_json
from slipway.system.progress import Progress
from slipway.system.redact import mask_exception

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "numpy")


def execute(name: str, job_file: Path) -> Path:
    """Run one stage from its job file, in this process; return the artifact's directory. Errors are also left in
    `error.json`."""
    work = job_file.resolve().parent
    if not job_file.is_file():
        raise ConfigError(
            "stage file", job_file, "an existing stage.json", "`slipway run` writes them under .slipway/work"
        )
    try:
        mend = "`slipway run` writes it anew"
        job = read_json(job_file, "stage file", mend)
        if isinstance(job.get("stage"), str) and job["stage"] != name:
            raise ConfigError(
                f"stage file {job_file}",
                f"for stage {job['stage']}",
                f"stage {name}",
                f"run `slipway stage {job['stage']} {job_file}`",
            )
        as_model(StageDocument, job, f"stage file {job_file}", mend)
        with missing_is_named():
            return _execute(job, work)
    except SlipwayError as err:
        mask_exception(err)
        write_atomic(work / ERROR_FILE, json.dumps(err.to_json()))
        raise


def _execute(job: dict[str, Any], work: Path) -> Path:
    spec = stage_spec(job["stage"])
    try:
        params = spec.params.model_validate(job["params"])
    except ValidationError as err:
        raise ConfigError(
            f"params of stage {spec.name}", err.errors()[0]["loc"], err.errors()[0]["msg"], "mend stage.json"
        ) from err
    store = Store(work / job["store"])
    inputs = {k: _input(k, spec, job["inputs"].get(k), work) for k in spec.inputs}
    start = time.monotonic()
    with (
        in_use(store.root),
        store.create(spec.output, job["key"], _provenance(job)) as out,
        Progress(work / "progress.jsonl") as progress,
    ):
        spec.function(**inputs, params=params, space=Workspace(out, work, Path(job["cache"]), progress))
        progress.note(f"{spec.name} took {time.monotonic() - start:.1f} s")
    return store.dir(spec.output.kind, job["key"])


def _input(name: str, spec: StageSpec, ref: dict[str, str] | None, work: Path) -> Artifact | None:
    if ref is None:
        return None
    kinds = {c.kind: c for c in Artifact.__subclasses__()}
    if ref["kind"] not in kinds:
        raise StateError(f"input {name} of {spec.name}", ref["kind"], f"one of {', '.join(kinds)}", "run again")
    artifact = load(kinds[ref["kind"]], resolve(ref, work))
    if artifact.digest != ref["digest"]:
        raise ResourceError(
            f"input {name} of {spec.name}", artifact.digest[:12], ref["digest"][:12], "run the pipeline again"
        )
    return artifact


def _provenance(job: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says of how the artifact came to be. A stage file of before keys had a format is of format
    1."""
    spec = stage_spec(job["stage"])
    return {
        "stage": job["stage"],
        "params": job["params"],
        "inputs": job["inputs"],
        "extra": job["extra"],
        "code": spec.code_version(),
        "modules": spec.module_digests(),
        "key_format": job.get("key_format", 1),
        "versions": versions(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(),
        "arch": platform.machine(),
        "pid": os.getpid(),
    }


def versions() -> dict[str, str]:
    """Versions of Slipway, Python and the packages that decide numerics; absent ones are left out."""
    installed = {"slipway": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed

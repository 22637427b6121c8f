"""From (stage, inputs, params) to an artifact: the key, the skip decision, the stage process, the result.

`ensure` is what orchestrators call. `execute` is what the stage process calls. A stage named X is the function `X` of
the module `slipway.X`; its annotations say which inputs and params it takes and which artifact it makes.
"""

from __future__ import annotations

import ast
import fcntl
import functools
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ValidationError

from slipway import __version__
from slipway.artifacts import MANIFEST, Artifact, Store, canonical, disk_full_is_named, load, sha256_bytes, sha256_file, write_atomic
from slipway.errors import ConfigError, ResourceError, SlipwayError, StageError
from slipway.progress import Progress, Tail
from slipway.runner import Job, OnEvent, Outcome, Runner, follow

STAGES = ("fetch", "prepare", "train", "finetune", "merge", "quantize", "engine", "evaluate", "gate")
STOP_S = 10.0
# The modules whose code decides an artifact's bytes, where that is not the whole stage: days of training are not thrown away
# because a runner was mended.
CODE_OF = {"finetune": ("recipe", "training_steps")}
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "numpy")


@dataclass(frozen=True)
class Workspace:
    """What a stage may touch. `out` becomes the artifact; `work` outlives a crash of the same job (checkpoints);
    `cache` is shared between jobs and clones (downloads, builds)."""

    out: Path
    work: Path
    cache: Path
    progress: Progress


@dataclass(frozen=True)
class Made:
    """An artifact and how it was come by."""

    artifact: Artifact
    reused: bool
    why: str
    seconds: float
    peak_rss: int


@dataclass(frozen=True)
class StageSpec:
    """A stage function with its types, read from its annotations."""

    name: str
    function: Callable[..., None]
    inputs: dict[str, type[Artifact]]
    params: type[BaseModel]
    output: type[Artifact]


@runtime_checkable
class Keyed(Protocol):
    """Params of which only a part decides the artifact's bytes."""

    def key_document(self) -> dict[str, Any]: ...


@functools.cache
def stage_spec(name: str) -> StageSpec:
    """The stage called `name`. Importing it may import torch."""
    if name not in STAGES:
        raise ConfigError("stage", name, f"one of {', '.join(STAGES)}", "see `slipway stage --help`")
    module = importlib.import_module(f"slipway.{name}")
    function = getattr(module, name)
    hints = typing.get_type_hints(function)
    inputs = {k: _artifact_type(t) for k, t in hints.items() if k not in ("params", "space", "return")}
    return StageSpec(name, function, inputs, hints["params"], module.OUTPUT)


def _artifact_type(hint: Any) -> type[Artifact]:
    """`Champion | None` and `Checkpoint | Quantized` are allowed for inputs; the stored kind decides."""
    members = [t for t in (typing.get_args(hint) or (hint,)) if t is not type(None)]
    return members[0] if len(members) == 1 else Artifact


def stage_key(name: str, inputs: Mapping[str, Artifact | None], params: BaseModel, extra: Mapping[str, str]) -> str:
    """sha256 over inputs' digests, params, the stage's code and `extra` (hardware, image); hex."""
    doc = {
        "stage": name,
        "inputs": {k: v.digest if v else None for k, v in inputs.items()},
        "params": params.key_document() if isinstance(params, Keyed) else params.model_dump(mode="json"),
        "code": stage_code(name),
        "extra": dict(extra),
    }
    return sha256_bytes(canonical(doc))


def stage_code(name: str) -> str:
    """The code version of a stage."""
    return code_digest(*CODE_OF.get(name, (name,)))


@functools.cache
def code_digest(*modules: str) -> str:
    """sha256 over the sources of `slipway.<module>` and every slipway module they import, in turn: their code version."""
    root = Path(__file__).parent
    todo, seen = list(modules), set[str]()
    while todo:
        name = todo.pop()
        file = root / f"{name}.py"
        if name in seen or not file.exists():
            continue
        seen.add(name)
        todo += _slipway_imports(file)
    return sha256_bytes(canonical([[name, sha256_file(root / f"{name}.py")] for name in sorted(seen)]))


def _slipway_imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "slipway":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("slipway."):
            yield node.module.removeprefix("slipway.")


def ensure(
    name: str,
    inputs: Mapping[str, Artifact | None],
    params: BaseModel,
    *,
    output: type[Artifact],
    store: Store,
    cache: Path,
    runner: Runner,
    on_event: OnEvent,
    extra: Mapping[str, str] | None = None,
    force: bool = False,
    stop_s: float = STOP_S,
) -> Made:
    """The artifact of this stage: reused when intact, else made in a stage process. Raises what the stage raised.

    `stop_s`: seconds a cancelled stage gets to end by itself.
    """
    extra = dict(extra or {})
    key = stage_key(name, inputs, params, extra)
    work = store.root / "work" / f"{name}-{key[:16]}"
    with disk_full_is_named(work):
        work.mkdir(parents=True, exist_ok=True)
        with _alone(work):
            if not force and (found := store.find(output, key)):
                shutil.rmtree(work, ignore_errors=True)
                return Made(found, True, f"same inputs, params and code (key {key[:12]})", 0.0, 0)
            job = {
                "stage": name,
                "key": key,
                "inputs": {k: {"uri": v.uri, "kind": v.kind, "digest": v.digest} for k, v in inputs.items() if v},
                "params": params.model_dump(mode="json"),
                "extra": extra,
                "store": str(store.root),
                "cache": str(cache.expanduser()),
            }
            job_file = work / "job.json"
            write_atomic(job_file, json.dumps(job, indent=1))
            (work / "error.json").unlink(missing_ok=True)
            ended = _run(name, job_file, runner, on_event, stop_s)
            made = _result(name, output, store, key, work, ended)
            shutil.rmtree(work, ignore_errors=True)
            return Made(made, False, "made", ended.seconds, ended.peak_rss)


def _run(name: str, job_file: Path, runner: Runner, on_event: OnEvent, stop_s: float) -> Outcome:
    """The stage as a job: its events reach `on_event` while it runs."""
    work = job_file.parent
    tail = Tail(work / "progress.jsonl")
    for _ in tail.read():  # events of an earlier attempt were shown then
        pass

    def look() -> None:
        for event in tail.read():
            on_event(event)

    argv = (sys.executable, "-P", "-m", "slipway", "stage", name, str(job_file))
    return follow(runner, Job(work.name, argv, work, stop_s=stop_s), look)


def _result(name: str, output: type[Artifact], store: Store, key: str, work: Path, ended: Outcome) -> Artifact:
    if (work / "error.json").exists():
        raise SlipwayError.from_json(json.loads((work / "error.json").read_text()))
    path = store.dir(output.kind, key)
    if ended.code in (0, None) and (path / MANIFEST).exists():
        return load(output, path)
    last = (work / "log.txt").read_text(errors="replace").strip().splitlines()[-15:]
    cause = ended.reason
    hint = "; killed for memory? free some or lower the batch" if ended.code == -9 else ""
    raise StageError(
        f"stage {name}", f"{cause} after {ended.seconds:.0f} s{hint}. Last output:\n" + "\n".join(last),
        "an artifact", f"read {work / 'log.txt'}; run again to resume",
    )  # fmt: skip


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """One process at a time works on a key; a second waits, then finds the artifact made."""
    with work.with_name(f"{work.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def execute(name: str, job_file: Path) -> Path:
    """Run one stage from its job file, in this process; return the artifact's directory. Errors are also left in `error.json`."""
    work = job_file.resolve().parent
    if not job_file.is_file():
        raise ConfigError("job file", job_file, "an existing job.json", "`slipway run` writes them under .slipway/work")
    try:
        job = json.loads(job_file.read_text())
        if job["stage"] != name:
            raise ConfigError(
                f"job file {job_file}", f"for stage {job['stage']}", f"stage {name}", f"run `slipway stage {job['stage']} {job_file}`"
            )
        return _execute(job, work)
    except SlipwayError as err:
        write_atomic(work / "error.json", json.dumps(err.to_json()))
        raise


def _execute(job: dict[str, Any], work: Path) -> Path:
    spec = stage_spec(job["stage"])
    try:
        params = spec.params.model_validate(job["params"])
    except ValidationError as err:
        raise ConfigError(f"params of stage {spec.name}", err.errors()[0]["loc"], err.errors()[0]["msg"], "mend job.json") from err
    store = Store(Path(job["store"]))
    inputs = {k: _input(k, spec, job["inputs"].get(k)) for k in spec.inputs}
    start = time.time()
    with store.create(spec.output, job["key"], _provenance(job)) as out, Progress(work / "progress.jsonl") as progress:
        spec.function(**inputs, params=params, space=Workspace(out, work, Path(job["cache"]), progress))
        progress.note(f"{spec.name} took {time.time() - start:.1f} s")
    return store.dir(spec.output.kind, job["key"])


def _input(name: str, spec: StageSpec, ref: dict[str, str] | None) -> Artifact | None:
    if ref is None:
        return None
    kinds = {c.kind: c for c in Artifact.__subclasses__()}
    artifact = load(kinds[ref["kind"]], Path(ref["uri"]))
    if artifact.digest != ref["digest"]:
        raise ResourceError(f"input {name} of {spec.name}", artifact.digest[:12], ref["digest"][:12], "run the pipeline again")
    return artifact


def _provenance(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage": job["stage"], "params": job["params"], "inputs": job["inputs"], "extra": job["extra"],
        "code": stage_code(job["stage"]), "versions": versions(), "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(), "arch": platform.machine(), "pid": os.getpid(),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Slipway, Python and the packages that decide numerics; absent ones are left out."""
    found = {"slipway": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

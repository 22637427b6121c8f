"""From (stage, inputs, params) to an artifact: the key, the skip decision, the stage process, the result.

`ensure` is what orchestrators call. `execute` is what the stage process calls. A stage named X is the function `X` of
the module `slipway.X`; its annotations say which inputs and params it takes and which artifact it makes.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from slipway.errors import SlipwayError, StageError
from slipway.runners.base import Job, OnEvent, Outcome, Runner, follow
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.store.key import stage_key
from slipway.store.store import Store, load
from slipway.system.files import disk_full_is_named, write_atomic
from slipway.system.locks import FOREVER, locked
from slipway.system.tail import Tail

STOP_S = 10.0


@dataclass(frozen=True)
class Made:
    """An artifact and how it was come by."""

    artifact: Artifact
    reused: bool
    why: str
    seconds: float
    peak_rss: int


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
        # A second process that wants the same key waits, however long, and then finds the artifact.
        with locked(work.with_name(f"{work.name}.lock"), FOREVER, f"stage {name}"):
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
    for _ in tail.lines():  # events of an earlier attempt were shown then
        pass

    def look() -> None:
        for event in tail.events():
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

"""From a stage's call to an artifact: the key, reuse or not, the stage process, the result.

`ensure` is what orchestrators call; `execute` is what the stage process calls.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.errors import SlipwayError, StageError, StageKilledError
from slipway.pipeline.stage import ERROR_FILE, STAGE_FILE, ErrorDocument, StageCall, stage_spec
from slipway.runners.base import Job, OnEvent, Outcome, Runner, follow
from slipway.runners.lease import Priority, Wish, lease_folder, leased
from slipway.runners.yielding import PreemptedError, YieldingRunner
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.store.key import KEY_FORMAT, key_of
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from slipway.store.usage import in_use
from slipway.system.files import disk_full_is_named, write_atomic
from slipway.system.json_files import read_model
from slipway.system.locks import FOREVER, locked
from slipway.system.tail import Tail

LAST_LINES = 15
# The stages that want the accelerator, or all processors and much memory
PRIORITIES = {
    "train_cpu": Priority.TRAINING,
    "train_nemo": Priority.TRAINING,
    "merge": Priority.BUILD,
    "quantize": Priority.BUILD,
    "engine": Priority.BUILD,
    "reference": Priority.EVALUATION,
    "evaluate": Priority.EVALUATION,
    "agent_eval": Priority.EVALUATION,
    "answer_eval": Priority.EVALUATION,
}
Slot = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Made:
    """An artifact, whether it was there already, and why; seconds and bytes of the stage process, 0 when reused."""

    artifact: Artifact
    reused: bool
    why: str
    seconds: float
    peak_rss: int


def ensure(
    call: StageCall, store: Store, cache: Path, runner: Runner, on_event: OnEvent, slot: Slot = nullcontext
) -> Made:
    """The artifact of this call: reused when intact, else made in a stage process. Raises what the stage raised.

    `cache`: folder of downloads and builds. `on_event`: called with every progress event (a dict) of the stage process.
    `slot`: what an orchestrator enters while the stage has this machine's lease.
    """
    key = key_of(call.key_document())
    output = stage_spec(call.stage).output
    work = work_folder(store, call.stage, key)
    lock = work.with_name(f"{work.name}.lock")
    # A second process that wants the same key waits, however long, and then finds the artifact.
    with disk_full_is_named(work), in_use(store.root), locked(lock, FOREVER, f"stage {call.stage}"):
        if artifact := store.find(output, key):
            _clean_up(work, lock)
            return Made(artifact, True, f"same inputs, params and code (key {key[:12]})", 0.0, 0)
        work.mkdir(parents=True, exist_ok=True)
        write_atomic(work / STAGE_FILE, json.dumps(_stage_document(call, key, store, work, cache), indent=1))
        (work / ERROR_FILE).unlink(missing_ok=True)
        ended = _in_turn(call, work, cache, runner, on_event, slot)
        artifact = _result(output, store.dir(output.kind, key), work, call.stage, ended)
        _clean_up(work, lock)
        return Made(artifact, False, "made", ended.seconds, ended.peak_rss)


def _clean_up(work: Path, lock: Path) -> None:
    """Remove what a stage needed while it was made. A waiter sees that the lock file is gone, and takes a new one."""
    shutil.rmtree(work, ignore_errors=True)
    lock.unlink(missing_ok=True)


def work_folder(store: Store, stage: str, key: str) -> Path:
    """Where the stage process keeps what outlives a crash, until the artifact is made."""
    return store.root / "work" / f"{stage}-{key[:16]}"


def _stage_document(call: StageCall, key: str, store: Store, work: Path, cache: Path) -> dict[str, object]:
    """What the stage process is told; of the store everything by relative paths, so that it may move between two
    attempts."""
    return {
        "stage": call.stage,
        "key": key,
        "key_format": KEY_FORMAT,
        "inputs": {name: reference_to(a, store.root) for name, a in call.inputs.items() if a},
        "params": call.params.model_dump(mode="json"),
        "extra": dict(call.extra),
        "store": os.path.relpath(store.root, work),
        "cache": str(cache.expanduser()),
    }


def _in_turn(call: StageCall, work: Path, cache: Path, runner: Runner, on_event: OnEvent, slot: Slot) -> Outcome:
    """The stage process, while it has this machine's lease where its work is of those that share a machine. One that
    was preempted waits again, and goes on from its checkpoint; its seconds are all that it worked."""
    if call.stage not in PRIORITIES:
        return _run(call, work, runner, on_event)
    wish, before = Wish(f"{call.title} of {work}", PRIORITIES[call.stage], str(work)), 0.0

    def note(text: str) -> None:
        on_event({"event": "note", "text": text})

    while True:
        with leased(lease_folder(cache), wish, note) as lease, slot():
            started = time.monotonic()
            try:
                ended = _run(call, work, YieldingRunner(runner, lease.wanted) if call.preemptible else runner, on_event)
            except PreemptedError as err:
                before += time.monotonic() - started
                note(f"{err.value} at its checkpoint; waits for its turn")
                continue
        return replace(ended, seconds=ended.seconds + before)


def _run(call: StageCall, work: Path, runner: Runner, on_event: OnEvent) -> Outcome:
    """The stage as a job: its events reach `on_event` while it runs."""
    tail = Tail(work / "progress.jsonl")
    for _ in tail.lines():  # events of an earlier attempt were shown then
        pass

    def look() -> None:
        for event in tail.events():
            on_event(event)

    argv = (sys.executable, "-P", "-m", "slipway", "stage", call.stage, str(work / STAGE_FILE))
    return follow(runner, Job(work.name, argv, work, stop_s=call.stop_s), look)


def _result(output: type[Artifact], path: Path, work: Path, stage: str, ended: Outcome) -> Artifact:
    """What the stage process made, or the error that it left, or StageError with its last lines."""
    if (work / ERROR_FILE).exists():
        raise SlipwayError.from_json(
            read_model(ErrorDocument, work / ERROR_FILE, f"error of stage {stage}", "run again").model_dump()
        )
    if ended.code in (0, None) and (path / MANIFEST).exists():
        return load(output, path)
    lines = (work / "log.txt").read_text(errors="replace", encoding="utf-8").strip().splitlines()[-LAST_LINES:]
    hint = "; killed for memory? free some or lower the batch" if ended.code == -9 else ""
    raise (StageKilledError if ended.from_outside else StageError)(
        f"stage {stage}",
        f"{ended.reason} after {ended.seconds:.0f} s{hint}. Last output:\n" + "\n".join(lines),
        "an artifact",
        f"read {work / 'log.txt'}; run again to resume",
    )

"""An artifact made where the config says: by a stage process of this machine, or of the machine of `remote.host`.

There the stage is `pipeline/ensure.py`'s as anywhere: its store, its locks, its work folder, so that a killed
orchestrator's stage is found again. What it reads is brought by digest, once; what it makes stays, and its small files
come here (`store/placed.py`). The other stages read no weights and run here.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from slipway.pipeline.ensure import Made, Slot, ensure, work_folder
from slipway.pipeline.remote_machine import RemoteMachine, machine_of, name_there
from slipway.pipeline.stage import StageCall, stage_spec
from slipway.runners.base import OnEvent, Runner
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.store.key import key_of
from slipway.store.placed import placed
from slipway.store.references import resolve
from slipway.store.store import Store, load
from slipway.store.usage import in_use
from slipway.system.files import disk_full_is_named
from slipway.system.json_files import is_present, read_json
from slipway.system.locks import FOREVER, locked

THERE = frozenset(
    {"train_cpu", "train_nemo", "merge", "quantize", "reference", "engine", "evaluate", "agent_eval", "answer_eval"}
)
_VIRTUAL = "virtual.json"  # of `weights/checkpoint.py`, whose imports are torch's
_SERVE = "serve.json"  # of `engines/bundle.py`, a room above


def ensure_at(
    machine: RemoteMachine | None,
    call: StageCall,
    store: Store,
    cache: Path,
    runner: Runner,
    on_event: OnEvent,
    slot: Slot = nullcontext,
) -> Made:
    """As `ensure`; on `machine` where there is one and the stage reads or writes weights. Files that a stage here reads
    and that lie elsewhere are brought first. Raises besides what `RemoteMachine.ask`, `push` and `pull` raise."""
    if call.stage not in THERE:
        return ensure(call, store, cache, runner, on_event, slot)
    if machine is not None:
        return _ensure_there(machine, call, store, on_event)
    for artifact in call.inputs.values():
        for one in needed(artifact) if artifact else ():
            _bring(one, on_event)
    return ensure(call, store, cache, runner, on_event, slot)


def _ensure_there(machine: RemoteMachine, call: StageCall, store: Store, on_event: OnEvent) -> Made:
    output, key = stage_spec(call.stage).output, key_of(call.key_document())
    work = work_folder(store, call.stage, key)
    lock = work.with_name(f"{work.name}.lock")
    with disk_full_is_named(work), in_use(store.root), locked(lock, FOREVER, f"stage {call.stage}"):
        artifact = store.find(output, key)
        if artifact and _is_intact(machine, artifact, on_event):
            lock.unlink(missing_ok=True)
            return Made(artifact, True, f"same inputs, params and code (key {key[:12]})", 0.0, 0)
        for artifact in call.inputs.values():
            for one in needed(artifact) if artifact else ():
                if not machine.holds(placed(one.path)):
                    _bring(one, on_event)  # of a third machine
                    machine.push(one)
        result = machine.ask("make", _request(call, key), on_event, call.stop_s)
        made = machine.pull(output, key, store.dir(output.kind, key))
        lock.unlink(missing_ok=True)
    why = f"{result['why']}, on {machine.address}"
    return Made(made, bool(result["reused"]), why, float(result["seconds"]), int(result["peak_rss"]))


def _request(call: StageCall, key: str) -> dict[str, Any]:
    inputs = {name: name_there(one) if one else None for name, one in call.inputs.items()}
    return {
        "stage": call.stage,
        "key": key,
        "inputs": inputs,
        "params": call.params.model_dump(mode="json"),
        "extra": dict(call.extra),
        "stop_s": call.stop_s,
    }


def _is_intact(machine: RemoteMachine, artifact: Artifact, on_event: OnEvent) -> bool:
    """Whether the files that are not here are as they were, there; the record of those that are not goes."""
    there = placed(artifact.path)
    if there is None or not machine.holds(there):
        return True  # whole, or on a third machine, which is asked when its bytes are wanted
    if machine.has(artifact):
        return True
    on_event({"event": "note", "text": f"{artifact.kind} {artifact.digest[:12]} is no longer on {there.address}"})
    shutil.rmtree(artifact.path)
    return False


def needed(artifact: Artifact) -> list[Artifact]:
    """An artifact and those whose bytes it refers to: base and adapter of a virtual checkpoint, the checkpoint that an
    engine loads; the others first. Left out is what is gone: an engine that has its own model needs no checkpoint, and
    who does need it names it."""
    references = []
    if is_present(artifact.path / _VIRTUAL):
        document = read_json(artifact.path / _VIRTUAL, "virtual checkpoint", "run the pipeline again")
        references = [{"kind": name if name == "adapter" else "checkpoint", **document[name]} for name in document]
    elif artifact.kind == "engine" and _loads_checkpoint(artifact.path):
        inputs = artifact.manifest["provenance"].get("inputs", {})
        references = [inputs["checkpoint"]] if "checkpoint" in inputs else []
    kinds = {cls.kind: cls for cls in Artifact.__subclasses__()}
    places = [(kinds[ref["kind"]], resolve(ref, artifact.path)) for ref in references]
    below = [load(cls, path) for cls, path in places if is_present(path / MANIFEST)]
    return [*(one for other in below for one in needed(other)), artifact]


def _loads_checkpoint(engine: Path) -> bool:
    """Whether an engine's command names a checkpoint that is not in its bundle (`engines/bundle.py`)."""
    plan = engine / _SERVE
    if not (is_present(engine / MANIFEST) and is_present(plan)) or (engine / "model").is_dir():
        return False
    return "{model}" in plan.read_text(encoding="utf-8", errors="replace")


def _bring(artifact: Artifact, on_event: OnEvent) -> None:
    there = placed(artifact.path)
    if there is not None:
        on_event({"event": "note", "text": f"bringing {artifact.kind} {artifact.digest[:12]} from {there.address}"})
        machine_of(there).bring(artifact)

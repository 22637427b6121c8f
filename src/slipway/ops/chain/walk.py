"""The stages of finetune-and-ship in their order, each as it would go: reused, made, or made because one before it is.

Nothing is asked but the store, the config and `dvc.lock`: files by their sizes, not their digests. An artifact of the
right size with other bytes is found when it is used, and made again then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from slipway.config.load import Config
from slipway.data.dvc_changes import repro_reason
from slipway.errors import SlipwayError
from slipway.evaluation.decidability import undecidable
from slipway.evaluation.reference_plan import ReferencePlan
from slipway.ops.chain import calls
from slipway.ops.chain.earlier_data import rivals_data
from slipway.ops.chain.estimates import Estimate, estimate_call
from slipway.ops.chain.known import Known
from slipway.ops.chain.placement import Move, Placement
from slipway.ops.chain.retrieval_walk import answers, champion_search, retrieval
from slipway.ops.chain.why import Change, Shelf, changes
from slipway.pipeline.ensure import work_folder
from slipway.pipeline.measurements import Measurement
from slipway.pipeline.remote_machine import RemoteMachine
from slipway.pipeline.stage import StageCall, stage_spec
from slipway.stages.prepare import params_of
from slipway.store.artifacts import (
    MANIFEST,
    Adapter,
    Artifact,
    Checkpoint,
    Dataset,
    Engine,
    Evaluation,
    Quantized,
    ReferenceScores,
    Verdict,
)
from slipway.store.key import key_of
from slipway.store.store import Store, load, sized

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class PlannedStage:
    """One stage as it would go. `state`: `reused`; `runs`, for `changes` of its key or because of `why`; `follows`:
    an input is made anew, and its key is known only then (equal bytes would be reused). `resumes`: a killed attempt
    left work that it goes on from. `machine`: the address that it runs at, empty for this machine; `moves`: what is
    sent there or brought here for it."""

    title: str
    state: Literal["reused", "runs", "follows"]
    why: str
    changes: tuple[Change, ...] = ()
    key: str = ""
    code: str = ""
    estimate: Estimate | None = None
    resumes: bool = False
    machine: str = ""
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True)
class Chain:
    """The stages of a run in their order, the engine that it ends with where that is made already, the digest of its
    rows where DVC need not make them first, of what people are warned (known where the data is), the prepared rows,
    where they are there, and the digest of the index that goes with the engine (`known.UNMADE`; empty for none)."""

    stages: list[PlannedStage]
    candidate: Engine | None
    data: str
    warnings: tuple[str, ...]
    dataset: Dataset | None = None
    index: str = ""


Rivals = Callable[[Engine | None], Mapping[str, Engine]]


@dataclass
class ChainWalk:
    """The walk over one config: `stages` grows as `make` goes on."""

    config: Config
    store: Store
    rows: Sequence[Measurement]
    placement: Placement
    stages: list[PlannedStage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.store.root)

    def make(
        self,
        title: str,
        cls: type[Artifact],
        build: Callable[..., StageCall],
        inputs: Mapping[str, Known],
        first: str = "",
    ) -> Known:
        """The next stage: `build` makes its call of `inputs`. `first`: why it runs whatever its key. Raises what
        `build` raises over real artifacts."""
        missing = [name for name, known in inputs.items() if known.artifact is None]
        values = {name: known.any() for name, known in inputs.items()}
        if missing or first:
            call = _call_or_none(build, values)
            self._add(title, call, "follows" if missing else "runs", first or _pending(inputs), inputs=inputs)
            address = self.placement.address(_stage(title, call))
            return Known(stand_in=self._newest(cls, call), made_here="" if address else title)
        call = build(**values)
        key, address = key_of(call.key_document()), self.placement.address(call.stage)
        artifact = whole(self.store, cls, key)
        lost = self.placement.lost(artifact) if artifact else ""
        if artifact and not lost:
            self._add(title, call, "reused", "same inputs, params and code")
            return Known(artifact)
        if self.placement.has(call.stage, cls.kind, key):
            self._add(title, call, "reused", f"in the store of {address} already: its small files are fetched")
            return Known(stand_in=self._newest(cls, call), pending="fetched")
        differs = changes(call, self.shelf)
        why = f"no longer on {lost}" if lost else "never made here" if differs is None else ""
        self._add(title, call, "runs", why or ("" if differs else "damaged or removed"), tuple(differs or ()), inputs)
        return Known(stand_in=self._newest(cls, call), made_here="" if address else title)

    def _add(
        self,
        title: str,
        call: StageCall | None,
        state: Any,
        why: str,
        differs: tuple[Change, ...] = (),
        inputs: Mapping[str, Known] = MappingProxyType({}),
    ) -> None:
        stage = PlannedStage(title, state, why, differs, machine=self.placement.address(_stage(title, call)))
        if state != "reused":
            made = [known.artifact for known in inputs.values() if known.artifact]
            made_here = [known.made_here for known in inputs.values() if known.artifact is None and known.made_here]
            stage = replace(stage, moves=self.placement.moves(_stage(title, call), made, made_here))
        if call:
            stage = replace(stage, code=stage_spec(call.stage).code_version())
        if state != "reused":
            work = call.work if call else calls.work_before(self.config, title)
            made_inputs = call.inputs if call else {}
            where = self._machine(stage.machine)
            figures = estimate_call(_stage(title, call), work, made_inputs, self.config, self.rows, where)
            stage = replace(stage, estimate=figures)
        if call and state != "follows":
            key = key_of(call.key_document())
            stage = replace(stage, key=key, resumes=work_folder(self.store, call.stage, key).is_dir())
        self.stages.append(stage)

    def _machine(self, address: str) -> str:
        """The machine at an address as measurements name it; empty for this one."""
        machine = self.placement.machine
        return machine.facts(self.config.engine, self.config.serving).name if machine and address else ""

    def _newest(self, cls: type[A], call: StageCall | None) -> A | None:
        made = self.shelf.newest(call.stage) if call else None
        return cls(uri=str(made.path), digest=made.digest) if made else None


def walk(
    config: Config,
    root: Path,
    rivals: Rivals,
    rows: Sequence[Measurement],
    machine: RemoteMachine | None = None,
    champions: Dataset | None = None,
) -> Chain:
    """Every stage of a run of the project in `root`. `rivals`: engines that a candidate (None: not known yet) has to
    beat, by their side in the gate; they are evaluated too; `machine`: the one that stages run on, None for this one;
    `champions`: the data of what serves, whose test rows stay test rows. Raises, before any work, DataError for data
    that is not there, ConfigError, and what `RemoteMachine.ask` raises."""
    chain = ChainWalk(config, Store(Path(config.store.root)), rows, Placement(machine))
    base = chain.make("fetch", Checkpoint, partial(calls.fetch, config), {})
    first = repro_reason(root, root / config.data.raw)
    # data that is not there is refused now, also before the base model is there
    rows_digest = "" if first else params_of(config, root).digest
    prepare = partial(calls.prepare, config, root, champions=champions)
    data = chain.make("prepare", Dataset, prepare, {"base": base}, first)
    retrieved = retrieval(chain, config, root)
    index = retrieved["index"].digest if retrieved else ""
    adapter = chain.make("train", Adapter, partial(calls.train, config), {"base": base, "data": data})
    merged = chain.make("merge", Checkpoint, partial(calls.merge, config), {"base": base, "adapter": adapter})
    to_quantize = {"checkpoint": merged, "data": data}
    quantized = chain.make("quantize", Quantized, partial(calls.quantize, config), to_quantize)
    candidate = _engine(chain, config, quantized, "candidate")
    quality = _unquantized(chain, config, base, merged, quantized, data)
    streamed = quality.pop("streamed", None)
    quality["candidate"] = _evaluate(chain, config, candidate, data, streamed, "candidate")
    engine = candidate.artifact if isinstance(candidate.artifact, Engine) else None
    others = rivals(engine)
    for side, rival in others.items():
        quality[side] = _evaluate(chain, config, Known(rival), data, None, side)
    engines = {"candidate": candidate} | {of: Known(one) for of, one in others.items() if of == "champion"}
    if config.agent.kind != "off":
        names = {"candidate": "agent", "champion": "agent_champion"}
        quality |= {names[of]: _agent_eval(chain, config, one, data, of) for of, one in engines.items()}
    quality |= champion_search(chain, config, retrieved, engine)
    quality |= answers(chain, config, retrieved, engines)
    sides = {"quantized": quantized, "engine": candidate, "data": data, **quality, **retrieved}
    chain.make("gate", Verdict, _gate(config), sides)
    dataset = data.artifact if isinstance(data.artifact, Dataset) else None
    prepared = dataset.summary if dataset else {}
    warnings = tuple(str(rule) for rule in undecidable(config.gate, config.evaluate, prepared))
    return Chain(chain.stages, engine, rows_digest, warnings, dataset, index)


def _unquantized(
    chain: ChainWalk, config: Config, base: Known, merged: Known, quantized: Known, data: Known
) -> dict[str, Known]:
    """The evaluations of base and merge, as far as they are served; `streamed`, where the merge is streamed."""
    plan = _reference_plan(config, base.any(), data.any(), chain.placement.machine)
    sides: dict[str, Known] = {}
    if plan.streamed:
        inputs = {"merged": merged, "quantized": quantized, "data": data}
        sides["streamed"] = chain.make(
            "reference", ReferenceScores, partial(calls.reference, config, plan=plan), inputs
        )
    if plan.served:
        sides["base"] = _evaluate(chain, config, _engine(chain, config, base, "base"), data, None, "base")
    engine = _engine(chain, config, merged, "merged") if plan.served else None
    sides["merged"] = _evaluate(chain, config, engine, data, sides.get("streamed"), "merged")
    return sides


def whole(store: Store, cls: type[A], key: str) -> A | None:
    """The artifact of this key when its manifest and every file of it are there, with the sizes that it names."""
    path = store.dir(cls.kind, key)
    return load(cls, path) if (path / MANIFEST).is_file() and sized(path) else None


def _engine(chain: ChainWalk, config: Config, checkpoint: Known, of: str) -> Known:
    build = partial(calls.engine, config, of=of, machine=chain.placement.machine)
    return chain.make(f"engine {of}", Engine, build, {"checkpoint": checkpoint})


def _evaluate(
    chain: ChainWalk, config: Config, engine: Known | None, data: Known, streamed: Known | None, of: str
) -> Known:
    inputs = {"engine": engine, "data": data, "streamed": streamed}
    build = partial(calls.evaluate, config, engine=None, streamed=None, of=of, speed=of not in ("base", "best"))
    return chain.make(f"evaluate {of}", Evaluation, build, {name: one for name, one in inputs.items() if one})


def _agent_eval(chain: ChainWalk, config: Config, engine: Known, data: Known, of: str) -> Known:
    build = partial(calls.agent_eval, config, of=of)
    return chain.make(f"agent_eval {of}", Evaluation, build, {"engine": engine, "data": data})


def _gate(config: Config) -> Callable[..., StageCall]:
    def build(quantized: Quantized, engine: Engine, data: Dataset, **sides: Artifact) -> StageCall:
        champions = rivals_data(config, engine) if "champion" in sides else None
        return calls.gate(config, sides, quantized, engine, data, champions=champions)

    return build


def _reference_plan(
    config: Config, base: Artifact | None, data: Artifact | None, machine: RemoteMachine | None
) -> ReferencePlan:
    """As the run will plan it; before the base model is there, that the unquantized models are served."""
    if base is None:
        return ReferencePlan(True, False, False, "known once the base model is there")
    return calls.reference_plan(config, base, data.summary if data else {}, machine)


def _stage(title: str, call: StageCall | None) -> str:
    """The stage of a title; which of the trainers does not matter where there is no call yet."""
    name = title.split()[0]
    return call.stage if call else "train_cpu" if name == "train" else name


def _pending(inputs: Mapping[str, Known]) -> str:
    """Why a stage follows: `made anew: base, data; fetched: adapter`."""
    by_reason: dict[str, list[str]] = {}
    for name, known in inputs.items():
        if known.artifact is None:
            by_reason.setdefault(known.pending, []).append(name)
    return "; ".join(f"{reason}: {', '.join(names)}" for reason, names in by_reason.items())


def _call_or_none(build: Callable[..., StageCall], values: dict[str, Artifact | None]) -> StageCall | None:
    """The call over what stands in for its inputs, for its work alone; None where something is missing or gone."""
    if any(value is None for value in values.values()):
        return None
    try:
        return build(**values)
    except (SlipwayError, OSError):
        return None

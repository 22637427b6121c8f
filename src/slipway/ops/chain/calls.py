"""The call of each stage of finetune-and-ship: what it reads, and its params out of a run's config.

Whoever makes a stage and whoever says beforehand what it will make ask here, so that the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway.config.gate_rows import rows_of
from slipway.config.load import Config
from slipway.config.rag import RetrieverName
from slipway.data.rows import read_rows
from slipway.evaluation import reference_plan as planned
from slipway.evaluation.reference_plan import ReferencePlan
from slipway.evaluation.streamed_metrics import Role
from slipway.evaluation.task import task_of
from slipway.ops.chain import work
from slipway.ops.chain.earlier_data import earlier_data
from slipway.pipeline.remote_machine import RemoteMachine
from slipway.pipeline.stage import StageCall, Work
from slipway.stages import agent_eval as agent_stage
from slipway.stages import answer_eval as answer_stage
from slipway.stages import evaluate as evaluate_stage
from slipway.stages import fetch as fetch_stage
from slipway.stages import gate as gate_stage
from slipway.stages import merge as merge_stage
from slipway.stages import prepare as prepare_stage
from slipway.stages import quantize as quantize_stage
from slipway.stages import reference as reference_stage
from slipway.stages import train_cpu, train_nemo
from slipway.stages.engine import key_extra as engine_extra
from slipway.stages.engine import params_of as engine_params
from slipway.store.artifacts import (
    Adapter,
    Artifact,
    Checkpoint,
    Corpus,
    Dataset,
    Engine,
    Quantized,
    ReferenceScores,
    SearchIndex,
)
from slipway.system.memory import total_bytes
from slipway.training.nemo.params import STAGE_STOP_S

BESIDE = (
    "best",
    "agent",
    "agent_champion",
    "search",
    "choice",
    "search_champion",
    "answers",
    "answers_champion",
)  # what the gate may read beside the usual sides


def fetch(config: Config) -> StageCall:
    """The base model."""
    extra = fetch_stage.key_extra(config)
    return StageCall("fetch", {}, fetch_stage.params_of(config), extra=extra, work=work.of_fetch(config))


def prepare(config: Config, root: Path, base: Checkpoint, champions: Dataset | None = None) -> StageCall:
    """The splits of the project in `root`, whose test rows are those of the champion's data `champions` where there is
    any (`earlier_data`). Raises DataError where the data is not there or differs from `dvc.lock`."""
    params = prepare_stage.params_of(config, root)
    params = params.model_copy(update={"earlier": earlier_data(params, champions)})
    return StageCall("prepare", {"base": base}, params, work=work.of_prepare(Path(params.source)))


def train(config: Config, base: Checkpoint, data: Dataset) -> StageCall:
    """The adapter, by the trainer that `train.backend` names."""
    inputs, amount = {"base": base, "data": data}, work.of_train(config, base, data)
    if config.train.backend == "nemo":
        call = StageCall("train_nemo", inputs, train_nemo.params_of(config), "train", stop_s=STAGE_STOP_S, work=amount)
    else:
        call = StageCall(
            "train_cpu", inputs, train_cpu.params_of(config), "train", stop_s=train_cpu.STOP_S, work=amount
        )
    return replace(call, preemptible=config.target.preempt_training)


def merge(config: Config, base: Checkpoint, adapter: Adapter) -> StageCall:
    """The fine-tuned model."""
    amount = work.of_pass(_merging(config), base)
    return StageCall("merge", {"base": base, "adapter": adapter}, merge_stage.params_of(config), work=amount)


def quantize(config: Config, checkpoint: Checkpoint, data: Dataset) -> StageCall:
    """The model in the format and layout of the config."""
    amount = work.of_pass(_quantizing(config), checkpoint)
    inputs = {"checkpoint": checkpoint, "data": data}
    return StageCall("quantize", inputs, quantize_stage.params_of(config), work=amount)


def engine(
    config: Config, checkpoint: Checkpoint | Quantized, of: str, machine: RemoteMachine | None = None
) -> StageCall:
    """The bundle that serves a checkpoint. `of`: base, merged or candidate; `machine`: the one that stages run on, None
    for this one. Raises EngineError where its own Python does not answer, and what `RemoteMachine.ask` raises."""
    inputs, amount = (
        {"checkpoint": checkpoint},
        work.of_pass(_building(config, of), checkpoint),
    )
    extra = machine.facts(config.engine, config.serving).fingerprint if machine else engine_extra(config)
    return StageCall("engine", inputs, engine_params(config), f"engine {of}", extra, work=amount)


def reference_plan(
    config: Config, base: Artifact, data: Mapping[str, Any], machine: RemoteMachine | None = None
) -> ReferencePlan:
    """Whether the unquantized models are served on the machine that stages run on (None: this one), and whether the
    merge is streamed, with the reason. `data`: the dataset's summary. Raises CheckpointError when the base model cannot
    be read, and what `RemoteMachine.ask` raises."""
    memory = machine.facts(config.engine, config.serving).memory if machine else total_bytes()
    kind, why = data.get("task") or ("json", "")  # data of before tasks were looked for had JSON answers
    free_text = task_of(config.evaluate, (kind, why), data.get("label_key")).kind == "text"
    return planned.reference_plan(config.evaluate, config.engine, base.path, memory, free_text=free_text)


def reference(
    config: Config, merged: Checkpoint, quantized: Quantized, data: Dataset, plan: ReferencePlan
) -> StageCall:
    """The scores of reference answers by the merge and by its quantized form."""
    inputs = {"merged": merged, "quantized": quantized, "data": data}
    amount = work.of_items("reference", merged, data, config.evaluate.max_items)
    return StageCall("reference", inputs, reference_stage.params_of(config, required=plan.required), work=amount)


def evaluate(
    config: Config, engine: Engine | None, data: Dataset, streamed: ReferenceScores | None, of: str, *, speed: bool
) -> StageCall:
    """Quality, and speed where asked, of a model as served, and of one that is only streamed. `of`: base, merged,
    candidate, champion or best."""
    role: Role | None = "merged" if of == "merged" else "candidate" if of == "candidate" else None
    params = evaluate_stage.params_of(config, speed=speed and engine is not None, role=role if streamed else None)
    if of == "merged":  # never promoted: no answers to ask it again for
        params = params.model_copy(update={"probe_items": 0})
    inputs = {"engine": engine, "data": data, "streamed": streamed}
    how = f"evaluate {config.engine.kind} {_weights(config, of)}{' with speed' if params.speed else ''}"
    amount = work.of_items(how, engine or streamed, data, config.evaluate.max_items)
    return StageCall("evaluate", inputs, params, f"evaluate {of}", work=amount)


def agent_eval(config: Config, engine: Engine, data: Dataset, of: str) -> StageCall:
    """An agent on a served model, by the end states of its tasks. `of`: candidate or champion."""
    params = agent_stage.params_of(config)
    amount = work.of_items(f"agent {config.agent.kind} {config.engine.kind}", engine, data, config.agent.tasks)
    extra = agent_stage.key_extra(params)
    return StageCall("agent_eval", {"engine": engine, "data": data}, params, f"agent_eval {of}", extra, work=amount)


def answer_eval(
    config: Config, engine: Engine, index: SearchIndex, corpus: Corpus, retriever: RetrieverName, of: str
) -> StageCall:
    """Answers of a served model over what a retriever finds. `of`: candidate or champion."""
    params = answer_stage.params_of(config, retriever)
    items = min(params.items, int(corpus.summary.get("questions", 0)))
    how = f"answers {config.engine.kind} {' '.join(params.arms)} {params.context_tokens}"
    amount = Work(how, work.parameters_of(engine) * items, "parameters x questions")
    inputs, extra = {"engine": engine, "index": index, "corpus": corpus}, answer_stage.key_extra(params)
    return StageCall("answer_eval", inputs, params, f"answer_eval {of}", extra, work=amount)


def gate(
    config: Config,
    quality: Mapping[str, Artifact],
    quantized: Quantized,
    engine: Engine,
    data: Dataset,
    look: int = 1,
    champions: Dataset | None = None,
) -> StageCall:
    """The verdict on `quality["candidate"]`, against the merged model, and the base, the champion and the best release
    of the line where there is one, and on what was evaluated beside it (`BESIDE`). `look` 2 is at all test rows of
    `data`, after the first was inconclusive; `champions`: the data of `quality["champion"]`, which rules on new or
    fixed rows read."""
    sides: dict[str, Artifact | None] = {
        side: quality.get(side) for side in ("candidate", "merged", "base", "champion")
    }
    # left out where there is none: the keys of before there was one stay
    sides |= {name: quality[name] for name in BESIDE if name in quality}
    if champions and "champion" in quality and any(row.rows for row in rows_of(config.gate)):
        sides |= {"data": data, "champion_data": champions}
    rows = sum(1 for _ in read_rows(data.path / "test.jsonl"))
    inputs = {**sides, "quantized": quantized, "engine": engine}
    amount = work.of_items("gate", quantized, data, config.evaluate.max_items)
    return StageCall("gate", inputs, gate_stage.params_of(config, rows, look), work=amount)


def work_before(config: Config, title: str) -> Work | None:
    """The work of a stage before anything that it reads is there: of passes over weights, by the size that the row of
    conf/models states. None for stages whose work is in the data."""
    stage, _, of = title.partition(" ")
    if stage == "fetch":
        return work.of_fetch(config)
    groups = {"merge": _merging(config), "quantize": _quantizing(config), "engine": _building(config, of)}
    return Work(groups[stage], work.parameters_before(config.model), "parameters") if stage in groups else None


def _merging(config: Config) -> str:
    return f"merge materialize={config.merge.materialize}"


def _quantizing(config: Config) -> str:
    how = config.quantize
    return f"quantize {how.format} {how.method} {how.layout} {how.device}"


def _building(config: Config, of: str) -> str:
    return f"engine {config.engine.kind} {_weights(config, of)}"


def _weights(config: Config, of: str) -> str:
    """The format in which a side's weights are served: speed and memory differ by it."""
    return "bf16" if of in ("base", "merged") else config.quantize.format

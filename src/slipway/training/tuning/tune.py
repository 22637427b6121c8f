"""`slipway tune`: from a config to a train row with the fastest setting that fits, through a search over real probe
runs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.config.load import Config
from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.config.train import NEMO_DEFAULTS, TrainConfig
from slipway.data.rows import read_rows
from slipway.errors import ConfigError, StageError
from slipway.planning.fit import fit, gpu_room
from slipway.planning.training_memory import memory_plan
from slipway.runners.base import Mount
from slipway.runners.choose import runner_for
from slipway.runners.local import LocalRunner
from slipway.training.nemo.params import nemo_train_params
from slipway.training.nemo.recipe import LOSSES, RecipePaths, render
from slipway.training.nemo.recomputation import check_recomputation, recomputations
from slipway.training.nemo.schema import check_recipe
from slipway.training.tuning.cost_model import MemoryModel, SpeedModel, filled_share
from slipway.training.tuning.prober import WORK_IN_CONTAINER, ProcessProber, probe_job
from slipway.training.tuning.search import Search, SearchResult, search_space, step_tokens
from slipway.training.tuning.setting import Prober, Result, Setting
from slipway.training.tuning.synthetic_rows import LONGEST, write_synthetic

PROBE_TOKENS = 150_000
MOST_TOKENS = 16384  # of a pack, when the model's own context is longer
MODEL_IN_CONTAINER, ROWS_FILE = "/models/probe", "train.jsonl"


@dataclass(frozen=True)
class TuneRequest:
    """What to tune. `work`: an empty folder. `data`: training rows, or None for synthetic ones. `here`: probe with
    `python` on this machine, held to the target's memory, instead of through the target's runner."""

    config: Config
    model: Path
    work: Path
    data: Path | None = None
    budget_s: float = 300.0
    here: bool = False
    python: str = sys.executable

    @property
    def container(self) -> bool:
        """Whether probes run in a container: as the target's training jobs do, never with `here`."""
        return not self.here and self.config.target.in_container


def tune(request: TuneRequest, on_result: Callable[[Result], None]) -> SearchResult:
    """Search on the machine that the request names; `on_result` is called with each probe's result. Raises ConfigError
    for what cannot be probed on one GPU, StageError when the model does not load or the recipe as it stands does not
    run."""
    check_recomputation(request.config.train)
    deadline, limit = time.monotonic() + request.budget_s, _limit(request.config)
    write_rows(request)
    with prober_for(request, limit, deadline) as prober:
        prober.launch()  # loads the model while the rows are counted here
        lengths = _lengths(request)
        outcome = search_settings(
            prober, request.config, lengths, limit, deadline, on_result, _longest_pack(request.model)
        )
    if outcome.baseline.status != "ok":
        raise StageError(
            "the recipe as it stands",
            f"{outcome.baseline.status} {outcome.baseline.reason}".strip(),
            f"a run within {limit / 1e9:.0f} GB",
            "lower train.pack_length, or set train.activation_checkpointing=full",
        )
    return outcome


def search_settings(
    prober: Prober,
    config: Config,
    lengths: list[int],
    limit: float,
    deadline: float,
    on_result: Callable[[Result], None],
    most: int,
) -> SearchResult:
    """The search on any prober. `lengths`: tokens of each training row; `limit`: bytes a setting may take on one GPU;
    `deadline`: on time.monotonic()'s clock; `most`: tokens of the longest pack. Raises StageError when the model does
    not load."""
    model, params, baseline = config.model, config.train, setting_of(config.train)
    machine = prober.start()
    speed = SpeedModel(
        2e9 * (model.active_b or model.parameters_b),
        4.0 * model.hidden * model.layers,
        lambda n: filled_share(lengths, n),
    )
    memory = MemoryModel(machine.resident, lambda s: activation_bytes(model, params, config.target, s))
    settings = search_space(baseline, machine, limit, max(lengths), most, recomputations(params.method))
    return Search(prober, machine, settings, speed, memory, deadline=deadline, on_result=on_result).run(baseline)


def setting_of(params: TrainConfig) -> Setting:
    """The setting that a train row has now: the baseline."""
    return Setting(
        params.pack_length, params.micro_batch, params.activation_checkpointing, params.attention, params.loss
    )


def tuned_params(params: TrainConfig, setting: Setting, ranks: int) -> TrainConfig:
    """The params with this setting, and as many tokens in an optimizer step as before, to the nearest whole number of
    forward passes."""
    step = setting.micro_batch * ranks
    tokens = params.global_batch * params.pack_length
    changes = {
        "pack_length": setting.pack_length,
        "micro_batch": setting.micro_batch,
        "activation_checkpointing": setting.checkpointing,
        "attention": setting.attention,
        "loss": setting.loss,
        "global_batch": step * max(1, round(tokens / (setting.pack_length * step))),
    }
    return TrainConfig.model_validate(params.model_dump() | changes)


def train_row(outcome: SearchResult, config: Config, ranks: int) -> str:
    """The tuned params as a layer of `conf/train/`: YAML, with the measured figures as its description. `ranks`: GPUs
    that share an optimizer step."""
    best, base = outcome.best, outcome.baseline
    params = tuned_params(config.train, best.setting, ranks)
    named = {
        "backend",
        *NEMO_DEFAULTS,
        "micro_batch",
        "attention",
        "loss",
        "global_batch",
        *params.model_dump(exclude_defaults=True),
    }
    document = {
        "description": f"{config.model.name} {params.method} on {config.target.name}: {best.tokens_per_s:,.0f} "
        "tokens/s a GPU at "
        f"{best.reserved / 1e9:.1f} GB, {outcome.gain:.2f} times {base.setting} ({base.tokens_per_s:,.0f}); by slipway "
        f"tune on {outcome.machine.device}",
        **{name: value for name, value in params.model_dump().items() if name in named},
    }
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def search_report(outcome: SearchResult) -> dict[str, Any]:
    """The result as JSON values: seconds, gain, baseline, best, every probe, and what was not probed."""
    return {
        "device": outcome.machine.device,
        "start_s": round(outcome.machine.seconds, 1),
        "probing_s": round(outcome.seconds - outcome.machine.seconds, 1),
        "total_s": round(outcome.seconds, 1),
        "gain": round(outcome.gain, 3),
        "baseline": _result_json(outcome.baseline),
        "best": _result_json(outcome.best),
        "probes": [_result_json(r) for r in outcome.results],
        "never_probed": outcome.skipped,
        "absent": list(outcome.machine.absent),
        "ended": outcome.ended,
    }


def activation_bytes(model: ModelConfig, params: TrainConfig, target: TargetConfig, setting: Setting) -> float:
    """Bytes that a step on one GPU takes beyond the loaded weights, by the memory planner."""
    plan = memory_plan(model, tuned_params(params, setting, 1), one_gpu(target))
    return plan.trained + plan.kept + plan.working


def one_gpu(target: TargetConfig) -> TargetConfig:
    """The target with one GPU of its kind: what probes run on."""
    return target.model_copy(update={"gpus": 1, "nodes": 1})


def _result_json(r: Result) -> dict[str, Any]:
    s = r.setting
    return {
        "pack_length": s.pack_length,
        "micro_batch": s.micro_batch,
        "activation_checkpointing": s.checkpointing,
        "attention": s.attention,
        "loss": s.loss,
        "status": r.status,
        "tokens_per_s": round(r.tokens_per_s),
        "low": round(r.low),
        "high": round(r.high),
        "steps": r.steps,
        "allocated_gib": round(r.allocated / 2**30, 2),
        "reserved_gib": round(r.reserved / 2**30, 2),
        "seconds": round(r.seconds, 1),
        **({"reason": r.reason} if r.reason else {}),
    }


def _limit(config: Config) -> float:
    """Bytes that training may take on one GPU. Raises ConfigError for a recipe that cannot be probed on one GPU."""
    params, target = config.train, config.target
    if params.backend != "nemo" or params.packing != "neat":
        raise ConfigError(
            "train",
            f"backend {params.backend}, packing {params.packing}",
            "backend nemo, packing neat",
            "tune a row of conf/train/nemo-*",
        )
    shared = params.tensor_parallel * params.context_parallel * params.pipeline_parallel * params.expert_parallel
    if shared > 1:
        raise ConfigError(
            "train",
            f"a replica over {shared} GPUs",
            "one that fits one GPU: probes run on one",
            "tune with data parallelism only",
        )
    if (limit := gpu_room(target)) is None:
        raise ConfigError("target.gpu_memory_gb", "null", "a target with a GPU", "choose another --target")
    least = memory_plan(config.model, params, one_gpu(target)).weights
    if not fit(least, limit).fits:
        raise ConfigError(
            "model",
            f"{least / 1e9:.0f} GB of weights",
            f"at most {limit / 1e9:.0f} GB, what one GPU of {target.name} may use: probes run on one",
            "use --method qlora, or a larger target",
        )
    return limit


def write_rows(request: TuneRequest) -> None:
    """The rows that probes train on: the request's own, or synthetic ones."""
    file = request.work / ROWS_FILE
    if request.data:
        file.write_bytes(request.data.read_bytes())
    else:
        write_synthetic(file, PROBE_TOKENS, longest=min(LONGEST, request.config.train.pack_length - 64))


def _lengths(request: TuneRequest) -> list[int]:
    """Tokens of each row. Raises ConfigError when one does not fit the baseline's packs."""
    from slipway.data.tokens import token_lengths

    lengths, fits = token_lengths(read_rows(request.work / ROWS_FILE), request.model), request.config.train.pack_length
    if max(lengths) > fits:
        raise ConfigError(
            "train.pack_length",
            fits,
            f"at least the longest sample, {max(lengths)} tokens",
            f"set train.pack_length={max(lengths)}",
        )
    return lengths


def _longest_pack(model: Path) -> int:
    """Tokens of the longest pack worth trying."""
    return min(
        MOST_TOKENS,
        int(
            json.loads((model / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings", MOST_TOKENS)
        ),
    )


@contextmanager
def prober_for(request: TuneRequest, limit: float, deadline: float) -> Iterator[ProcessProber]:
    """A prober of the request's machine, ended with the block; `limit`: bytes that a setting may take."""
    config, work, inside = request.config, request.work, request.container
    if inside:
        rows, checkpoints = f"{WORK_IN_CONTAINER}/{ROWS_FILE}", f"{WORK_IN_CONTAINER}/ckpt"
        paths = RecipePaths(MODEL_IN_CONTAINER, rows, None, checkpoints)
        env, python = {}, "python3"
    else:
        paths = RecipePaths(str(request.model), str(work / ROWS_FILE), None, str(work / "ckpt"))
        env, python = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}, request.python
    params = config.train.model_copy(update={"global_batch": config.train.micro_batch, "strategy": "fsdp2"})
    recipe = render(config.model, params, one_gpu(config.target), paths, steps=100_000)
    check_recipe(recipe)
    runner = LocalRunner() if request.here else runner_for(config.target, nemo_train_params(config).image)
    job = probe_job(work, (Mount(request.model, MODEL_IN_CONTAINER),), container=inside, python=python, env=env)
    prober = ProcessProber(
        runner, job, recipe, LOSSES, limit=limit, step_tokens=step_tokens(setting_of(config.train)), deadline=deadline
    )
    try:
        yield prober
    finally:
        prober.close()

"""Peak GPU memory of a training step as other tools predict it, for the points of `planner_grid`.

Run by the Python that has them: `PYTHON -m benchmarks.peer_memory MODEL_DIR < points.json`; a line of JSON, tool ->
bytes of each point (null where it refuses). Each is asked as its own documentation says, by its library.

    fitcheck    `fitcheck.estimator.estimate`, nf4 with double quantization, adapters in bf16, flash attention
                (sdpa is); the model's config.json is read from the directory in the Hub's place
    qmemcalc    `qmemcalc.memory.estimate_memory`
    accelerate  `accelerate estimate-memory`'s two functions on a model of meta tensors: the load, and its own figure of
                training with Adam; it knows neither adapters nor activations
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

Point = Mapping[str, Any]
MIB = 2**20


def fitcheck(model: str, point: Point) -> float:
    """`total_mib` of fitcheck-llm."""
    from fitcheck import config_parser
    from fitcheck.estimator import TrainingConfig, estimate
    from fitcheck.gpu_db import GpuSpec

    vars(config_parser).update(
        hf_hub_download=lambda **_: f"{model}/config.json", _reported_param_count=lambda *_: None
    )
    training = TrainingConfig(
        quantization="nf4" if point["method"] == "qlora" else "none",
        double_quant=True,
        batch_size=point["micro_batch"],
        seq_len=point["pack_length"],
        lora_rank=point["rank"],
        lora_targets=list(point["targets"]),
        grad_checkpoint=point["checkpointing"] == "full",
        optimizer_dtype="bf16",
        flash_attn=True,
    )
    report = estimate(config_parser.fetch_model_config("local/model"), training, GpuSpec("any", 143_771, 143_771))
    return float(report.total_mib * MIB)


def qmemcalc(model: str, point: Point) -> float:
    """`total_MB` of qmemcalc."""
    from qmemcalc.memory import estimate_memory

    answer = estimate_memory(
        model,
        point["micro_batch"],
        point["pack_length"],
        lora_r=point["rank"],
        precision="bf16",
        quantization="4bit" if point["method"] == "qlora" else "none",
        gradient_checkpointing=point["checkpointing"] == "full",
    )
    return float(answer["total_MB"] * 1e6)


def accelerate(model: str, point: Point) -> float:
    """Bytes of the load at the dtype that training computes with, or 4 bit: all that accelerate says of adapters."""
    import torch
    from accelerate import init_empty_weights
    from accelerate.utils import calculate_maximum_sizes
    from transformers import AutoConfig, AutoModelForCausalLM

    with init_empty_weights():
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=torch.float32)
    total, _ = calculate_maximum_sizes(empty)
    return float(total / (8 if point["method"] == "qlora" else 2))


TOOLS: dict[str, Callable[[str, Point], float]] = {"fitcheck": fitcheck, "qmemcalc": qmemcalc, "accelerate": accelerate}


def main() -> None:
    """Ask every tool that is installed about every point."""
    points = json.load(sys.stdin)
    document: dict[str, list[float | None] | str] = {}
    for name, ask in TOOLS.items():
        if importlib.util.find_spec(name) is None:
            document[name] = "not installed"
            continue
        document[name] = [_asked(ask, sys.argv[1], point) for point in points]
    sys.stdout.write(json.dumps(document) + "\n")


def _asked(ask: Callable[[str, Point], float], model: str, point: Point) -> float | None:
    try:
        return ask(model, point)
    except Exception as err:  # noqa: BLE001 (a tool that fails on a point is a row of the table)
        sys.stderr.write(f"{ask.__name__} {dict(point)}: {type(err).__name__}: {err}\n")
        return None


if __name__ == "__main__":
    main()

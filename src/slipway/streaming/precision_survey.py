"""Measuring, before anything is written, what each unit of a plan would lose in each format of the ladder.

    error = sum_oi h_i (W - W_hat)^2_oi / sum_oi h_i W^2_oi        h_i = E[x_i^2] with calibration, else 1

One more pass over the weights, with the merge and the arithmetic of the pass that follows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from slipway.calibration.input_statistics import InputStatistics
from slipway.calibration.layer_walk import LayerWalk
from slipway.config.quantize import QuantizeConfig
from slipway.quantization import fusion, stacked_experts
from slipway.quantization.formats import FORMATS, Format
from slipway.quantization.mixed_precision import Ladder, Rung
from slipway.streaming.compute import Compute
from slipway.streaming.loader import Loaded, Loader, band_rows
from slipway.streaming.meter import Meter
from slipway.streaming.stream import run_threads
from slipway.streaming.tensor_plan import BF16, Plan
from slipway.weights.shards import WeightSource

_BF16_BITS = 16.0


def survey(
    source: WeightSource,
    model_dir: Path,
    plan: Plan,
    params: QuantizeConfig,
    tokens: torch.Tensor | None,
    compute: Compute,
) -> list[Ladder]:
    """The ladder of every unit of `plan`, on `tokens` int64 [N, T] if given."""
    upper = _fallback(params, tokens is not None)
    importance = _importance(source, model_dir, tokens, params, compute) if tokens is not None else {}
    sums: dict[str, dict[str, tuple[float, float]]] = {}
    remaining, lock, stop = iter(plan.linears), threading.Lock(), threading.Event()
    meter = Meter("measure", sum(source.info(name).nbytes for name in plan.linears), compute.progress)

    def run() -> None:
        loader = Loader(source, compute.device, compute.kernels)
        while not stop.is_set():
            with lock:
                name = next(remaining, None)
            if name is None:
                return
            loader.begin(source.info(name).nbytes)
            loaded, formats = loader.load(name), [plan.formats[name], *upper]
            sums[name] = {fmt.name: _errors(loaded, fmt, importance.get(name), compute) for fmt in formats}
            loader.end(0)
            meter.advance(source.info(name).nbytes, name)

    run_threads(run, compute.workers, stop)
    return [_ladder(source, unit, plan, upper, sums) for unit in fusion.units(plan.linears)]


def _fallback(params: QuantizeConfig, calibrated: bool) -> list[Format]:
    """FP8 as the layout can mix it: static scales where there is calibration, dynamic ones in compressed-tensors, else
    none."""
    if params.format.startswith("fp8"):
        return []
    if calibrated:
        return [FORMATS["fp8"]]
    return [FORMATS["fp8-dynamic"]] if params.layout == "compressed-tensors" else []


def _errors(loaded: Loaded, fmt: Format, importance: torch.Tensor | None, compute: Compute) -> tuple[float, float]:
    """(squared error, squared weights), both weighted."""
    stacked = loaded.weight.dim() == 3
    rows_of, fmt = (stacked_experts.rows(loaded.weight), fmt.stacked()) if stacked else (loaded.weight, fmt)
    scale, squared, reference = fmt.scale(loaded.amax), 0.0, 0.0
    for rows in torch.split(rows_of, band_rows(rows_of.shape[-1], compute.device)):
        exact = rows.float()
        error = exact - fmt.decode(compute.kernels(fmt.encode)(rows, scale), scale)
        weigh = 1.0 if importance is None else importance
        squared += float((error.square() * weigh).sum(dtype=torch.float64))
        reference += float((exact.square() * weigh).sum(dtype=torch.float64))
    return squared, reference


def _importance(
    source: WeightSource, model_dir: Path, tokens: torch.Tensor, params: QuantizeConfig, compute: Compute
) -> Mapping[str, torch.Tensor]:
    """E[x^2] of every matmul's inputs in the unquantized network."""
    walk = LayerWalk(model_dir, source, device=compute.device)
    states = walk.embed(tokens, micro_batch=params.calibration.micro_batch)
    loader, importances = Loader(source, compute.device, compute.kernels), dict[str, torch.Tensor]()
    for layer in walk.layers:
        statistics = InputStatistics(layer.linears)
        with torch.no_grad(), walk.load(layer, {name: loader.load(name).weight for name in layer.names}) as module:
            walk.run(layer, module, states, statistics)
        importances |= {name: h for name in layer.linears if (h := statistics.importance([name])) is not None}
    return importances


def _ladder(
    source: WeightSource,
    unit: Sequence[str],
    plan: Plan,
    upper: Sequence[Format],
    sums: Mapping[str, Mapping[str, tuple[float, float]]],
) -> Ladder:
    def rung(fmt: Format) -> Rung:
        squared, reference = (sum(sums[name][fmt.name][i] for name in unit) for i in range(2))
        return Rung(fmt.name, fmt.bits, squared / reference if reference else 0.0)

    rungs = tuple(rung(fmt) for fmt in (plan.formats[unit[0]], *upper))
    modules = tuple(fusion.module(name) for name in unit)
    return Ladder(modules, sum(source.info(name).numel for name in unit), (*rungs, Rung(BF16, _BF16_BITS, 0.0)))

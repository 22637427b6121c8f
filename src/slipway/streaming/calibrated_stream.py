"""The pass with calibration: decoder layers in order, each merged, run, quantized, written, and gone.

    exact stream     h -> layer(W) -> h'         what the bf16 model computes: input scales, KV scales, E[x^2]
    carried stream   h -> layer(W_hat) -> h'     GPTQ only: what the quantized model computes so far

In memory are one layer's weights, those of the next, which is being read, and the hidden states of both streams. GPTQ rounds a
layer's matmuls in the order in which they are computed: each sees inputs that have come through everything rounded before it,
and is compensated for the drift from the bf16 model's inputs (`curvature`). A layer that a former run finished is run, not
rounded, again.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from slipway.calibration.input_statistics import LayerInputs
from slipway.calibration.layer_calls import LayerSpec
from slipway.calibration.layer_walk import HiddenStates, LayerWalk
from slipway.config.quantize import QuantizeConfig
from slipway.errors import CheckpointError, ConfigError
from slipway.quantization import fusion
from slipway.quantization import stacked_experts as experts
from slipway.quantization.formats import Role
from slipway.quantization.hessian import Moments, compensated
from slipway.quantization.methods import Encoder, adapted, encoder
from slipway.streaming import tensor_plan as planning
from slipway.streaming.budget import Budget
from slipway.streaming.loader import Loaded, Loader
from slipway.streaming.stream import (
    Job,
    require_budget,
    stream,
    unfinished,
    warm_up,
    worker_pool,
    write_codes,
    write_weights,
)
from slipway.streaming.tensor_plan import Plan, Unit

_WEIGHTS = dict[str, torch.Tensor]


def stream_layers(
    job: Job, plan: Plan, tokens: torch.Tensor, model_dir: Path, params: QuantizeConfig, workers: int
) -> None:
    """Make every unit of a plan, with calibration on `tokens` int64 [N, T]."""
    walk = LayerWalk(model_dir, job.source, device=job.device, dtype=walk_dtype(job.device, params.method))
    units = plan.units(job.source)
    pass_ = _LayerPass(job, units, walk, params)
    inside = {unit.name for layer in walk.layers for unit in pass_.units(layer)}
    budget = Budget(params.memory_budget_gb * 1e9)
    warm_up(job, units)
    outside = [unit for unit in units if unit.name not in inside]
    _require_inputs(outside)
    stream(job, outside, workers, budget, encoder("max" if params.method == "max" else "mse", job.kernels))
    require_budget([unit for layer in walk.layers for unit in pass_.units(layer)], budget, job.device)
    micro = params.calibration.micro_batch
    with worker_pool(workers) as pool:
        exact = walk.embed(tokens, micro_batch=micro)
        carried = exact.clone() if params.method == "gptq" else None
        coming = pass_.fetch(walk.layers[0], pool)
        for layer, following in itertools.zip_longest(walk.layers, walk.layers[1:]):
            weights = {name: loading.result() for name, loading in coming.items()}
            coming = pass_.fetch(following, pool) if following else {}  # while this layer is run
            pass_.layer(layer, weights, exact, carried, pool)


def walk_dtype(device: torch.device, method: str) -> torch.dtype:
    """What the network computes in: bf16 as it is served, but fp32 where bf16 is slow and nothing is compared bit for bit."""
    return torch.float32 if device.type == "cpu" and method == "gptq" else torch.bfloat16


def _require_inputs(outside: Sequence[Unit]) -> None:
    """Raise ConfigError when a matmul that no decoder layer runs needs an input scale."""
    for unit in outside:
        if unit.fmt and unit.fmt.activations == "static":
            raise ConfigError(
                f"format of {fusion.module(unit.name)}", f"{unit.fmt.name}, with an input scale",
                "a matmul of a decoder layer: calibration runs those", "add it to quantize.exclude, or give it a weight-only format by rule",
            )  # fmt: skip


class _LayerPass:
    """One layer at a time."""

    def __init__(self, job: Job, units: Sequence[Unit], walk: LayerWalk, params: QuantizeConfig) -> None:
        self._job, self._walk, self._params = job, walk, params
        self._local = threading.local()  # each thread's loader
        self._by_first = {unit.name: unit for unit in units if unit.fmt}

    def units(self, layer: LayerSpec) -> list[Unit]:
        """The units of a layer that are quantized; what is passed on is the stream's."""
        return [self._by_first[name] for name in layer.names if name in self._by_first]

    def layer(
        self,
        layer: LayerSpec,
        weights: Mapping[str, Loaded],
        exact: HiddenStates,
        carried: HiddenStates | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        units = self.units(layer)
        merged = {name: loaded.weight for name, loaded in weights.items()}
        left = unfinished(self._job, units)
        leaders = frozenset(unit.name for unit in left) if carried else frozenset()
        seen = LayerInputs(layer.linears, leaders, squares=self._params.method == "mse")
        kept = self._run_exact(layer, merged, exact, seen)
        with torch.no_grad():
            if carried is None:
                self._write_all(left, weights, seen, pool)
            else:
                self._round_in_order(layer, left, merged, kept, carried)
        for unit in units:
            self._write_input_scales(unit, seen)
        self._write_kv_scales(layer, seen)

    def fetch(self, layer: LayerSpec, pool: ThreadPoolExecutor) -> dict[str, Future[Loaded]]:
        """Start loading a layer's tensors."""
        return {name: pool.submit(self._load, name) for name in layer.names}

    @torch.no_grad()
    def _load(self, name: str) -> Loaded:
        if not hasattr(self._local, "loader"):
            self._local.loader = Loader(self._job.source, self._job.device, self._job.kernels)
        loader: Loader = self._local.loader
        return loader.load(name)

    def _write_all(
        self, units: Sequence[Unit], weights: Mapping[str, Loaded], seen: LayerInputs, pool: ThreadPoolExecutor
    ) -> None:
        @torch.no_grad()
        def write(unit: Unit) -> None:
            self._write(unit, weights, encoder(self._params.method, self._job.kernels, seen.importance(unit.weights)))

        for done in [pool.submit(write, unit) for unit in units]:
            done.result()

    def _run_exact(self, layer: LayerSpec, merged: _WEIGHTS, exact: HiddenStates, seen: LayerInputs) -> list[_WEIGHTS]:
        """Move the exact stream on; the kept inputs of each micro-batch."""
        kept = []
        with self._walk.load(layer, merged) as module:
            for i, output in enumerate(self._walk.outputs(layer, module, exact, seen)):
                exact.values[i] = output.to(exact.values[i].device)
                kept.append(seen.kept)
                seen.kept = {}
        return kept

    def _write(self, unit: Unit, weights: Mapping[str, Loaded], encode: Encoder) -> None:
        write_weights(self._job, unit, {name: weights[name] for name in unit.weights}, encode)

    def _round_in_order(
        self, layer: LayerSpec, left: Sequence[Unit], merged: _WEIGHTS, kept: Sequence[_WEIGHTS], carried: HiddenStates
    ) -> None:
        """GPTQ: the units in the order of computation, then the carried stream moves on through what is on disk."""
        todo = {unit.name: unit for unit in left}
        rounded: _WEIGHTS = {}
        for unit in self.units(layer):
            if unit.name not in todo:
                rounded |= self._read_back(unit)
        seen = dict.fromkeys(name for batch in kept for name in batch)
        for leader in [name for name in seen if name in todo and merged[name].dim() == 2]:
            exact = [batch[leader] for batch in kept if leader in batch]
            found = self._adapt(layer, todo[leader], {**merged, **rounded}, exact, carried)
            if found:
                del todo[leader]
                rounded |= found
        self._job.error.without_gptq += todo
        for unit in todo.values():  # stacked experts, and experts that the router did not choose
            self._write(
                unit,
                {name: Loaded(merged[name], merged[name].abs().amax().float()) for name in unit.weights},
                encoder("mse", self._job.kernels),
            )
            rounded |= self._read_back(unit)
        with self._walk.load(layer, {**merged, **rounded}) as module:
            self._walk.run(layer, module, carried)

    def _adapt(
        self, layer: LayerSpec, unit: Unit, weights: _WEIGHTS, exact: Sequence[torch.Tensor], carried: HiddenStates
    ) -> _WEIGHTS:
        """The unit as rounded and written; nothing when no token comes by in the quantized network."""
        assert unit.fmt
        paired = (
            fusion.container(unit.name) is None
        )  # routing may send other tokens to an expert of the quantized model
        moments = Moments(unit.name, weights[unit.name].shape[1], self._job.device, drift=paired)
        inputs = LayerInputs(layer.linears, frozenset([unit.name]), squares=False)
        with self._walk.load(layer, weights) as module:
            for i, _ in enumerate(self._walk.outputs(layer, module, carried, inputs)):
                if unit.name in inputs.kept:
                    moments.add(inputs.kept.pop(unit.name), exact[i] if paired else None)
        if moments.tokens == 0:
            return {}
        moments.check()
        stacked = torch.cat([weights[name] for name in unit.weights])
        wanted = compensated(stacked, moments.hessian, moments.drift) if moments.drift is not None else stacked.float()
        scale = unit.fmt.scale(wanted.abs().amax())
        codes = adapted(unit.fmt, wanted, scale, moments.hessian)
        sizes = [len(weights[name]) for name in unit.weights]
        for i, name in enumerate(unit.weights):
            part = {role: torch.split(value, sizes)[i] for role, value in codes.items()}
            write_codes(self._job, unit, name, unit.fmt, [part], scale)
        found = self._read_back(unit)
        for name, weight in found.items():
            self._job.error.add(name, weights[name], weight)
        return found

    def _read_back(self, unit: Unit) -> _WEIGHTS:
        """What a runtime will compute with, from what was written, in bf16."""
        assert unit.fmt
        found = {}
        for name in unit.weights:
            places = planning.places(name, unit, self._job.source, self._job.layout)
            stored: dict[Role, torch.Tensor] = {
                role: self._job.writer.read(place.name).to(self._job.device)
                for role, place in places.items()
                if role != "input"
            }
            weight = self._job.layout.decode(unit.fmt, stored).to(walk_dtype(self._job.device, self._params.method))
            info = self._job.source.info(name)
            found[name] = experts.restacked(weight, info) if len(info.shape) == 3 else weight
        return found

    def _write_input_scales(self, unit: Unit, seen: LayerInputs) -> None:
        assert unit.fmt
        if unit.fmt.activations != "static":
            return
        for name in unit.weights:
            amax = seen.amax(name)
            if amax is None:
                raise CheckpointError(
                    f"calibration of {fusion.module(name)}", "no token came by", f"inputs, for the input scale of {unit.fmt.name}",
                    "add calibration rows, or exclude the module",
                )  # fmt: skip
            place = planning.places(name, unit, self._job.source, self._job.layout)["input"]
            value = self._job.layout.store(unit.fmt, "input", unit.fmt.input_scale(amax))
            if not self._job.writer.has([place.name]):
                self._job.writer.write(place.name, value.cpu())

    def _write_kv_scales(self, layer: LayerSpec, seen: LayerInputs) -> None:
        attention = planning.attention_of(layer.linears)
        if self._params.kv_cache == "none" or attention is None:
            return
        for which, amax in zip(planning.KV, (seen.keys, seen.values), strict=True):
            if not amax > 0:
                raise CheckpointError(
                    f"calibration of {attention}", f"largest of {which}: {float(amax)}", "keys and values to scale",
                    "use kv_cache=none: this attention does not show them",
                )  # fmt: skip
            name, value = self._job.layout.kv_scale(attention, which, amax.cpu())
            if not self._job.writer.has([name]):
                self._job.writer.write(name, value)

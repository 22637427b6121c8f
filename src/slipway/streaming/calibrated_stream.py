"""The pass with calibration: decoder layers in order, each merged, run, quantized, written, and gone.

    exact stream     h -> layer(W) -> h'         what the bf16 model computes: input scales, KV scales, E[x^2]
    carried stream   h -> layer(W_hat) -> h'     GPTQ only: what the quantized model computes so far

In memory are one layer's weights, those of the next, which is being read, and the hidden states of both streams. GPTQ
rounds a layer's matmuls in the order in which they are computed: each sees inputs that have come through everything
rounded before it, and is compensated for the drift from the bf16 model's inputs (`curvature`). A layer that a former
run finished is run, not rounded, again.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from slipway.calibration.input_statistics import InputOf, InputStatistics
from slipway.calibration.layer_calls import LayerSpec
from slipway.calibration.layer_walk import HiddenStates, LayerWalk
from slipway.config.quantize import QuantizeConfig
from slipway.errors import CheckpointError, ConfigError
from slipway.quantization import fusion, stacked_experts
from slipway.quantization.formats import Role
from slipway.quantization.hessian import Moments, compensated
from slipway.quantization.methods import Encoder, adapted, encoder
from slipway.streaming import tensor_plan
from slipway.streaming.budget import Budget
from slipway.streaming.loader import Loaded, Loader
from slipway.streaming.stream import (
    Pass,
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
    pass_: Pass, plan: Plan, tokens: torch.Tensor, model_dir: Path, params: QuantizeConfig, workers: int
) -> None:
    """Make every unit of a plan, with calibration on `tokens` int64 [N, T]."""
    walk = LayerWalk(model_dir, pass_.source, device=pass_.device, dtype=walk_dtype(pass_.device, params.method))
    units = plan.units(pass_.source)
    calibrated = CalibratedPass(pass_, units, walk, params)
    inside = {unit.name for layer in walk.layers for unit in calibrated.units(layer)}
    budget = Budget(params.memory_budget_gb * 1e9)
    warm_up(pass_, units)
    outside = [unit for unit in units if unit.name not in inside]
    _require_inputs(outside)
    stream(pass_, outside, workers, budget, encoder("max" if params.method == "max" else "mse", pass_.kernels))
    require_budget([unit for layer in walk.layers for unit in calibrated.units(layer)], budget, pass_.device)
    micro = params.calibration.micro_batch
    with worker_pool(workers) as pool:
        exact = walk.embed(tokens, micro_batch=micro)
        carried = exact.clone() if params.method == "gptq" else None
        coming = calibrated.fetch(walk.layers[0], pool)
        for layer, following in itertools.zip_longest(walk.layers, walk.layers[1:]):
            weights = {name: loading.result() for name, loading in coming.items()}
            coming = calibrated.fetch(following, pool) if following else {}  # while this layer is run
            calibrated.layer(layer, weights, exact, carried, pool)


def walk_dtype(device: torch.device, method: str) -> torch.dtype:
    """What the network computes in: bf16 as it is served, but fp32 where bf16 is slow and nothing is compared bit for
    bit."""
    return torch.float32 if device.type == "cpu" and method == "gptq" else torch.bfloat16


def _require_inputs(outside: Sequence[Unit]) -> None:
    """Raise ConfigError when a matmul that no decoder layer runs needs an input scale."""
    for unit in outside:
        if unit.fmt and unit.fmt.activations == "static":
            raise ConfigError(
                f"format of {fusion.module(unit.name)}",
                f"{unit.fmt.name}, with an input scale",
                "a matmul of a decoder layer: calibration runs those",
                "add it to quantize.exclude, or give it a weight-only format by rule",
            )


@dataclass(frozen=True)
class LayerState:
    """One decoder layer after the exact stream has run through it.

    `weights` are merged, by name; `remaining` are the units that no former run finished; `inputs` are, for GPTQ, the
    exact inputs of their matmuls [tokens, in], one mapping a micro-batch.
    """

    layer: LayerSpec
    weights: Mapping[str, Loaded]
    remaining: Sequence[Unit]
    statistics: InputStatistics
    inputs: Sequence[_WEIGHTS]

    @property
    def merged(self) -> _WEIGHTS:
        """The weights alone, bf16."""
        return {name: loaded.weight for name, loaded in self.weights.items()}


class CalibratedPass:
    """A pass over the decoder layers, one at a time: run, rounded, written."""

    def __init__(self, pass_: Pass, units: Sequence[Unit], walk: LayerWalk, params: QuantizeConfig) -> None:
        """`units`: all of the plan's; `walk` runs the layers of the same checkpoint."""
        self._pass, self._walk, self._params = pass_, walk, params
        self._local = threading.local()  # each thread's loader
        self._by_first = {unit.name: unit for unit in units if unit.fmt}

    def units(self, layer: LayerSpec) -> list[Unit]:
        """The units of a layer that are quantized; what is copied is the stream's."""
        return [self._by_first[name] for name in layer.names if name in self._by_first]

    def layer(
        self,
        layer: LayerSpec,
        weights: Mapping[str, Loaded],
        exact: HiddenStates,
        carried: HiddenStates | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        """Run one layer and write its quantized units and scales. Both streams move on in place; `carried` is None but
        for GPTQ. Raises CheckpointError when a scale cannot be calibrated."""
        state = self._run_exact(layer, weights, exact, keep_inputs=carried is not None)
        with torch.no_grad():
            if carried is None:
                self._write_all(state, pool)
            else:
                self._round_in_order(state, carried)
        for unit in self.units(layer):
            self._write_input_scales(unit, state.statistics)
        self._write_kv_scales(layer, state.statistics)

    def fetch(self, layer: LayerSpec, pool: ThreadPoolExecutor) -> dict[str, Future[Loaded]]:
        """Start loading a layer's tensors."""
        return {name: pool.submit(self._load, name) for name in layer.names}

    @torch.no_grad()
    def _load(self, name: str) -> Loaded:
        if not hasattr(self._local, "loader"):
            self._local.loader = Loader(self._pass.source, self._pass.device, self._pass.kernels)
        loader: Loader = self._local.loader
        return loader.load(name)

    def _write_all(self, state: LayerState, pool: ThreadPoolExecutor) -> None:
        @torch.no_grad()
        def write(unit: Unit) -> None:
            importance = state.statistics.importance(unit.weights)
            self._write(unit, state.weights, encoder(self._params.method, self._pass.kernels, importance))

        for done in [pool.submit(write, unit) for unit in state.remaining]:
            done.result()

    def _run_exact(
        self, layer: LayerSpec, weights: Mapping[str, Loaded], exact: HiddenStates, *, keep_inputs: bool
    ) -> LayerState:
        """Move the exact stream through the layer, with what its matmuls see."""
        remaining, inputs = unfinished(self._pass, self.units(layer)), []
        leaders = frozenset(unit.name for unit in remaining) if keep_inputs else frozenset()
        statistics = InputStatistics(layer.linears, leaders, squares=self._params.method == "mse")
        with self._walk.load(layer, {name: loaded.weight for name, loaded in weights.items()}) as module:
            for i, output in enumerate(self._walk.outputs(layer, module, exact, statistics)):
                exact.values[i] = output.to(exact.values[i].device)
                inputs.append(statistics.inputs)
                statistics.inputs = {}
        return LayerState(layer, weights, remaining, statistics, inputs)

    def _write(self, unit: Unit, weights: Mapping[str, Loaded], encode: Encoder) -> None:
        write_weights(self._pass, unit, {name: weights[name] for name in unit.weights}, encode)

    def _round_in_order(self, state: LayerState, carried: HiddenStates) -> None:
        """GPTQ: the units in the order of computation, then the carried stream moves on through what is on disk."""
        layer, merged, inputs = state.layer, state.merged, state.inputs
        todo = {unit.name: unit for unit in state.remaining}
        rounded: _WEIGHTS = {}
        for unit in self.units(layer):
            if unit.name not in todo:
                rounded |= self._read_back(unit)
        computed = dict.fromkeys(name for batch in inputs for name in batch)
        for leader in [name for name in computed if name in todo and merged[name].dim() == 2]:
            exact = [batch[leader] for batch in inputs if leader in batch]
            once = state.statistics.products[leader] == len(exact)
            written = self._adapt(layer, todo[leader], {**merged, **rounded}, exact, carried, once=once)
            if written:
                del todo[leader]
                rounded |= written
        self._pass.error.without_gptq += todo
        for unit in todo.values():  # stacked experts, and experts that the router did not choose
            self._write(
                unit,
                {name: Loaded(merged[name], merged[name].abs().amax().float()) for name in unit.weights},
                encoder("mse", self._pass.kernels),
            )
            rounded |= self._read_back(unit)
        with self._walk.load(layer, {**merged, **rounded}) as module:
            self._walk.run(layer, module, carried)

    def _adapt(
        self,
        layer: LayerSpec,
        unit: Unit,
        weights: _WEIGHTS,
        exact: Sequence[torch.Tensor],
        carried: HiddenStates,
        *,
        once: bool,
    ) -> _WEIGHTS:
        """The unit as rounded and written; nothing when no token comes by in the quantized network. `once`: its first
        weight is multiplied once in a layer."""
        assert unit.fmt
        paired = (
            fusion.container(unit.name) is None
        )  # routing may send other tokens to an expert of the quantized model
        moments = Moments(unit.name, weights[unit.name].shape[1], self._pass.device, drift=paired)
        wanted_input = InputOf(unit.name, last=paired and once)
        with self._walk.load(layer, weights) as module:
            for i, _ in enumerate(self._walk.watched(layer, module, carried, wanted_input)):
                if wanted_input.input is not None:
                    moments.add(wanted_input.input, exact[i] if paired else None)
                    wanted_input.input = None
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
            write_codes(self._pass, unit, name, unit.fmt, [part], scale)
        written = self._read_back(unit)
        for name, weight in written.items():
            self._pass.error.add(name, weights[name], weight)
        return written

    def _read_back(self, unit: Unit) -> _WEIGHTS:
        """What a runtime will compute with, from what was written, in bf16."""
        assert unit.fmt
        written = {}
        for name in unit.weights:
            places = tensor_plan.places(name, unit, self._pass.source, self._pass.layout)
            stored: dict[Role, torch.Tensor] = {
                role: self._pass.writer.read(place.name).to(self._pass.device)
                for role, place in places.items()
                if role != "input"
            }
            weight = self._pass.layout.decode(unit.fmt, stored).to(walk_dtype(self._pass.device, self._params.method))
            info = self._pass.source.info(name)
            written[name] = stacked_experts.restacked(weight, info) if len(info.shape) == 3 else weight
        return written

    def _write_input_scales(self, unit: Unit, statistics: InputStatistics) -> None:
        assert unit.fmt
        if unit.fmt.activations != "static":
            return
        for name in unit.weights:
            amax = statistics.amax(name)
            if amax is None:
                raise CheckpointError(
                    f"calibration of {fusion.module(name)}",
                    "no token came by",
                    f"inputs, for the input scale of {unit.fmt.name}",
                    "add calibration rows, or exclude the module",
                )
            place = tensor_plan.places(name, unit, self._pass.source, self._pass.layout)["input"]
            value = self._pass.layout.store(unit.fmt, "input", unit.fmt.input_scale(amax))
            if not self._pass.writer.has([place.name]):
                self._pass.writer.write(place.name, value.cpu())

    def _write_kv_scales(self, layer: LayerSpec, statistics: InputStatistics) -> None:
        attention = tensor_plan.attention_of(layer.linears)
        if self._params.kv_cache == "none" or attention is None:
            return
        for which, amax in zip(tensor_plan.KV, (statistics.keys, statistics.values), strict=True):
            if not amax > 0:
                raise CheckpointError(
                    f"calibration of {attention}",
                    f"largest of {which}: {float(amax)}",
                    "keys and values to scale",
                    "use kv_cache=none: this attention does not show them",
                )
            name, value = self._pass.layout.kv_scale(attention, which, amax.cpu())
            if not self._pass.writer.has([name]):
                self._pass.writer.write(name, value)

"""One pass over a checkpoint: every unit is read, merged, quantized and written by one of a few worker threads.

    worker:  read bands -> add the LoRA product, round -> max|W| of the unit -> encode bands -> write at their offsets

Units are independent and their outputs have fixed places, so the bytes do not depend on the order of work. Workers
overlap each other's reading, computing and writing; what they hold together is bounded by a budget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch

from slipway.errors import ResourceError
from slipway.quantization import stacked_experts
from slipway.quantization.compiled import Kernels
from slipway.quantization.formats import Format, Role
from slipway.quantization.layouts import Layout
from slipway.quantization.methods import Encode, Encoder
from slipway.streaming import tensor_plan
from slipway.streaming.budget import Budget
from slipway.streaming.loader import Loaded, Loader, band_rows, largest, on_host
from slipway.streaming.meter import Meter
from slipway.streaming.tensor_plan import Unit
from slipway.streaming.weight_error import WeightError
from slipway.system.memory import keep_freed_memory
from slipway.weights.dequantized import PackedExperts
from slipway.weights.rounded_merge import add_product
from slipway.weights.shard_writer import ShardWriter, bytes_of
from slipway.weights.shards import WeightSource

_SAMPLED = 1 << 16  # weights of each tensor whose error is measured on the way; encoding them again costs nothing


@dataclass(frozen=True)
class Pass:
    """All that a worker needs."""

    source: WeightSource
    layout: Layout
    writer: ShardWriter
    device: torch.device
    kernels: Kernels
    meter: Meter
    error: WeightError


def stream(pass_: Pass, units: Sequence[Unit], workers: int, budget: Budget, encoder: Encoder) -> None:
    """Make every unit that the writer does not have yet. Raises the first worker's error once all have stopped."""
    require_budget(units, budget, pass_.device)
    keep_freed_memory()
    remaining = iter(unfinished(pass_, units))
    warm_up(pass_, units)
    pass_.meter.start()
    lock, stop = threading.Lock(), threading.Event()

    def work() -> None:
        loader = Loader(pass_.source, pass_.device, pass_.kernels)
        while not stop.is_set():
            with lock:
                unit = next(remaining, None)
            if unit is None:
                return
            with budget.hold(cost(unit, pass_.device)):
                make_unit(pass_, unit, loader, encoder)
                loader.end(budget.nbytes / workers)

    run_threads(work, workers, stop)


def unfinished(pass_: Pass, units: Iterable[Unit]) -> list[Unit]:
    """The units that a former run did not finish; what it left of them is forgotten."""
    remaining = []
    for unit in units:
        names = written_names(pass_, unit)
        if pass_.writer.has(names):
            pass_.meter.advance(unit.nbytes, unit.name)
        else:
            pass_.writer.drop(names)
            remaining.append(unit)
    return remaining


def warm_up(pass_: Pass, units: Iterable[Unit]) -> None:
    """Compile what the pass needs before the workers start. Where compiled code does not give the eager bits, as in
    some versions of torch, the pass runs eagerly."""
    random = torch.Generator().manual_seed(0)
    weight, product = (torch.randn(96, 512, generator=random).to(pass_.device) for _ in range(2))
    band, scale = weight.to(torch.bfloat16), torch.full((), 0.0017, device=pass_.device)
    formats = {unit.fmt.name: unit.fmt for unit in units if unit.fmt}.values()
    bound = torch.full((96,), 1e-3, device=pass_.device)
    if pass_.device.type != "cpu":  # as `rounded_merge.Factors` makes them there
        product, bound = product.double(), bound.double()
    trials: list[tuple[Callable[..., Any], list[torch.Tensor]]] = []
    if pass_.kernels.merge() is None:
        trials += [(largest, [band]), (add_product, [band, product, bound, band.clone(), band.clone()])]
    trials += [(fmt.encode, [band, scale]) for fmt in formats]

    def try_all() -> None:
        for function, tensors in trials:
            pass_.kernels.try_out(function, tensors)

    run_threads(try_all, 1, threading.Event())  # in a worker's thread: torch compiles for a thread's settings


def run_threads(work: Callable[[], None], workers: int, stop: threading.Event) -> None:
    """Run `work` in several threads, each with one compute thread; stop all at the first error and raise it."""
    with worker_pool(workers) as pool:
        running = [pool.submit(torch.no_grad()(work)) for _ in range(workers)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    for done in running:
        done.result()


def worker_pool(workers: int) -> ThreadPoolExecutor:
    """Threads that compute with one thread each; torch keeps that number by thread."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def cost(unit: Unit, device: torch.device) -> int:
    """Bytes that a unit holds while it is made: its weights in bf16, or a band when it is passed on."""
    return min(unit.nbytes, 8 * band_rows(1, device)) if unit.fmt is None else unit.nbytes


def require_budget(units: Iterable[Unit], budget: Budget, device: torch.device) -> None:
    """Raise ResourceError when one unit alone is more than the budget."""
    largest = max(units, key=lambda unit: cost(unit, device), default=None)
    if largest and cost(largest, device) > budget.nbytes:
        need = cost(largest, device) / 1e9
        raise ResourceError(
            "quantize.memory_budget_gb",
            f"{budget.nbytes / 1e9:.3f} GB",
            f"at least {need:.3f} GB, for the fused group of {largest.name}",
            f"raise it to {need + 0.001:.3f} or more",
        )


def written_names(pass_: Pass, unit: Unit) -> list[str]:
    """What the writer calls the parts that are made with a unit; input scales come later."""
    if unit.fmt is None:
        return [unit.key]
    places = [tensor_plan.places(name, unit, pass_.source, pass_.layout) for name in unit.weights]
    return [place.name for by_role in places for role, place in by_role.items() if role != "input"]


def make_unit(pass_: Pass, unit: Unit, loader: Loader, encode: Encoder) -> None:
    """Read, merge, quantize and write one unit."""
    if unit.fmt is None:
        _copy_unit(pass_, unit, loader)
        return
    loader.begin(unit.nbytes)
    write_weights(pass_, unit, {name: loader.load(name) for name in unit.weights}, encode)


def write_weights(pass_: Pass, unit: Unit, loaded: Mapping[str, Loaded], encoder: Encoder) -> None:
    """Quantize and write the weights of one unit, which are in memory, band by band."""
    assert unit.fmt
    stacked = next(iter(loaded.values())).weight.dim() == 3
    fmt = unit.fmt.stacked() if stacked else unit.fmt
    encode = encoder(fmt)
    scale = fmt.scale(torch.stack([tensor.amax for tensor in loaded.values()]).amax())
    for name, tensor in loaded.items():
        rows = stacked_experts.rows(tensor.weight) if stacked else tensor.weight
        bands = [rows] if stacked else _bands(rows, pass_.device, near=not pass_.kernels.reads_once(fmt.encode))
        codes = (_in_turn(pass_, encode, band, scale) for band in bands)
        write_codes(pass_, unit, name, fmt, codes, scale)
        with pass_.kernels.turn:
            _measure(pass_.error, name, rows, fmt, encode, scale)


def _bands(rows: torch.Tensor, device: torch.device, *, near: bool) -> Iterator[torch.Tensor]:
    """Runs of rows. `near`: on a CPU each is copied into one buffer that stays in the core's cache, because the loops
    that torch compiles read it more than once and wait for memory otherwise (1.0 against 1.3 GB/s). Good until the
    next."""
    if device.type != "cpu" or not near:
        yield from torch.split(rows, band_rows(rows.shape[1], device))
        return
    buffer = torch.empty(0, dtype=rows.dtype)
    for band in torch.split(rows, band_rows(rows.shape[1], device)):
        buffer = buffer if buffer.shape[0] >= len(band) else torch.empty_like(band)
        yield buffer[: len(band)].copy_(band)


def _in_turn(pass_: Pass, encode: Encode, rows: torch.Tensor, scale: torch.Tensor) -> Mapping[Role, torch.Tensor]:
    with pass_.kernels.turn:
        return encode(rows, scale)


def write_codes(
    pass_: Pass, unit: Unit, name: str, fmt: Format, bands: Iterable[Mapping[Role, torch.Tensor]], scale: torch.Tensor
) -> None:
    """Write what rounding made of one weight, from the first band of rows to the last, and its scalar."""
    places, info = tensor_plan.places(name, unit, pass_.source, pass_.layout), pass_.source.info(name)
    shapes = fmt.outputs(stacked_experts.logical(info)) if len(info.shape) == 3 else {}
    for band in bands:
        for role, value in band.items():
            value = value.reshape(shapes[role].shape) if shapes else value
            stored = on_host(pass_.layout.store(fmt, role, value))
            if isinstance(pass_.source, PackedExperts):
                stored = pass_.source.with_stored(places[role].name, stored)
            pass_.writer.append(places[role].name, bytes_of(stored))
    if fmt.scalar:
        pass_.writer.write(places["scalar"].name, pass_.layout.store(fmt, "scalar", scale).cpu())
    pass_.meter.advance(info.nbytes, name)


def _copy_unit(pass_: Pass, unit: Unit, loader: Loader) -> None:
    for begin, count in loader.bands(unit.name, unit.rows):
        pass_.writer.append(unit.key, bytes_of(on_host(loader.band(unit.name, begin, count, as_stored=unit.as_stored))))
    pass_.meter.advance(unit.nbytes, unit.name)


def _measure(
    error: WeightError, name: str, weight: torch.Tensor, fmt: Format, encode: Encode, scale: torch.Tensor
) -> None:
    """Relative squared error of the first rows: enough of them to know it within a percent."""
    rows = weight[: max(1, _SAMPLED // weight.shape[1])]
    error.add(name, rows, fmt.decode(encode(rows, scale), scale))

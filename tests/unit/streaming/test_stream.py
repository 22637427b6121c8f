"""One pass: the order of work does not matter, what is in flight stays within the budget, and progress tells the
truth."""

import json
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import CheckpointError, ResourceError
from slipway.streaming import loader, tensor_plan
from slipway.streaming.budget import Budget
from slipway.streaming.directories import quantize_directory
from slipway.streaming.stream import cost, require_budget, run_threads
from slipway.streaming.tensor_plan import Unit
from slipway.streaming.weight_error import WeightError
from slipway.system.memory import PeakMemory, anonymous_bytes
from slipway.system.progress import Progress
from slipway.weights.shard_writer import ShardWriter
from slipway.weights.shards import Shards
from tests.oracles.modelopt_oracle import tensors
from tests.support.pico import pico_model
from tests.support.streaming import config, decoded, quantized

CPU = torch.device("cpu")
GROUP = 64 * 128 * 2 * 2  # gate and up of the pico model, bytes


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("base"), shards=3)


@contextmanager
def watched(monkeypatch):
    """[bytes held now, most held at a time, most held by one, holds] of every budget."""
    records, lock, hold = [0, 0, 0, 0], threading.Lock(), Budget.hold

    @contextmanager
    def counted(self, nbytes):
        with hold(self, nbytes):
            with lock:
                records[0] += nbytes
                records[1:] = max(records[:2]), max(records[2], nbytes), records[3] + 1
            yield
            with lock:
                records[0] -= nbytes

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "hold", counted)
        yield records


@pytest.mark.parametrize("groups", [1, 1.7, 3])
def test_no_more_than_the_budget_is_in_flight(tmp_path, monkeypatch, base, groups):
    monkeypatch.setattr(loader, "CPU_BAND", 64)
    with watched(monkeypatch) as records:
        quantized(base, tmp_path / "out", workers=6, memory_budget_gb=groups * GROUP / 1e9)
    held, most, one, holds = records
    assert (held, one) == (0, GROUP) and GROUP <= most <= groups * GROUP and holds > 20


def test_a_group_larger_than_the_budget_is_refused_with_the_number_to_set(tmp_path, monkeypatch, base):
    monkeypatch.setattr(loader, "CPU_BAND", 64)
    with pytest.raises(
        ResourceError,
        match=r"memory_budget_gb: .*expected at least .* GB, for the fused group of model\.layers\.0\.mlp\.gate_proj",
    ):
        quantized(base, tmp_path / "out", memory_budget_gb=(GROUP - 1) / 1e9)
    large = [Unit(("a.weight",), object(), 3_000_000_000)]
    with pytest.raises(ResourceError, match=r"2\.000 GB; expected at least 3\.000 GB, .* raise it to 3\.001 or more"):
        require_budget(large, Budget(2e9), CPU)
    require_budget(large, Budget(3.001e9), CPU)


def test_what_is_passed_on_costs_a_band_not_the_tensor():
    assert cost(Unit(("a",), None, 10**12), CPU) == 8 * loader.CPU_BAND and cost(Unit(("a",), None, 100), CPU) == 100
    assert cost(Unit(("a",), object(), 10**12), CPU) == 10**12


def events(base, out, **params):
    file = out.parent / f"{out.name}.jsonl"
    with Progress(file, every_s=0) as progress:
        quantized(base, out, progress=progress, **params)
    return [event for line in file.read_text().splitlines() if (event := json.loads(line))["event"] == "progress"]


def test_progress_counts_every_byte_to_the_end_from_any_thread(tmp_path, monkeypatch, base):
    monkeypatch.setattr(tensor_plan, "PIECE", 10_000)
    progress_events, source = events(base, tmp_path / "out", workers=6), Shards.open(base)
    total, done = sum(source.info(name).nbytes for name in source.names()), [event["done"] for event in progress_events]
    assert done == sorted(set(done)) and done[-1] == total and {event["total"] for event in progress_events} == {total}
    assert {event["unit"] for event in progress_events} == {"bytes"} and {
        event["what"] for event in progress_events
    } == {"quantize"}
    assert {event["tensor"] for event in progress_events} == set(source.names())
    assert all(event["gb_per_s"] >= 0 and event["eta_s"] >= 0 and event["anon_gb"] > 0.01 for event in progress_events)
    assert progress_events[-1]["eta_s"] == 0


def test_progress_of_a_run_that_goes_on_starts_where_it_was(tmp_path, monkeypatch, base):
    append, left = ShardWriter.append, [40]

    def stops(self, name, data):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        append(self, name, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ShardWriter, "append", stops)
        quantized(base, tmp_path / "out", workers=1)
    done = [event["done"] for event in events(base, tmp_path / "out", workers=1)]
    assert done == sorted(done) and done[-1] == sum(t.nbytes for t in tensors(base).values())


def test_a_tied_head_that_is_not_written_is_not_counted(tmp_path):
    model = pico_model(tmp_path / "base", layers=1)
    stored = tensors(model)
    save_file({**stored, "lm_head.weight": stored["model.embed_tokens.weight"].clone()}, model / "model.safetensors")
    last = events(model, tmp_path / "out")[-1]
    assert last["done"] == last["total"] == sum(t.nbytes for t in stored.values())


def test_the_first_error_stops_every_thread_and_is_raised():
    stop, started = threading.Event(), threading.Barrier(4)

    def work():
        if started.wait(120) == 0:
            raise KeyError("first")
        assert stop.wait(120)

    with pytest.raises(KeyError, match="first"):
        run_threads(work, 4, stop)


def test_threads_compute_with_one_thread_each_without_gradients_and_leave_the_callers_alone():
    torch.set_num_threads(2)
    records = []
    run_threads(lambda: records.append((torch.get_num_threads(), torch.is_grad_enabled())), 3, threading.Event())
    assert records == [(1, False)] * 3 and torch.get_num_threads() == 2 and torch.is_grad_enabled()


def test_an_error_in_one_unit_ends_the_pass(tmp_path, monkeypatch, base):
    fetch = Shards.fetch

    def damaged(self, name, out, start):
        if name == "model.layers.2.mlp.up_proj.weight":
            raise CheckpointError("x", "y", "z", "w")
        fetch(self, name, out, start)

    monkeypatch.setattr(Shards, "fetch", damaged)
    with pytest.raises(CheckpointError):
        quantized(base, tmp_path / "out", workers=4, memory_budget_gb=GROUP * 2 / 1e9)


@pytest.mark.parametrize("fmt", ["nvfp4a16", "fp8-dynamic"])
def test_the_error_is_that_of_what_was_written(tmp_path, base, fmt):
    """Of small tensors every row is measured."""
    figures = quantize_directory(base, None, None, tmp_path / "out", config(format=fmt), Progress())
    weights, source = decoded(base, tmp_path / "out", fmt), tensors(base)
    names = [name for name in source if "proj" in name]
    squared = sum(float((weights[name] - source[name].float()).square().sum()) for name in names)
    assert figures["relative_weight_mse"] == pytest.approx(
        squared / sum(float(source[name].float().square().sum()) for name in names), rel=1e-4
    )
    assert WeightError().relative == 0


ROWS, COLUMNS, TENSORS = 2048, 3072, 15  # 12.6 MB each, 189 MB together
LARGEST = 3 * ROWS * COLUMNS * 2  # q, k and v


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model in four shards: five times q, k, v. A group is more than malloc would keep for a thread when it is
    freed."""
    folder = pico_model(tmp_path_factory.mktemp("large"), layers=1)
    weight = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    names = [f"model.layers.{i}.self_attn.{m}_proj.weight" for i in range(TENSORS // 3) for m in "qkv"]
    small = tensors(folder)
    (folder / "model.safetensors").unlink()
    shards = [
        {n: weight.roll(j, 0) for j, n in enumerate(names[i::4])}
        | ({name: small[name] for name in ("model.norm.weight", "model.embed_tokens.weight")} if not i else {})
        for i in range(4)
    ]
    for i, shard in enumerate(shards, 1):
        save_file(shard, folder / f"model-{i:05d}-of-00004.safetensors", {"format": "pt"})
    weight_map = {n: f"model-{i:05d}-of-00004.safetensors" for i, shard in enumerate(shards, 1) for n in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def peak_of_a_pass(folder, out, workers):
    """Anonymous bytes that a pass over `folder` adds to this process at its peak."""
    few = {"*.layers.[1-9].*": "bf16"}
    quantized(folder, out / "once", workers=1, memory_budget_gb=LARGEST / 1e9, rules=few)  # torch loads code lazily
    before = anonymous_bytes()
    with PeakMemory(every_s=0.002) as memory:
        quantized(folder, out / "out", workers=workers, memory_budget_gb=LARGEST / 1e9)
    return memory.peak - before


@pytest.mark.parametrize("workers", [1, 2])
def test_memory_is_bounded_by_the_largest_group_not_by_the_model(tmp_path, large, workers):
    """The budget, which is one group here, 20 MB, and 36 MB a thread: a band's fp32 numbers, and what malloc keeps of
    them. In a process of its own: malloc hands out again what other tests left to it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        peak = alone.submit(peak_of_a_pass, large, tmp_path, workers).result()
    assert LARGEST < peak < LARGEST + 20e6 + workers * 36e6 < 0.7 * TENSORS * ROWS * COLUMNS * 2


def test_what_idle_threads_keep_stays_within_the_budget_too(tmp_path, monkeypatch, base):
    monkeypatch.setattr(loader, "CPU_BAND", 64)
    loaders, most, end, init = [], [0], loader.Loader.end, loader.Loader.__init__

    def made(self, *args):
        init(self, *args)
        loaders.append(self)

    def ended(self, share):
        end(self, share)
        most[0] = max(most[0], sum(each._arena.numel() for each in loaders))

    monkeypatch.setattr(loader.Loader, "__init__", made)
    monkeypatch.setattr(loader.Loader, "end", ended)
    quantized(base, tmp_path / "out", workers=6, memory_budget_gb=1.5 * GROUP / 1e9)
    assert len(loaders) == 6 and 0 < most[0] <= 2 * 1.5 * GROUP

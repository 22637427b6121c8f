"""`slipway quantize` and `slipway merge` on any directory: killed at any moment they go on, and they refuse to write
over anything."""

import json
import os
import re
import shutil
import subprocess
import sys
from errno import ENOSPC

import pytest

from slipway.errors import ConfigError, ResourceError
from slipway.streaming import tensor_plan as plan
from slipway.streaming.directories import merge_directory
from slipway.system.progress import Progress
from slipway.weights.checkpoint_files import INDEX
from slipway.weights.journal import RESUME_FILE
from slipway.weights.shard_writer import ShardWriter
from slipway.weights.shards import Shards
from tests.support.killing import killed_at
from tests.support.pico import pico_adapter, pico_model
from tests.support.streaming import calibration_rows, config, files, quantized, same

SHARDS = {"max_shard_gb": 3e-6}  # q, k and v lie in two shards


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("base"), shards=2, layers=1)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return pico_adapter(tmp_path_factory.mktemp("adapter"), layers=[0])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return calibration_rows(tmp_path_factory.mktemp("rows") / "train.jsonl")


def recorded(folder):
    """Tensors that the journal has, a last line cut short aside."""
    journal = folder / RESUME_FILE
    lines = (
        [line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if journal.exists()
        else []
    )
    return {json.loads(line)["tensor"] for line in lines[1:]}


def go_on(work, out):
    """Run to the end; the tensors it wrote."""
    written, append = set(), ShardWriter.append

    def appended(self, name, data):
        written.add(name)
        append(self, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardWriter, "append", appended)
        work(out)
    return written


def killed_everywhere(tmp_path, work, whole, units=lambda name: name, every=1):
    """Kill `work` at each of its steps, go on, and compare with the undisturbed run; returns the number of steps.

    `units`: name of a tensor -> those made together: one of them missing, all are made again."""
    step, out = 1, tmp_path / "killed"
    while killed_at(step, lambda: work(out)):
        if (out / INDEX).exists():
            Shards.open(out)  # every shard is there, and whole
        had = recorded(out)
        # killed behind the last step on the output, while the merge's temporary folder was cleared: it is finished
        finished = (out / INDEX).exists() and not (out / RESUME_FILE).exists()
        written = set() if finished else go_on(work, out)
        assert files(out) == whole, f"step {step}"
        assert {units(name) for name in written} == {units(name) for name in written - had}, (
            f"step {step} wrote finished tensors again"
        )
        shutil.rmtree(out)
        step += every
    assert files(out) == whole
    return step


def fused(name):
    """Tensors of one unit have one name here."""
    for member, unit in (
        ("q_proj", "qkv"),
        ("k_proj", "qkv"),
        ("v_proj", "qkv"),
        ("gate_proj", "gate_up"),
        ("up_proj", "gate_up"),
    ):
        name = name.replace(member, unit)
    return name if "#" in name else name.partition(".weight")[0]


EVERY = 1 if os.environ.get("SLIPWAY_SOAK_STEPS") == "all" else 3  # `make soak` kills at every step


@pytest.mark.parametrize("workers, every", [(1, EVERY), (4, 7)])
def test_quantize_killed_at_any_step_goes_on(tmp_path, monkeypatch, base, adapter, workers, every):
    """The embedding is passed on in three pieces, which are finished one by one."""
    monkeypatch.setattr(plan, "PIECE", 20_000)

    def work(out):
        quantized(base, out, adapter=adapter, workers=workers, **SHARDS)

    work(tmp_path / "whole")
    whole = files(tmp_path / "whole")
    assert sum(name.startswith("model-") for name in whole) > 5 and INDEX in whole
    assert killed_everywhere(tmp_path, work, whole, fused, every) > 90


def test_merge_killed_at_any_step_goes_on(tmp_path, base, adapter):
    def work(out):
        merge_directory(base, adapter, out, config(workers=1, max_shard_gb=5e-5), Progress())

    work(tmp_path / "whole")
    assert killed_everywhere(tmp_path, work, files(tmp_path / "whole"), every=2) > 40


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path, rows):
    """Calibrated, by GPTQ: a layer that was finished is run, not rounded, again. Every attempt gets a little
    further."""
    want = {
        "format": "nvfp4",
        "method": "gptq",
        "kv_cache": "fp8",
        "calibration": rows,
        "workers": 1,
        "max_shard_gb": 2e-5,
    }

    base = pico_model(tmp_path / "base", layers=2)

    def work(out):
        quantized(base, out, **want)

    work(tmp_path / "whole")
    whole, out, deaths = files(tmp_path / "whole"), tmp_path / "out", 0
    while killed_at(45, lambda: work(out)):  # more than a fused group takes, which is made as a whole
        deaths += 1
        assert deaths < 20
        assert not (out / INDEX).exists() or Shards.open(out)
    assert deaths >= 3 and files(out) == whole


@pytest.mark.parametrize("fmt, method", [("nvfp4", "max"), ("nvfp4a16", "gptq")])
def test_a_calibrated_run_killed_in_the_middle_of_a_layer_goes_on(tmp_path, base, rows, fmt, method):
    def work(out):
        quantized(base, out, format=fmt, method=method, kv_cache="fp8", calibration=rows, workers=1, max_shard_gb=3e-6)

    work(tmp_path / "whole")
    assert killed_everywhere(tmp_path, work, files(tmp_path / "whole"), fused, every=17) > 90


def stopped(base, out, monkeypatch, *, written=30, **params):
    """An unfinished run: its disk was full after a number of writes. The error."""
    left, pwrite = [written], os.pwrite

    def full(fd, data, offset):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(ENOSPC, "No space left on device")
        return pwrite(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(ResourceError) as caught:
            quantized(base, out, **SHARDS, **params)
    return str(caught.value)


@pytest.mark.parametrize("params", [{}, {"format": "nvfp4", "workers": 1}])
def test_a_full_disk_is_one_clear_error_and_the_work_goes_on_from_there(tmp_path, monkeypatch, base, rows, params):
    params = {**params, **({"calibration": rows} if params else {})}
    out = tmp_path / "out"
    message = stopped(base, out, monkeypatch, **params)
    assert f"disk: full while writing {out}" in message and "free space" in message
    assert not (out / INDEX).exists()
    had = recorded(out)
    assert had
    written = go_on(lambda out: quantized(base, out, **SHARDS, **params), out)
    assert {fused(name) for name in written} == {fused(name) for name in written - had}
    assert same(out, quantized(base, tmp_path / "whole", **SHARDS, **params))


def test_a_full_disk_that_is_known_of_beforehand_costs_no_work(tmp_path, monkeypatch, base):
    monkeypatch.setattr(
        "slipway.weights.shard_writer.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000)
    )
    with pytest.raises(ResourceError, match=r"disk of .*0\.00 GB free; expected 0\.00 GB for the checkpoint"):
        quantized(base, tmp_path / "out")
    monkeypatch.undo()
    quantized(base, tmp_path / "out")


def test_a_changed_byte_of_unfinished_work_is_noticed(tmp_path, monkeypatch, base):
    whole = quantized(base, tmp_path / "whole", **SHARDS)
    stopped(base, tmp_path / "out", monkeypatch, workers=1)
    name = "model.layers.0.mlp.down_proj.weight_scale"
    file = next(file for file in (tmp_path / "out").glob("model-*") if name in header(file))
    data, (begin, _) = bytearray(file.read_bytes()), header(file)[name]["data_offsets"]
    data[8 + int.from_bytes(data[:8], "little") + begin] ^= 1
    file.write_bytes(data)
    had = recorded(tmp_path / "out")
    written = go_on(lambda out: quantized(base, out, **SHARDS), tmp_path / "out")
    unfinished = {fused(other) for other in written - had}
    assert name in written and {fused(other) for other in written} - unfinished == {fused(name)}
    assert files(tmp_path / "out") == files(whole)


def header(file):
    data = file.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def newer(model):
    """The same model with one byte of a shard changed."""
    file = sorted(model.glob("*.safetensors"))[0]
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_unfinished_work_is_not_mixed_with_another_job(tmp_path, monkeypatch, rows):
    base, adapter = pico_model(tmp_path / "base", layers=1, shards=2), pico_adapter(tmp_path / "adapter", layers=[0])
    lines, out = tmp_path / "rows.jsonl", tmp_path / "out"
    lines.write_bytes(rows.read_bytes())
    asked = {"format": "nvfp4", "adapter": adapter, "calibration": lines}
    stopped(base, out, monkeypatch, **asked)
    before = files(out)

    def refused(key, **params):
        with pytest.raises(ConfigError, match=rf"unfinished work in .*made with {key} = .*expected {key} = .*delete"):
            quantized(base, out, **{**SHARDS, **asked, **params})
        assert files(out) == before

    refused("method", method="mse")
    refused("format", format="fp8")
    refused("rules", rules={"*.o_proj": "bf16"})
    refused("adapter", adapter=None)
    refused("adapter", adapter=pico_adapter(tmp_path / "other", layers=[0], seed=5))
    refused("adapter", adapter=pico_adapter(tmp_path / "alpha", layers=[0], alpha=16))
    with pytest.raises(ConfigError, match=r"made with adapter = |made with calibration = "):
        merge_directory(base, adapter, out, config(**SHARDS), Progress())
    with monkeypatch.context() as patch:
        patch.setattr("slipway.streaming.export.__version__", "99")
        refused("tool")
    with monkeypatch.context() as patch:
        patch.setattr("slipway.streaming.export.code_digest_of", lambda _: "0" * 64)
        refused("tool")
    with lines.open("a") as file:
        file.write('{"text": "one more"}\n')
    refused("calibration")
    lines.write_bytes(rows.read_bytes())
    newer(base)
    refused("base")
    newer(base)
    refused("base")  # the same bytes again, but who knows: the file is another


def test_where_and_how_fast_it_runs_may_change(tmp_path, monkeypatch, base):
    stopped(base, tmp_path / "out", monkeypatch)
    quantized(base, tmp_path / "out", **SHARDS, workers=3, memory_budget_gb=1.0, compile="auto")
    assert same(tmp_path / "out", quantized(base, tmp_path / "whole", **SHARDS))


def test_nothing_is_written_over(tmp_path, base, adapter):
    out = quantized(base, tmp_path / "out")
    before = files(out)
    for work in (lambda: quantized(base, out), lambda: merge_directory(base, adapter, out, config(), Progress())):
        with pytest.raises(ConfigError, match=r"--out: .* is not empty; expected a new or unfinished directory"):
            work()
    assert files(out) == before
    with pytest.raises(ConfigError, match=r"--out: .*another directory than the model's"):
        quantized(base, base / ".." / base.name)
    with pytest.raises(ConfigError, match=r"--out: .* is a file"):
        quantized(base, base / "config.json")
    (tmp_path / "empty").mkdir()
    quantized(base, tmp_path / "empty")


def slipway(*args, **env):
    """(exit code, stdout, stderr) of the command line."""
    ran = subprocess.run(
        [sys.executable, "-m", "slipway", *map(str, args)], capture_output=True, text=True, env={**os.environ, **env}
    )
    return ran.returncode, ran.stdout, ran.stderr


QUICK = ("--set", "device=cpu", "--set", "compile=off")


def test_the_command_line_quantizes(tmp_path, base, adapter, rows):
    out = tmp_path / "out"
    calibrated = (
        "--set",
        "calibration.length=24",
        "--set",
        "calibration.samples=6",
        "--set",
        "calibration.micro_batch=1",
    )
    code, printed, stderr = slipway(
        "quantize",
        base,
        "--adapter",
        adapter,
        "--format",
        "nvfp4",
        "--calibration",
        rows,
        "--out",
        out,
        "--json",
        *QUICK,
        *calibrated,
    )
    assert code == 0, stderr
    figures = json.loads(printed)
    assert figures["format"] == "nvfp4" and figures["calibration_tokens"] == 144
    assert same(out, quantized(base, tmp_path / "here", adapter=adapter, format="nvfp4", calibration=rows))
    assert re.search(
        r"quantize [\d.]+ k?B/123\.3 kB, [\d.e-]+ GB/s, ETA \d+:\d\d, [\d.]+ GB memory, model\.", stderr
    )  # no terminal


def test_the_command_line_merges_and_says_what_is_wrong_with_exit_codes(tmp_path, base, adapter):
    out = tmp_path / "out"
    code, printed, stderr = slipway("merge", base, adapter, "--out", out, *QUICK)
    assert code == 0, stderr
    assert str(out.name) in printed.replace("\n", "")
    merge_directory(base, adapter, tmp_path / "here", config(), Progress())
    assert same(out, tmp_path / "here")
    code, printed, stderr = slipway("quantize", base, "--format", "nvfp5", "--out", tmp_path / "no", "--json")
    assert code == 2 and "nvfp5" in json.loads(printed)["error"]["value"], stderr
    assert not (tmp_path / "no").exists()

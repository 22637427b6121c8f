"""Every benchmark runs at its smallest and prints one line of JSON with what its table needs; nothing here looks at a
time."""

import argparse
import json
import subprocess
import sys

import pytest

from benchmarks import ceilings, gate_simulation, planner_grid
from benchmarks.gpu_stream import shares
from tests.oracles.modelopt_oracle import ROOT
from tests.support.evaluations import evaluation
from tests.support.pico import pico_model

SMALL = {
    "gate_simulation": ["--pairs", "60", "--chains", "1"],
    "cpu_stream": ["--shape", "tiny", "--peer-shape", "tiny", "--pairs", "1", "--peer-pairs", "1", "--compile", "auto"],
    "gpu_stream": [
        "--shape",
        "tiny",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--compile",
        "auto",
        "off",
        "--routes",
        "documented",
    ],
    "seventy_b": [
        "--shape",
        "tiny",
        "--stored-layers",
        "1",
        "--device",
        "cpu",
        "--compile",
        "off",
        "--format",
        "nvfp4",
        "--set",
        "calibration.samples=2",
        "--set",
        "calibration.length=32",
    ],
    "prepare": ["--rows", "400"],
    "canary": ["--runs", "4", "--most", "600"],
    "watch_simulation": ["--weeks", "3", "--runs", "1"],
    "bundle": ["--layers", "4", "--mb", "1", "--changed", "1"],
    "streamed_reference": ["--shape", "tiny", "--rows", "6", "--tokens", "32"],
    "startup": [
        "--repeats",
        "1",
        "--workers",
        "1",
        "--routes",
        "--starts",
        "import torch",
        "slipway --help",
        "slipway quantize, tiny",
    ],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The last lines, all benchmarks on one written model."""
    work = tmp_path_factory.mktemp("work")
    (work / "gpu_stream" / "ceiling-0").mkdir(parents=True)  # in the way of the ceilings' files
    return {name: run(name, [*options, "--work", str(work / name)]) for name, options in SMALL.items()}


def run(name, options):
    ran = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert len(ran.stdout.splitlines()) == 1
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", SMALL)
def test_says_what_was_measured_and_where(results, name):
    result = results[name]
    assert result["benchmark"].startswith(name) and f"benchmarks.{name}" in result["command"]
    assert result["commit"] and result["machine"]["cores"] >= 1 and result["machine"]["versions"]["torch"]


def test_cpu_stream_has_ours_and_the_eager_peer(results):
    result = results["cpu_stream"]
    assert all(figures["gb_per_s"] > 0 for figures in (result["1_core"], *result["on_slice"].values()))
    assert result["on_slice"]["eager_torch"]["kernels"] == "eager: as asked"
    assert result["times_faster"].keys() == {"eager_torch"}
    assert 0 < result["1_core"]["anonymous_peak_gb"] <= result["1_core"]["rss_peak_gb"]


def test_gpu_stream_has_the_peer_by_phases(results):
    result = results["gpu_stream"]
    assert result["peft_and_modelopt"]["documented"]["phases_s"].keys() == {
        "load",
        "merge",
        "save",
        "load_again",
        "quantize",
        "export",
    }
    assert result["times_faster"]["documented"].keys() == {"ours", "ours_compile_off"}


def test_a_part_that_fails_is_named_and_the_rest_is_measured(results):
    result = results["gpu_stream"]
    assert result["errors"].keys() == {"ceilings"} and "ceiling-0" in result["errors"]["ceilings"]
    assert result["ours"]["gb_per_s"] > 0


def test_seventy_b_is_of_all_layers_though_fewer_are_stored(results):
    result = results["seventy_b"]
    assert result["stored_layers"] == 1 and "error" not in result
    assert result["runs"][0]["quantized_tensors"] == 2 * 7
    assert result["runs"][0]["calibration_tokens"] == 2 * 32


def test_the_streamed_reference_agrees_with_the_model_held_whole(results):
    result = results["streamed_reference"]
    assert (result["rows"], result["ours"]["models"], result["whole"]["models"]) == (6, 2, 1)
    assert result["difference_nats_per_token"] < 1e-4 and result["ours"]["kl"] > 0
    assert all(result[part]["anonymous_peak_gb"] > 0 for part in ("ours", "whole"))


def test_a_second_bundle_moves_only_what_changed(results):
    result = results["bundle"]
    assert 0 < result["second_moves_gb"] < result["weights_gb"] / 4
    assert result["files"] == 7, "four layers, the embedding, the index, the config"


def test_startup_has_whole_processes_and_what_they_import(results):
    result = results["startup"]
    assert result["errors"] == {}
    assert result["starts"].keys() == {"import torch", "slipway --help", "slipway quantize, tiny"}
    assert result["of_import_torch"]["import torch"] == 1.0
    assert 0 < result["starts"]["slipway --help"]["modules"] < result["starts"]["import torch"]["modules"]
    assert "torch" in result["slowest_imports"]["import torch"]
    assert result["whole"].keys() == {"ours", "ours_1_workers"}
    assert result["whole"]["ours"]["quantized_tensors"] == 2 * 7 and result["whole"]["ours"]["process_cpu_s"] > 0


def test_the_gate_promotes_and_rejects_within_its_levels(results):
    """A sample of 100 pairs each: four standard errors above alpha and beta; and chains of 50 candidates."""
    result = results["gate_simulation"]
    for part in ("now", "planned", "two_looks"):
        assert result[part]["false_promote"] <= 0.05 + 4 * 0.028
    assert result["planned"]["false_reject"] <= 0.2 + 4 * 0.052
    assert result["quarter"]["one_point"]["false_promote"] > 0.05
    for chain in result["chains"]:
        assert chain["best"]["loss_mean"] <= chain["margin"]


def test_a_canary_looks_at_every_pair_and_a_test_of_one_look_beside_it(results):
    scenarios = results["canary"]["scenarios"]
    assert scenarios["better by 2 points, 4% differ"]["no_difference"] == 1.0
    assert scenarios["worse by 4 points, 10% differ"]["no_difference"] == 0.0
    assert all(0 <= one["peeking"] <= 1 and one["pairs"]["mean"] <= 600 for one in scenarios.values())


def test_the_gate_is_simulated_with_the_share_that_two_evaluations_differ_on(tmp_path):
    candidate, champion = evaluation(tmp_path / "a", wrong=6), evaluation(tmp_path / "b", wrong=2)
    task = gate_simulation.task_of(candidate, champion)
    assert (task.items, len(task.sizes), task.right, task.differ) == (40, 40, 0.95, 0.1)
    drawn = gate_simulation.Draws(task, 1)
    test = drawn.test_set()
    ours, theirs = ([drawn.answers(test, task.right) for _ in range(200)] for _ in range(2))
    differing = sum(int((a != b).sum()) for a, b in zip(ours, theirs, strict=True)) / (200 * 40)
    assert 0.03 < differing <= 0.1 + 0.03  # models of 95% differ on at most 2 x 5%


def test_ceilings_are_found_and_nothing_is_left(tmp_path):
    model = pico_model(tmp_path / "model")
    (tmp_path / "work").mkdir()
    result = ceilings.reads(model, 1 << 20) | ceilings.writes(tmp_path / "work", 1 << 20)
    assert result.keys() == {"page_cache_read_1_threads", "page_cache_read_8_threads", "write", "write_and_fsync"}
    assert all(rate > 0 for rate in result.values()) and list((tmp_path / "work").iterdir()) == []
    assert shares({"gb_per_s": 8.0, "bytes": 5e9}, 16.0, {"write_and_fsync": 5.0}) == {"write_and_fsync": 0.5}


def test_the_planners_grid_states_every_point_and_counts_false_answers(tmp_path):
    args = argparse.Namespace(sizes=["8b", "3gb"], work=tmp_path, peers=[])
    planned = planner_grid.points(args)
    points, limited = planned["points"], planned["limited"]
    assert len({planner_grid._name(row) for row in points}) == 48 and all(row["slipway"] > 0 for row in points)
    assert len(limited) == 60 and all(row["slipway"] < row["slipway_needed"] for row in limited)
    short, long = points[0], points[-1]
    lines = [
        {**short, "status": "ok", "allocated": short["slipway"] / 1.01, "reserved": short["slipway_reserved"] * 1.05},
        {**long, "status": "oom", "allocated": 0, "reserved": 0},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / planner_grid.MEASURED).write_text(text + '{"size": "8b", "pack')  # cut off: measured again
    ends = [("ok", 1.1), ("oom", 1.1), ("ok", 0.9), ("oom", 0.9)]
    within = [{**short, "status": status, "limit": share * short["slipway_needed"]} for status, share in ends]
    (tmp_path / planner_grid.LIMITED).write_text("".join(json.dumps(row) + "\n" for row in within))
    table = planner_grid.table(args)
    ours = table["slipway"]
    assert table["ran"] == 1 and ours["reserved"]["p50"] == pytest.approx(0.0476)
    assert ours["allocated"] == {"n": 1, "p50": 0.01, "p95": 0.01}
    assert (ours["answers"], ours["false_fits"], ours["false_refusals"]) == (4, 1, 1)

"""The prober with real processes: the probe loop as it is, a recipe that takes milliseconds in place of NeMo's."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.errors import StageError
from slipway.runners.base import Job
from slipway.runners.local import LocalRunner
from slipway.training.tuning.prober import ProcessProber, probe_job
from slipway.training.tuning.search import STEPS
from slipway.training.tuning.setting import Setting

PROCESS = '''
import json, os, sys, time
from pathlib import Path
from slipway.training.tuning.probe import serve, write

class Toy:
    """Steps of 2 ms, or 20 ms with full recomputation; 8192 x 8 does not fit, eager dies, chunked is not there."""
    def apply(self, request):
        self.request = request
        if request["pack_length"] * request["micro_batch"] > 60000:
            raise RuntimeError("CUDA out of memory. Tried to allocate 40 GiB")
        if request["attention"] == "eager":
            os._exit(9)
        if request["loss"]["_target_"] == "absent":
            raise ImportError("no module named cut_cross_entropy")
    def step(self):
        seconds = 0.02 if self.request["checkpointing"] == "full" else 0.002
        time.sleep(seconds)
        return 1000 * self.request["accumulate"], seconds
    def peak(self):
        return {"allocated_bytes": 5, "reserved_bytes": 7}
    def release(self):
        pass
    def is_oom(self, err):
        return "out of memory" in str(err)

folder = Path(sys.argv[1])
ready = {"device": "toy", "resident_bytes": 3, "attentions": ["sdpa", "eager"], "absent": ["fused_linear"]}
assert json.loads((folder / "recipe.json").read_text())["recipe"] == {"recipe": "x"}
write(folder / "ready.json", ready if "fails" not in sys.argv else {"error": "ValueError: no such model"})
if "fails" in sys.argv:
    sys.exit(1)
serve(folder, Toy())
'''
LOSSES = {"masked": {"_target_": "masked"}, "chunked": {"_target_": "absent"}, "fused_linear": {"_target_": "x"}}


def prober(work: Path, *words: str, probe_timeout_s: float = 300.0) -> ProcessProber:
    script = work / "toy.py"
    script.write_text(PROCESS)
    job = Job("tune", (sys.executable, str(script), str(work), *words), work, stop_s=2.0)
    return ProcessProber(
        LocalRunner(),
        job,
        {"recipe": "x"},
        LOSSES,
        limit=100,
        step_tokens=8192,
        start_timeout_s=300,
        probe_timeout_s=probe_timeout_s,
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ProcessProber]:
    made = prober(tmp_path)
    made.start()
    yield made
    made.close()


def test_it_says_what_the_machine_is(tmp_path: Path) -> None:
    made = prober(tmp_path)
    try:
        machine = made.start()
    finally:
        made.close()
    assert (machine.device, machine.resident, machine.attentions, machine.losses) == (
        "toy",
        3,
        ("sdpa", "eager"),
        ("masked", "chunked"),
    )


def test_a_setting_is_timed_over_the_work_asked_for(running: ProcessProber) -> None:
    result = running.probe(Setting(2048, 1, "none"), 0.0)
    assert (result.status, result.steps, result.reserved, result.allocated) == ("ok", STEPS, 7, 5)
    assert result.tokens_per_s == pytest.approx(4 * 1000 / 0.002)


def test_one_clearly_slower_is_stopped_after_two_steps(running: ProcessProber) -> None:
    best = running.probe(Setting(2048, 1, "none"), 0.0)
    result = running.probe(Setting(2048, 1, "full"), best.low)
    assert (result.status, result.steps) == ("slower", 2)


def test_out_of_memory_and_errors_are_answers_and_the_process_goes_on(running: ProcessProber) -> None:
    assert running.probe(Setting(16384, 8, "none"), 0.0).status == "oom"
    absent = running.probe(Setting(2048, 1, "none", "sdpa", "chunked"), 0.0)
    assert (absent.status, absent.reason) == ("error", "ImportError: no module named cut_cross_entropy")
    assert running.probe(Setting(2048, 1, "none"), 0.0).status == "ok"


def test_a_process_that_dies_takes_only_its_setting_along(running: ProcessProber) -> None:
    died = running.probe(Setting(2048, 1, "none", "eager"), 0.0)
    assert (died.status, died.reason) == ("error", "the probe process died: exit code 9")
    assert running.probe(Setting(2048, 1, "none"), 0.0).status == "ok"


def test_one_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    made = prober(tmp_path, probe_timeout_s=0.01)
    try:
        made.start()
        result = made.probe(Setting(2048, 1, "full"), 0.0)
    finally:
        made.close()
    assert (result.status, result.reason) == ("error", "no answer in 0 s")


def test_the_deadline_ends_a_probe_too(tmp_path: Path) -> None:
    made = prober(tmp_path)
    made.start()
    made._deadline = time.monotonic() + 0.01
    assert made.probe(Setting(2048, 8, "full"), 0.0).status == "error"
    made.close()


def test_a_model_that_does_not_load_is_one_error_with_the_reason(tmp_path: Path) -> None:
    made = prober(tmp_path, "fails")
    with pytest.raises(StageError, match="ValueError: no such model"):
        made.start()
    made.close()


def test_close_leaves_no_process(tmp_path: Path) -> None:
    made = prober(tmp_path)
    made.start()
    pid = json.loads((tmp_path / "process.json").read_text())["pid"]
    made.close()
    assert not Path(f"/proc/{pid}").exists()


def test_results_of_a_former_search_are_not_taken_for_new_ones(tmp_path: Path) -> None:
    (tmp_path / "ready.json").write_text(json.dumps({"error": "old"}))
    (tmp_path / "result-1.json").write_text("{}")
    made = prober(tmp_path)
    try:
        made.start()
        assert made.probe(Setting(2048, 1, "none"), 0.0).status == "ok"
    finally:
        made.close()


def test_in_a_container_it_sees_its_folder_and_this_package_and_no_path_of_this_machine(tmp_path: Path) -> None:
    job = probe_job(tmp_path, (), container=True, python="python3", env={})
    assert job.argv == ("python3", "-m", "slipway.training.tuning.probe", "/probe")
    assert job.env["PYTHONPATH"] == "/probe-code"
    assert {m.target: m.read_only for m in job.mounts} == {"/probe": False, "/probe-code/slipway": True}
    assert str(tmp_path) not in " ".join([*job.argv, *job.env.values()])

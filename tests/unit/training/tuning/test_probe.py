"""The probe process's loop: requests answered in order, failures as answers, nothing but the standard library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slipway.training.tuning import probe as probe_module
from slipway.training.tuning.probe import probe, serve, write


class Recipe:
    """Steps of `seconds`, 100 tokens each; the step numbered `fails_at` runs out of memory."""

    def __init__(self, seconds: float = 0.5, fails_at: int | None = None) -> None:
        self.seconds, self.fails_at, self.steps, self.released = seconds, fails_at, 0, 0

    def apply(self, request: dict[str, object]) -> None:
        if request.get("attention") == "absent":
            raise ImportError("no such attention\nand more lines")

    def step(self) -> tuple[int, float]:
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("out of memory")
        return 100, self.seconds

    def peak(self) -> dict[str, int]:
        return {"allocated_bytes": 1, "reserved_bytes": 2}

    def release(self) -> None:
        self.released += 1

    def is_oom(self, err: BaseException) -> bool:
        return "out of memory" in str(err)


def test_the_probe_loop_needs_nothing_but_the_standard_library() -> None:
    """It runs in NVIDIA's container, where this package is only mounted."""
    code = (
        "import sys, slipway.training.tuning.probe; print([m for m in sys.modules if m.split('.')[0] in "
        "('pydantic', 'torch', 'rich', 'numpy', 'psutil')])"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert ran.stdout.strip() == "[]"


def test_a_probe_that_fails_in_the_middle_keeps_what_was_timed() -> None:
    recipe = Recipe(fails_at=3)
    outcome = probe(recipe, {"steps": 3, "best_low": 0.0})
    assert (outcome["status"], outcome["seconds"], outcome["reserved_bytes"]) == ("oom", [0.5], 2)
    assert recipe.released == 1


def test_the_first_step_is_not_timed_and_the_rate_has_bounds() -> None:
    outcome = probe(Recipe(), {"steps": 3, "best_low": 0.0})
    assert (outcome["status"], outcome["seconds"], outcome["tokens_per_s"]) == ("ok", [0.5] * 3, 200.0)
    assert outcome["low"] < 200.0 < outcome["high"]


def test_a_clearly_slower_setting_is_stopped() -> None:
    outcome = probe(Recipe(), {"steps": 3, "best_low": 1e6})
    assert (outcome["status"], len(outcome["seconds"])) == ("slower", 2)


def test_an_error_is_its_type_and_first_line() -> None:
    outcome = probe(Recipe(), {"steps": 3, "best_low": 0.0, "attention": "absent"})
    assert (outcome["status"], outcome["reason"]) == ("error", "ImportError: no such attention")


def test_requests_are_answered_in_order_until_one_says_quit(tmp_path: Path) -> None:
    request = {"steps": 2, "best_low": 0.0}
    for number, document in enumerate([request, request | {"attention": "absent"}, {"quit": True}, request], start=1):
        write(tmp_path / f"request-{number}.json", document)
    serve(tmp_path, Recipe())
    results = {p.name: json.loads(p.read_text())["status"] for p in tmp_path.glob("result-*.json")}
    assert results == {"result-1.json": "ok", "result-2.json": "error"}
    assert list(tmp_path.glob("*.part")) == []


def test_a_probe_process_that_nobody_asks_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "IDLE_S", 0.05)
    thread = threading.Thread(target=serve, args=(tmp_path, Recipe()), daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()

"""An environment with Slipway and the packages of its base install, and nothing else: what looks works there, and what
needs an extra says which one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from scripts.lock import closure
from tests.support.pico import pico_adapter, pico_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the files of those packages alone."""
    folder = tmp_path_factory.mktemp("site")
    for name in ["slipway", *closure(())]:
        files = distribution(name).files or []
        tops = {file.parts[0] for file in files} - {"..", "__pycache__"}
        for top in tops:
            if not top.endswith((".pth", ".py")) or top in ("typing_extensions.py", "six.py"):
                target = Path(str(distribution(name).locate_file(top)))
                if not (folder / top).exists():
                    (folder / top).symlink_to(target)
    return folder


@pytest.fixture
def bare(site: Path):
    """Run `slipway WORDS` there."""

    def slipway(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        env |= {"PYTHONPATH": f"{site}{os.pathsep}{ROOT / 'src'}"}
        command = [sys.executable, "-S", "-m", "slipway", *words]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=120, check=False)

    return slipway


def test_nothing_else_is_there(site: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(site), "PATH": os.environ["PATH"]}
    code = "import importlib.util as u, json; print(json.dumps([n for n in %r if (s := u.find_spec(n)) and s.origin]))"
    names = ["torch", "transformers", "numpy", "httpx", "docker", "prefect", "mlflow", "dvc", "gguf", "pydantic"]
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code % names], capture_output=True, text=True, env=env, check=True
    )
    assert json.loads(ran.stdout) == ["pydantic"]


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("config", "--json"),
        ("status", "--json"),
        ("recipe", "--model", "llama-3.1-8b", "--target", "dgx-h100"),
        ("quantize", "--help"),
        ("stage", "--help"),
    ],
)
def test_what_looks_works(bare, words) -> None:
    ran = bare(*words)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() and "Traceback" not in ran.stderr


def test_doctor_names_every_extra_that_is_missing(bare) -> None:
    ran = bare("doctor", "--json")
    assert ran.returncode == 4, ran.stderr
    failed = {row["name"] for row in json.loads(ran.stdout) if row["status"] == "fail"}
    assert {"packages: train", "packages: serve", "packages: orchestrate", "torch build"} <= failed


def test_a_pass_over_weights_names_torch_and_its_extras(bare, tmp_path: Path) -> None:
    model, adapter = pico_model(tmp_path / "model"), pico_adapter(tmp_path / "adapter")
    for words in (["quantize", str(model)], ["merge", str(model), str(adapter)]):
        ran = bare(*words, "--out", str(tmp_path / "out"), "--json")
        assert ran.returncode == 4 and "Traceback" not in ran.stderr
        error = json.loads(ran.stdout)["error"]
        assert error["type"] == "ResourceError" and error["thing"] == "package torch"
        assert error["expected"] == "it, for this command: it comes with the extra serve or train or rag"
        assert "slipway[serve]" in error["next_step"]
    assert not (tmp_path / "out").exists()


def test_a_run_names_its_orchestrator(bare) -> None:
    ran = bare("run", "--json")
    assert ran.returncode == 4 and "Traceback" not in ran.stderr
    assert "prefect" in ran.stdout + ran.stderr and "orchestrate" in ran.stdout + ran.stderr


def test_a_stage_leaves_the_same_error_for_its_orchestrator(bare, tmp_path: Path) -> None:
    job = {"stage": "quantize", "key": "k", "store": str(tmp_path / "store"), "cache": str(tmp_path / "cache")}
    (tmp_path / "job.json").write_text(json.dumps({**job, "inputs": {}, "params": {}, "extra": {}}))
    ran = bare("stage", "quantize", str(tmp_path / "job.json"))
    assert ran.returncode == 4 and "Traceback" not in ran.stderr
    assert json.loads((tmp_path / "error.json").read_text())["thing"] == "package torch"

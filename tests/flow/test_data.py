"""The data half on fresh clones, with the real DVC: no cache, no remote, the very digests of dvc.lock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.config.load import load_config
from slipway.data.dvc_lock import digest_now, locked_digest
from slipway.stages.prepare import prepare_params

ROOT = Path(__file__).parents[2]


def sh(cwd: Path, *command: str) -> str:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(cwd / "src")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def clone(to: Path) -> Path:
    sh(ROOT, "git", "clone", "-q", "--depth", "1", f"file://{ROOT}", str(to))
    return to


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone after its first `dvc repro`."""
    root = clone(tmp_path_factory.mktemp("data") / "first")
    assert not (root / "data").exists()
    sh(root, "dvc", "repro")
    return root


def test_a_fresh_clone_reproduces_the_lock(first: Path) -> None:
    sh(first, "git", "diff", "--exit-code")
    assert "up to date" in sh(first, "dvc", "repro")
    sh(first, "git", "diff", "--exit-code")


def test_the_digests_read_without_dvc_are_those_of_dvc(first: Path) -> None:
    for out in ("data/raw/home.jsonl", "data/prepared", "data/splits", "data/raw/faq"):
        assert digest_now(first / out) == locked_digest(first, first / out)


def test_the_default_config_runs_on_the_splits_of_dvc(first: Path) -> None:
    params = prepare_params(load_config(first / "conf").data, first)
    assert params.source == str(first / "data/splits")
    assert params.revision == locked_digest(first, first / "data/splits")


def test_data_travels_through_a_remote(first: Path, tmp_path: Path) -> None:
    sh(first, "dvc", "push", "-q")
    second = clone(tmp_path / "second")
    sh(second, "dvc", "remote", "modify", "--local", "local", "url", str(first / ".slipway" / "dvc-remote"))
    sh(second, "dvc", "pull", "-q")
    assert digest_now(second / "data/splits") == digest_now(first / "data/splits")
    sh(second, "git", "diff", "--exit-code")

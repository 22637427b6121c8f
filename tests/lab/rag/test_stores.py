"""Milvus and Elasticsearch hold what the index holds, and retrievers of LangChain and LlamaIndex find what it finds:
real_stores.py and real_retrievers.py, run in an environment that has their packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by infra/lab/rag/install on top of the one that runs."""
    folder = tmp_path_factory.mktemp("rag") / "environment"
    env = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([ROOT / "infra/lab/rag/install", folder], check=True, timeout=550, env=env)
    return folder


@pytest.mark.parametrize("name", ["real_stores", "real_retrievers"])
def test_the_contracts_hold(environment: Path, name: str) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/lab/rag/{name}.py"]
    done = subprocess.run([environment / "bin/python", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout

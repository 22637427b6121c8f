"""Milvus and Elasticsearch hold what the index holds, and retrievers of LangChain and LlamaIndex find what it finds:
real_stores.py and real_retrievers.py, run in an environment that has their packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def packages() -> Iterator[Path]:
    """Made by infra/lab/packages beside those of this environment, once for all clones: nothing is written there."""
    env = {**os.environ, "PYTHON": sys.executable}
    install = subprocess.run(
        [ROOT / "infra/lab/packages", "rag"], check=True, env=env, stdout=subprocess.PIPE, text=True
    )
    folder = Path(install.stdout.strip())
    before = _files(folder)
    yield folder
    assert _files(folder) == before


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """What a folder holds: path -> bytes and time of the last change."""
    return {str(p): (s.st_size, s.st_mtime_ns) for p in folder.rglob("*") if (s := p.lstat())}


@pytest.mark.parametrize("name", ["real_stores", "real_retrievers"])
def test_the_contracts_hold(packages: Path, name: str) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/lab/rag/{name}.py"]
    env = {**os.environ, "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout

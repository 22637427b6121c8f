"""The adapter without its package; with it: tests/lab/rag/real_retrievers.py."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.errors import ResourceError
from slipway.rag.adapters.langchain import langchain_retriever


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec("json")
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == "langchain_core" else there)
    with pytest.raises(
        ResourceError, match=r"package langchain_core: not installed.*pip install 'slipway\[langchain\]'"
    ):
        langchain_retriever(tmp_path)


def test_the_framework_is_imported_when_it_is_asked_for() -> None:
    code = "import json, sys, slipway.rag.adapters.langchain; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout))
    assert "slipway.rag.adapters.langchain" in modules and "langchain_core" not in modules

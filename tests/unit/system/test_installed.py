"""What is installed, from package metadata."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest
from packaging.requirements import Requirement

from slipway.system import installed


def test_extras_name_what_they_need() -> None:
    groups = installed.extras()
    assert {"base", "data", "train", "serve", "docker", "orchestrate", "test"} <= set(groups)
    assert "pydantic" in {r.name for r in groups["base"]}
    assert "torch" in {r.name for r in groups["train"]} and "torch" not in {r.name for r in groups["base"]}


def test_missing_and_at_another_version() -> None:
    here = importlib.metadata.version("pydantic")
    asked = [Requirement(text) for text in ("pydantic", f"pydantic>{here}", "no-such-package-of-anyone>=1")]
    missing, others = installed.wrong(asked)
    assert missing == ["no-such-package-of-anyone"]
    assert others == [f"pydantic {here}, needs >{here}"]


def test_the_build_of_torch_is_told_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = sys.modules.get("torch")
    build = installed.torch_build()
    assert build is not None
    assert build[0] == importlib.metadata.version("torch")
    assert sys.modules.get("torch") is torch
    if torch is not None:
        assert build[1] == torch.version.cuda

    def absent(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert installed.torch_build() is None

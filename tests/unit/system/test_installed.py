"""What is installed, from package metadata."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from slipway.errors import ResourceError
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


def test_a_package_of_an_extra_is_named_with_its_extras() -> None:
    with pytest.raises(ResourceError, match="extra serve or train or rag") as caught, installed.missing_is_named():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    assert caught.value.thing == "package torch" and "slipway[serve]" in caught.value.next_step


def test_no_lock_is_named_for_a_package_that_it_lacks() -> None:
    with pytest.raises(ResourceError) as caught, installed.missing_is_named():
        raise ModuleNotFoundError("No module named 'kubernetes'", name="kubernetes")
    assert caught.value.next_step == "`pip install 'slipway[kubernetes]'`"


@pytest.mark.parametrize("name", ["slipway.nowhere", "no_such_package_of_anyone", "torch.nowhere", None])
def test_another_failed_import_stays_what_it_is(name: str | None) -> None:
    with pytest.raises(ModuleNotFoundError), installed.missing_is_named():
        raise ModuleNotFoundError("No module", name=name)


def test_required_packages_are_looked_for_and_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed.require("pydantic", "json")
    with monkeypatch.context() as changed:
        (tmp_path / "mlflow").mkdir()
        changed.setattr(sys, "path", [str(tmp_path)])
        changed.delitem(sys.modules, "mlflow", raising=False)  # a test of this process may have imported it
        with pytest.raises(ResourceError, match="package mlflow: not installed"):
            installed.require("mlflow")  # a folder without code is no package
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="extra orchestrate"):
        installed.require("prefect")
    with pytest.raises(ResourceError, match=r"requirements\.lock"):
        installed.require("no_such_package_of_anyone")


def test_without_metadata_of_its_own_no_extra_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    with pytest.raises(ModuleNotFoundError), installed.missing_is_named():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")


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


def test_an_extra_is_named_as_it_is_asked_for() -> None:
    installed.require_extra("milvus", "json")
    with pytest.raises(
        ResourceError, match=r"package no_such_of_anyone: not installed.*extra milvus.*slipway\[milvus\]"
    ):
        installed.require_extra("milvus", "json", "no_such_of_anyone")

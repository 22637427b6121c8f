"""`slipway status`, `doctor` and `build-engine`: what they print and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.engines.llamacpp import build
from slipway.ops import doctor
from slipway.ops.doctor import Check


@pytest.fixture
def conf(tmp_path: Path) -> str:
    (tmp_path / "base.yaml").write_text(
        f"deploy: {{root: '{tmp_path}/target'}}\nstore: {{root: '{tmp_path}/store', cache: '{tmp_path}/cache'}}\n"
    )
    return str(tmp_path)


def invoke(*words: str):
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_status_is_one_document(conf: str) -> None:
    document = json.loads(invoke("status", "--conf", conf, "--json").stdout)
    assert document["releases"] == [] and document["store"] == f"{conf}/store"


def test_status_as_tables_names_what_is_not_there_yet(conf: str) -> None:
    shown = invoke("status", "--conf", conf).stdout
    assert "target local: no release yet" in shown and f"{conf}/store" in shown


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 4)])
def test_doctor_exits_with_4_when_something_must_be_mended(
    conf: str, monkeypatch: pytest.MonkeyPatch, status: doctor.Status, code: int
) -> None:
    monkeypatch.setattr(doctor, "check", lambda config: [Check("disk", status, "1 GB", "free some")])
    done = invoke("doctor", "--conf", conf, "--json")
    assert done.exit_code == code
    assert json.loads(done.stdout) == [{"name": "disk", "status": status, "found": "1 GB", "advice": "free some"}]


def test_a_build_that_is_in_the_cache_is_only_named(conf: str) -> None:
    from slipway.config.engine import EngineConfig

    finished = Path(conf) / "cache" / "engines" / build.build_id(EngineConfig(), build.find_tools())
    finished.mkdir(parents=True)
    for name in ("BUILD.json", "llama-server", "convert_hf_to_gguf.py"):
        (finished / name).touch()
    assert invoke("build-engine", "--conf", conf).stdout == f"{finished.name}\n"

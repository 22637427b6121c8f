"""The converter's process: what it is given, what its refusal says, and that it looks nowhere else for a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.engines.llamacpp.build import Build
from slipway.engines.llamacpp.convert import convert
from slipway.errors import EngineError, ResourceError

CONVERTER = """import json, os, pathlib, sys
if not (pathlib.Path(sys.argv[1]) / "config.json").exists():
    raise NotImplementedError("architecture Nope is not supported")
pathlib.Path(sys.argv[3]).write_text(json.dumps({"argv": sys.argv[1:], "offline": os.environ["HF_HUB_OFFLINE"]}))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").touch()
    return folder


def build(folder: Path, converter: str) -> Build:
    (folder / "convert_hf_to_gguf.py").write_text(converter)
    return Build(folder)


def test_the_converter_gets_model_type_and_name_and_no_network(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    convert(build(tmp_path, CONVERTER), model, out, "bf16")
    assert json.loads(out.read_text()) == {
        "argv": [str(model), "--outfile", str(out), "--outtype", "bf16", "--model-name", "model"],
        "offline": "1",
    }


def test_modules_beside_the_converter_come_first_and_those_of_the_callers_folder_never(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("conversion", "runpy", "slipway", "json"):
        (elsewhere / f"{name}.py").write_text("raise RuntimeError('of the folder that the command runs in')")
    (tmp_path / "conversion.py").write_text("NAME = 'beside'")
    monkeypatch.chdir(elsewhere)
    script = "import conversion, json, pathlib, sys\npathlib.Path(sys.argv[3]).write_text(conversion.NAME)"
    convert(build(tmp_path, script), model, tmp_path / "out.gguf", "f16")
    assert (tmp_path / "out.gguf").read_text() == "beside"


def test_a_refusal_shows_the_converters_words(model: Path, tmp_path: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(EngineError, match=r"(?s)conversion of .*model to GGUF: exit code 1.*Nope") as caught:
        convert(build(tmp_path, CONVERTER), model, tmp_path / "out.gguf", "f16")
    assert "Traceback" not in str(caught.value) and "line 3" not in str(caught.value)


def test_a_full_disk_is_named(model: Path, tmp_path: Path) -> None:
    full = "import sys; sys.exit('OSError: [Errno 28] No space left on device')"
    with pytest.raises(ResourceError, match=r"disk: full while converting to .*out\.gguf"):
        convert(build(tmp_path, full), model, tmp_path / "out.gguf", "f16")


def test_a_killed_converter_is_told_from_one_that_refuses(model: Path, tmp_path: Path) -> None:
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(EngineError, match="signal 9"):
        convert(build(tmp_path, killed), model, tmp_path / "out.gguf", "f16")


def test_success_without_a_file_is_none(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="exit code 0"):
        convert(build(tmp_path, "print('done')"), model, tmp_path / "out.gguf", "f16")


def test_what_is_to_be_done_meanwhile_is_done_while_the_converter_runs(model: Path, tmp_path: Path) -> None:
    """This converter ends only when it has."""
    waiting = """import pathlib, sys, time
while not pathlib.Path(sys.argv[1], "done").exists():
    time.sleep(0.01)
pathlib.Path(sys.argv[3]).touch()
"""
    convert(build(tmp_path, waiting), model, tmp_path / "out.gguf", "bf16", (model / "done").touch)
    assert (tmp_path / "out.gguf").exists()


def test_what_fails_meanwhile_is_raised(model: Path, tmp_path: Path) -> None:
    def fails() -> None:
        raise ImportError("no transformers")

    with pytest.raises(ImportError, match="no transformers"):
        convert(build(tmp_path, CONVERTER), model, tmp_path / "out.gguf", "bf16", fails)

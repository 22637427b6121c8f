"""Engine files: planned against both lists, built as a job, and looked at whatever the job says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.config.engine import EngineConfig
from slipway.engines.driver import ServePlan
from slipway.engines.trtllm_build import engine_files
from slipway.engines.trtllm_build.driver import DRIVER, run_build
from slipway.errors import ConfigError, EngineError
from slipway.pipeline.workspace import Workspace
from slipway.runners.local import LocalRunner
from slipway.system.progress import Progress
from tests.support.engine_models import DIGEST, image, labelled_model, modelopt, target

LISTED = {
    name
    for option in json.loads(Path("tests/contracts/trtllm/trtllm-serve-1.2line.json").read_text())["options"]
    for name in [option["name"], *option.get("aliases", [])]
}
# As trtllm-build does it: config.json and an engine a rank. What a line of it says is no proof of what it does.
BUILD = """
set -eu
out="{bundle}/engine"
mkdir -p "$out"
cat > "$out/config.json" <<'JSON'
{"pretrained_config": {"mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1}},
 "build_config": {"max_batch_size": 8, "max_seq_len": 256}}
JSON
cat "{model}"/*.safetensors > "$out/rank0.engine"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_files, "_SETTLE_S", 0.0)


def planned(model: Path, row: str = "dgx-h100", **keys: Any) -> ServePlan:
    params = EngineConfig.model_validate({"kind": "trtllm-engine", "context": 256, "image": "trtllm-1.2", **keys})
    return DRIVER.plan(model, params, target(row), image(str(params.image)))


@pytest.mark.parametrize("row", ["spark", "dgx-h100", "dgx-b200"])
def test_the_server_s_options_are_those_of_its_release(model: Path, row: str) -> None:
    plan = planned(model, row)
    options = {word for word in plan.argv if word.startswith("--")}
    assert options and options <= LISTED
    assert plan.argv[:4] == ["trtllm-serve", "{bundle}/engine", "--port", "{port}"]
    assert plan.argv[plan.argv.index("--backend") + 1] == "tensorrt"
    assert plan.argv[plan.argv.index("--tokenizer") + 1] == "{model}"
    assert set(plan.files) == {"build.sh"}
    assert plan.image == f"nvcr.io/nvidia/tensorrt-llm/release@{DIGEST}"
    assert not any("No list" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("keys", "row", "message"),
    [
        ({"tensor_parallel": 2}, "spark-pair", "trtllm-engine on spark-pair: 2 ranks"),
        ({"flags": {"backend": "pytorch"}}, "spark", "engine.flags.backend: pytorch"),
        ({"options": {"max_batch": 2}}, "spark", "engine option max_batch: unknown"),
    ],
)
def test_what_cannot_be_built_is_refused(model: Path, keys: dict[str, Any], row: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(model, row, **keys)
    assert str(refused.value).startswith(message), refused.value


def test_a_release_without_engine_files_is_refused_by_its_contract(model: Path) -> None:
    params = EngineConfig(kind="trtllm-engine", context=256, image="trtllm")
    row = image("trtllm").model_copy(update={"contract": "1.3.0rc24"})
    with pytest.raises(ConfigError, match=r"--backend: tensorrt; expected for trtllm-serve 1\.3\.0rc24 one of"):
        DRIVER.plan(model, params, target("spark"), row)


def test_a_quantized_checkpoint_is_refused_with_the_other_engine(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"use engine\.kind=trtllm"):
        planned(labelled_model(tmp_path / "m", modelopt("FP8")))


def built(model: Path, tmp_path: Path, script: str) -> ServePlan:
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()
    plan = planned(model)
    plan = plan.model_copy(update={"files": {"build.sh": script}})
    return run_build(plan, model, Workspace(out, work, tmp_path, Progress()), LocalRunner(), in_container=False)


def test_a_build_is_a_job_whose_files_are_named_with_their_sizes(model: Path, tmp_path: Path) -> None:
    plan = built(model, tmp_path, BUILD)
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert plan.notes[-1] == f"Engine files: rank0.engine {size:,} bytes."
    assert not (tmp_path / "out" / engine_files.MARKER).exists()
    assert (tmp_path / "out" / "engine" / "rank0.engine").stat().st_size == size


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'Total time of building all engines: completed'", "no config.json"),
        (BUILD + 'rm "{bundle}/engine/rank0.engine"; echo completed', "missing"),
        (BUILD + 'head -c 100 /dev/zero > "{bundle}/engine/rank0.engine"; echo completed', "100 bytes"),
        (BUILD + 'touch -d 2020-01-01 "{bundle}/engine/rank0.engine"; echo completed', "older than the build"),
        (BUILD + "echo completed; kill -9 $$", "engine build: failed"),
    ],
)
def test_a_log_that_says_completed_is_no_proof(model: Path, tmp_path: Path, script: str, problem: str) -> None:
    with pytest.raises(EngineError) as refused:
        built(model, tmp_path, script)
    assert problem in str(refused.value)


def test_engine_files_of_an_earlier_try_are_removed_first(model: Path, tmp_path: Path) -> None:
    old = tmp_path / "out" / "engine"
    old.mkdir(parents=True)
    (old / "rank7.engine").write_bytes(b"old")
    (tmp_path / "work").mkdir()
    plan = planned(model).model_copy(update={"files": {"build.sh": BUILD}})
    space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path, Progress())
    run_build(plan, model, space, LocalRunner(), in_container=False)
    assert not (old / "rank7.engine").exists()

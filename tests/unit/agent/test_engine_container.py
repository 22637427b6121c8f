"""Engines in containers: what docker or podman is asked, by a program that writes it down and remembers what runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from slipway.agent import engine_container
from slipway.agent.engine_container import Runtime
from slipway.agent.start_plan import StartPlan, parse_start
from slipway.errors import ConfigError, EngineError, ResourceError

PROGRAM = f"""#!{sys.executable} -SE
import json, pathlib, sys
state = pathlib.Path(sys.argv[0]).with_suffix(".json")
doc = json.loads(state.read_text()) if state.exists() else {{"calls": [], "running": {{}}}}
doc["calls"].append(sys.argv[1:])
verb, ids = sys.argv[1], doc["running"]
if verb == "run" and "broken" in sys.argv[-1]:
    state.write_text(json.dumps(doc))
    sys.exit("no such image")
if verb == "run":
    ids["c1"] = True
    print("c1")
elif verb == "inspect":
    print("true" if ids.get(sys.argv[-1]) else "false")
elif verb == "ps":
    print("\\n".join(ids))
elif verb == "stop":
    ids[sys.argv[-1]] = False
elif verb == "rm":
    ids.pop(sys.argv[-1], None)
elif verb == "logs":
    print("last words")
state.write_text(json.dumps(doc))
"""
PLAN = {
    "argv": ["serve", "{model}", "--port", "{port}"],
    "image": "registry/vllm@sha256:" + "a" * 64,
    "environment": {"A": "{threads}"},
    "caches": [{"name": "t", "path": "triton", "variable": "TRITON"}],
}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    (tmp_path / "docker").write_text(PROGRAM)
    (tmp_path / "docker").chmod(0o755)
    return Runtime(str(tmp_path / "docker"), tmp_path / "target")


def plan(**more: object) -> StartPlan:
    return parse_start({"plan": {**PLAN, **more}}, "start")


def calls(tmp_path: Path) -> list[list[str]]:
    return list(json.loads((tmp_path / "docker.json").read_text())["calls"])


def test_a_container_is_started_by_digest_labelled_and_never_restarted_by_itself(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_container, "NVIDIA", tmp_path)  # a machine with GPUs
    bundle = tmp_path / "releases" / "0001-aaaaaaaa" / "engine"
    bundle.mkdir(parents=True)
    assert runtime.run(plan(), bundle, "127.0.0.1", 8091, bundle.parent / "start") == "c1"
    run = next(call for call in calls(tmp_path) if call[0] == "run")
    text = " ".join(run)
    assert "--restart no" in text
    assert f"--label slipway.root={tmp_path / 'target'} --label slipway.release=0001-aaaaaaaa" in text
    assert f"--volume {bundle}:/slipway/bundle:ro" in text
    assert f"--volume {bundle.parent / 'start' / 'cache'}:/slipway/cache " in text
    assert "--env TRITON=/slipway/cache/triton" in text
    assert "--ipc host --gpus all" in text
    assert run[run.index(PLAN["image"]) :] == [PLAN["image"], "serve", "/slipway/model", "--port", "8091"]
    assert runtime.is_running("c1")
    assert runtime.of_release("0001-aaaaaaaa") == ["c1"]
    assert runtime.releases_that_run() == {"c1"}
    runtime.save_log("c1", tmp_path / "log")
    assert (tmp_path / "log").read_text() == "last words\n"
    assert runtime.remove("0001-aaaaaaaa", 7) == ["c1"]
    assert ["stop", "--time", "7", "c1"] in calls(tmp_path)
    assert runtime.of_release("0001-aaaaaaaa") == []


@pytest.mark.parametrize("image", ["registry/vllm", "registry/vllm:1.0"])
def test_report_15_an_image_by_tag_is_refused(runtime: Runtime, tmp_path: Path, image: str) -> None:
    with pytest.raises(ConfigError, match="a tag may be moved"):
        runtime.run(plan(image=image), tmp_path / "r" / "engine", "h", 1, tmp_path / "start")
    assert not (tmp_path / "docker.json").exists()


def test_a_container_that_does_not_start_says_the_runtime_s_words(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such image"):
        runtime.run(plan(argv=["broken"]), tmp_path / "r" / "engine", "h", 1, tmp_path / "start")


def test_without_the_program_nothing_runs_and_a_start_names_it(tmp_path: Path) -> None:
    runtime = Runtime("no-such-runtime", tmp_path)
    assert runtime.is_running("c1") is False
    assert runtime.of_release("0001-aaaaaaaa") == []
    assert runtime.releases_that_run() == set()
    with pytest.raises(ResourceError, match="no-such-runtime"):
        runtime.run(plan(), tmp_path / "r" / "engine", "h", 1, tmp_path / "start")

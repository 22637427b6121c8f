"""Service jobs as a target's engines: what is submitted, what counts as running, what is waited for and followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.agent import Agent
from slipway.agent.engines import Engines
from slipway.agent.paths import TargetPaths
from slipway.agent.settings import Settings
from slipway.agent.slurm.commands import ALIVE
from slipway.agent.slurm.engine import EngineTls, SlurmSettings
from slipway.agent.slurm.engines import SlurmEngines, engines_for, job_document
from slipway.agent.slurm.node import register
from slipway.agent.start_plan import parse_start
from slipway.errors import ConfigError, EngineError, ResourceError, StateError
from tests.support.slurm_commands import SlurmCommands

NAME = "0001-00000000"
PLAN = {
    "argv": ["{bundle}/server", "--model", "{model}", "--port", "{port}", "--threads", "{threads}", "{bundle}/a.yaml"],
    "environment": {"A": "{host}"},
    "files": {"a.yaml": "cache: {cache}/x\nmodel: {model}\n"},
    "caches": [{"path": "triton", "variable": "TRITON_CACHE_DIR"}],
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCommands:
    commands = SlurmCommands(tmp_path / "bin", monkeypatch)
    commands.answer("sbatch", "7\n")
    return commands


@pytest.fixture
def paths(tmp_path: Path) -> TargetPaths:
    paths = TargetPaths(tmp_path / "root")
    (paths.release(NAME) / "engine").mkdir(parents=True)
    (paths.release(NAME) / "start.json").write_text(json.dumps({"plan": PLAN}))
    return paths


def engines(paths: TargetPaths, **more: Any) -> SlurmEngines:
    return SlurmEngines(paths, SlurmSettings(queue_s=0.0, **more))


def test_what_only_a_node_knows_is_left_for_it(paths: TargetPaths) -> None:
    release = paths.release(NAME)
    document = job_document(parse_start({"plan": PLAN}, "plan"), release, container=True)
    assert document["argv"] == [
        f"{release}/engine/server", "--model", f"{release}/engine", "--port", "{port}", "--threads", "{threads}",
        f"{release}/start/config/a.yaml",
    ]  # fmt: skip
    assert document["environment"] == {"TRITON_CACHE_DIR": "{cache}/triton", "A": "{host}"}
    assert document["key_variables"] == ["LLAMA_API_KEY", "VLLM_API_KEY"]  # the plan says nothing of its engine
    assert (release / "start/config/a.yaml").read_text() == f"cache: {{cache}}/x\nmodel: {release}/engine\n"
    assert "image" not in document
    assert document["caches"] == {
        "bundle": f"{release}/engine", "start": f"{release}/start", "in_image": False,
    }  # fmt: skip


def test_an_image_sees_its_own_paths_and_mounts_the_nodes_cache(paths: TargetPaths) -> None:
    plan = parse_start({"plan": {**PLAN, "image": "r.example/vllm@sha256:" + "a" * 64}}, "plan")
    document = job_document(plan, paths.release(NAME), container=True)
    assert document["argv"][0] == "/slipway/bundle/server"
    assert document["environment"]["TRITON_CACHE_DIR"] == "/slipway/cache/triton"
    assert document["mounts"][-1] == "{cache}:/slipway/cache"
    assert document["mounts"][0] == f"{paths.release(NAME)}/engine:/slipway/bundle:ro"
    assert "image" not in job_document(plan, paths.release(NAME), container=False)


def test_a_job_that_ends_before_it_serves_shows_its_log_and_is_gone(paths: TargetPaths, slurm: SlurmCommands) -> None:
    slurm.job(7, "FAILED", node="")
    (paths.release(NAME) / "engine.log").write_text("error: unknown tensor type\n")
    with pytest.raises(EngineError, match=r"job 7 ended: FAILED[\s\S]*unknown tensor type"):
        engines(paths).start(NAME, Settings())
    assert not (paths.release(NAME) / "endpoint.json").exists()


def test_a_queue_that_is_too_long_is_named_and_the_job_is_cancelled(paths: TargetPaths, slurm: SlurmCommands) -> None:
    slurm.job(7, "PENDING", node="", Reason="Resources")
    name = engines(paths)._service.job_name(NAME)
    slurm.answer("squeue", "7\n", f"--noheader --name={name} --format=%A")
    slurm.answer("squeue", "7\n", f"--noheader --name={name} --states={ALIVE} --format=%A")
    with pytest.raises(ResourceError, match="job 7 waits: PENDING, Resources"):
        engines(paths).start(NAME, Settings())
    assert slurm.calls[-1] == "scancel 7"
    assert (paths.release(NAME) / "slurm/over/7").exists()


def test_only_the_attempt_of_the_controller_runs(paths: TargetPaths, slurm: SlurmCommands) -> None:
    own = engines(paths)
    register(paths.release(NAME) / "slurm/registered", 7, 0, 20001)
    slurm.job(7)
    registration = own._service.registration(paths.release(NAME), 7)
    assert registration is not None
    endpoint = own.record(NAME, registration)
    assert own.endpoint(NAME) == endpoint
    assert json.loads((paths.release(NAME) / "endpoint.json").read_text())["restart"] == 0
    slurm.job(7, restarts=1)
    assert own.endpoint(NAME) is None
    assert own.pointed(NAME) == registration  # where the proxy points, until it is followed


def test_an_engine_that_knows_no_key_is_refused_unless_a_person_allowed_it(
    paths: TargetPaths, slurm: SlurmCommands
) -> None:
    """TensorRT-LLM's server: whoever reaches its node could ask it."""
    plan = {**PLAN, "key_variables": []}
    (paths.release(NAME) / "start.json").write_text(json.dumps({"plan": plan}))
    with pytest.raises(ConfigError, match=r"no key of callers.*deploy\.slurm\.keyless=true"):
        engines(paths).start(NAME, Settings())
    assert slurm.calls == []
    slurm.job(7, "FAILED", node="")
    with pytest.raises(EngineError, match="job 7 ended"):
        engines(paths, keyless=True).start(NAME, Settings())


def test_an_engine_that_speaks_tls_is_given_its_files_where_it_runs(paths: TargetPaths) -> None:
    tls, release = EngineTls("/shared/c.pem", "/shared/k.pem", "/shared/ca.pem"), paths.release(NAME)
    plan = {**PLAN, "tls_options": ["--ssl-certfile", "--ssl-keyfile"]}
    document = job_document(parse_start({"plan": plan}, "plan"), release, container=True, tls=tls)
    assert document["argv"][-4:] == ["--ssl-certfile", "/shared/c.pem", "--ssl-keyfile", "/shared/k.pem"]
    assert document["ca"] == "/shared/ca.pem"
    image = {**plan, "image": "r.example/vllm@sha256:" + "a" * 64}
    document = job_document(parse_start({"plan": image}, "plan"), release, container=True, tls=tls)
    words = ["--ssl-certfile", "/slipway/certificate.pem", "--ssl-keyfile", "/slipway/key.pem"]
    assert document["argv"][-4:] == words
    assert document["mounts"][-1] == "/shared/k.pem:/slipway/key.pem:ro"
    assert job_document(parse_start({"plan": PLAN}, "plan"), release, container=True, tls=tls)["ca"] == ""


def test_tls_that_cannot_be_is_refused_before_a_job_is_submitted(paths: TargetPaths, slurm: SlurmCommands) -> None:
    files = {name: paths.root / f"{name}.pem" for name in ("certificate", "key", "ca")}
    own = engines(paths, tls=EngineTls(*(str(file) for file in files.values())))
    with pytest.raises(StateError, match=r"deploy\.slurm\.tls\.certificate"):
        own.start(NAME, Settings())
    for file in files.values():
        file.write_text("PEM")
    with pytest.raises(ConfigError, match=r"deploy\.slurm\.tls\.key.*mode 0644"):
        own.start(NAME, Settings())
    files["key"].chmod(0o600)
    with pytest.raises(ConfigError, match="its server speaks no TLS"):
        own.start(NAME, Settings())
    assert slurm.calls == []


def test_where_the_key_lies_is_recorded_and_read_again(paths: TargetPaths, slurm: SlurmCommands) -> None:
    own, folder = engines(paths), paths.release(NAME) / "slurm"
    register(folder / "registered", 7, 0, 20001, asks=True, ca="/shared/ca.pem")
    slurm.job(7)
    registration = own._service.registration(paths.release(NAME), 7)
    assert registration is not None
    own.record(NAME, registration)
    endpoint = own.endpoint(NAME)
    assert endpoint is not None
    assert (endpoint.key_file, endpoint.ca_file) == (f"{folder}/keys/7.0", "/shared/ca.pem")
    assert endpoint.url == "https://127.0.0.1:20001/v1"
    pointed = own.pointed(NAME)
    assert pointed is not None
    assert (pointed.key_file, pointed.ca_file) == (endpoint.key_file, endpoint.ca_file)


def test_a_silent_controller_is_an_error_that_changes_nothing(paths: TargetPaths, slurm: SlurmCommands) -> None:
    slurm.fail("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(ResourceError, match="Slurm controller"):
        engines(paths).running()
    with pytest.raises(ResourceError, match="Slurm controller"):
        engines(paths).stop(NAME, 0.0)


def test_settings_decide_whose_the_engines_are(paths: TargetPaths) -> None:
    assert type(engines_for(paths, Settings())) is Engines
    assert isinstance(engines_for(paths, Settings(slurm={"gpus": 8})), SlurmEngines)
    with pytest.raises(ConfigError, match="key gpu"):
        engines_for(paths, Settings(slurm={"gpu": 8}))


def test_a_target_of_processes_has_nothing_to_follow(tmp_path: Path) -> None:
    assert Agent(tmp_path / "root").call("follow", {}) == {"did": "wait", "why": "no job serves here"}

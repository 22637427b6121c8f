"""What a container is asked to be, what its end means, what an engine's refusal means. The lab asks a real engine."""

import os

import pytest
from docker.errors import APIError
from docker.types import DeviceRequest

from slipway.config.target import DockerConfig, TargetConfig
from slipway.containers.docker_client import DockerClient, client_at
from slipway.errors import ConfigError, ResourceError
from slipway.runners import docker_container
from slipway.runners.base import Job, Mount, State

DOCKER = DockerConfig(kind="docker")
HERE, FAR = DockerClient("unix:///var/run/docker.sock"), DockerClient("ssh://user@spark")


def specification(tmp_path, *, target=None, engine=HERE, info=None, **job):
    one = Job("train-1", ("automodel", "/job/recipe.yaml"), tmp_path, stop_s=90.5, **job)
    return docker_container.specification(one, "x@sha256:1", DOCKER, target or TargetConfig(), engine, info or {})


def test_a_container_is_described_as_nvidia_asks_for(tmp_path):
    mounts = (Mount(tmp_path, "/data"), Mount(tmp_path, "/ckpt", read_only=False))
    target = TargetConfig(gpus=2, runner=DOCKER)
    config, host = specification(tmp_path, target=target, mounts=mounts, env={"A": "b"}, labels={"slipway.run": "r"})
    assert (
        config["image"] == "x@sha256:1"
        and config["name"] == "train-1"
        and config["command"] == ["automodel", "/job/recipe.yaml"]
    )
    assert (
        config["environment"].items()
        >= {"A": "b", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}.items()
    )
    assert config["labels"] == {"slipway.run": "r", "slipway.job": "train-1"}
    assert config["stop_timeout"] == 91 and config["stop_signal"] == "SIGTERM" and config["working_dir"] == "/tmp"
    assert host["ipc_mode"] == "host" and host["init"] and "shm_size" not in host
    assert host["ulimits"] == [
        {"Name": "memlock", "Soft": -1, "Hard": -1},
        {"Name": "stack", "Soft": 67108864, "Hard": 67108864},
    ]
    assert host["device_requests"] == [DeviceRequest(count=2, capabilities=[["gpu"]])]
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in host["mounts"]] == [
        (str(tmp_path), "/data", True),
        (str(tmp_path), "/ckpt", False),
    ]
    assert host["log_config"]["Type"] == "json-file"


def test_gpus_are_asked_for_only_where_the_target_has_some(tmp_path):
    assert specification(tmp_path)[1]["device_requests"] == []
    off = DockerConfig(kind="docker", gpus=False)
    one = Job("t", ("x",), tmp_path)
    assert docker_container.specification(one, "x", off, TargetConfig(gpus=1), HERE, {})[1]["device_requests"] == []


@pytest.mark.parametrize(
    ("uid", "options", "user"),
    [(0, [], None), (1000, [], "1000:100"), (1000, ["name=rootless"], None), (1000, None, "1000:100")],
)
def test_files_belong_to_the_submitter(tmp_path, monkeypatch, uid, options, user):
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    config, _ = specification(tmp_path, info={"SecurityOptions": options})
    assert config.get("user") == user and ("HOME" in config["environment"]) is (user is not None)


def test_a_missing_path_is_refused_here_and_left_to_the_engine_there(tmp_path):
    mounts = (Mount(tmp_path / "absent", "/data"),)
    with pytest.raises(ConfigError, match="an existing path"):
        specification(tmp_path, mounts=mounts)
    assert specification(tmp_path, mounts=mounts, engine=FAR)[1]["mounts"][0]["Source"].endswith("absent")


STATE = {
    "Status": "exited",
    "StartedAt": "2026-11-23T18:55:22.774400961Z",
    "FinishedAt": "2026-11-23T18:55:24.27440096+00:00",
    "Error": "",
}


@pytest.mark.parametrize(
    ("code", "oom", "state", "seen", "words"),
    [
        (0, False, State.DONE, 0, "exit code 0"),
        (7, False, State.FAILED, 7, "exit code 7"),
        (143, False, State.FAILED, -15, "signal 15"),
        (137, False, State.FAILED, -9, "perhaps for memory"),
        (137, True, State.OUT_OF_MEMORY, -9, "exceeded its memory"),
        (255, False, State.FAILED, 255, "exit code 255"),
    ],
)
def test_an_end_is_told_in_the_runners_words(code, oom, state, seen, words):
    ended = docker_container.outcome({**STATE, "ExitCode": code, "OOMKilled": oom})
    assert (
        (ended.state, ended.code) == (state, seen)
        and words in ended.reason
        and ended.seconds == pytest.approx(1.5, abs=1e-3)
    )


def test_a_container_that_never_ran_has_no_negative_time():
    assert (
        docker_container.outcome(
            {**STATE, "FinishedAt": "0001-01-01T00:00:00Z", "ExitCode": 127, "Error": "no such file"}
        ).seconds
        == 0
    )
    assert not docker_container.has_ended({"Status": "created"}) and not docker_container.has_ended(
        {"Status": "paused"}
    )


def refused(explanation, tmp_path, status=500, **job):
    return docker_container.refusal(APIError("x", explanation=explanation), Job("t", ("x",), tmp_path, **job), FAR)


def test_refusals_name_what_to_do(tmp_path):
    no_gpu = refused('could not select device driver "" with capabilities: [[gpu]]', tmp_path)
    assert (
        isinstance(no_gpu, ResourceError)
        and "nvidia-container-toolkit" in str(no_gpu)
        and "ssh://user@spark" in str(no_gpu)
    )
    mounts = (Mount(tmp_path / "d", "/data"),)
    gone = refused(f"invalid mount config: bind source path does not exist: {tmp_path / 'd'}", tmp_path, mounts=mounts)
    assert isinstance(gone, ConfigError) and f"{tmp_path / 'd'} is not on ssh://user@spark" in str(gone)
    assert "docker system df" in str(refused("write /x: no space left on device", tmp_path))
    assert "oddity" in str(refused("some oddity", tmp_path))


def test_both_engines_words_for_a_taken_name_are_known():
    assert docker_container.name_taken(APIError("x", explanation='the container name "t" is already in use'))
    assert not docker_container.name_taken(APIError("x", explanation="no space left"))
    assert docker_container.not_running(APIError("x", explanation="container t is not running"))


def test_an_address_that_docker_does_not_know_is_refused(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "spark")
    with pytest.raises(ConfigError, match=r"docker host: spark; expected unix://"):
        client_at(None)
    assert client_at("ssh://spark").remote and not client_at("unix:///x").remote
    monkeypatch.delenv("DOCKER_HOST")
    assert client_at(None).host.endswith("/var/run/docker.sock") and not client_at(None).remote


def test_a_servers_port_is_published_on_loopback_by_a_number_of_the_engines_choice(tmp_path):
    config, host = specification(tmp_path, ports=(8000,))
    assert config["ports"] == [8000]
    assert host["port_bindings"] == {8000: ("127.0.0.1",)}
    config, host = specification(tmp_path)
    assert "ports" not in config and "port_bindings" not in host


def described(ports=None, mode="bridge", status="running"):
    return {"State": {"Status": status}, "HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Ports": ports}}


PUBLISHED = {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]}


def test_a_published_port_is_reached_where_the_engine_is():
    local = docker_container.address(described(PUBLISHED), 8000, "unix:///run/docker.sock")
    assert (local.host, local.port, local.through) == ("127.0.0.1", 49153, None)
    far = docker_container.address(described(PUBLISHED), 8000, "ssh://user@spark")
    assert (far.host, far.port, far.through) == ("127.0.0.1", 49153, "ssh://user@spark")
    assert docker_container.address(described(mode="host"), 8000, "unix:///s").port == 8000
    assert docker_container.address(described(), 8000, "unix:///s") is None  # not published yet
    assert docker_container.address(described(PUBLISHED, status="created"), 8000, "unix:///s") is None
    assert docker_container.address(described(PUBLISHED), 8000, "tcp://127.0.0.1:2375").port == 49153


def test_the_loopback_of_a_machine_behind_plain_tcp_is_refused():
    with pytest.raises(ConfigError, match="ssh://user@host"):
        docker_container.address(described(PUBLISHED), 8000, "tcp://spark:2375")

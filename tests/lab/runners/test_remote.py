"""The whole chain from one machine on another, which shares no folder with it: a laptop and a Spark.

The Spark is a machine of the ssh lab: it has the Python of our environment and not our code. What crosses the cable is
counted by the kernel.
"""

from __future__ import annotations

import calendar
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.finetune_and_ship import finetune_and_ship
from slipway.agent.units import units
from slipway.config.engine import EngineConfig
from slipway.config.load import Config
from slipway.config.merge import MergeConfig
from slipway.config.remote import RemoteConfig
from slipway.deployment.state import status, stop
from slipway.engines.llamacpp.build import ensure_build
from slipway.ops.chain.plan import as_run, plan
from slipway.ops.remote_check import remote_rows
from slipway.pipeline.ensure_there import THERE, ensure_at
from slipway.pipeline.remote_machine import RemoteMachine, machine_of
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from slipway.store.artifacts import MANIFEST, Adapter, Checkpoint, Engine
from slipway.store.placed import placed
from slipway.store.store import Store, load, verify
from slipway.system.progress import Progress
from tests.lab.ssh_lab import LOGIN, LOGIN_HOME, ROOT, Machine, SshLab
from tests.support import debian
from tests.support.pico import pico_adapter, pico_model
from tests.support.prefect_server import prefect_server
from tests.support.world import small_config

pytestmark = [pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
KEPT_MB = 1


@pytest.fixture
def spark(ssh_lab: SshLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with our packages, and a person's ssh that knows its host key, as ~/.ssh/config would say."""
    machine = ssh_lab.machines[0]
    machine.power_off()
    machine.environment = True
    machine.start()
    built = ensure_build(
        EngineConfig(), Path("~/.cache/slipway").expanduser(), Progress()
    ).root  # there it would take minutes
    shutil.copytree(built, machine.home / "slipway/cache/engines" / built.name)
    programs, known_hosts = tmp_path / "bin", tmp_path / "known_hosts"
    programs.mkdir()
    known_hosts.write_text(machine.known_hosts)
    options = f"-F none -i {ssh_lab.key} -o IdentitiesOnly=yes -o UserKnownHostsFile={known_hosts}"
    promotes = 'case " $* " in *" -F none "*) exec /usr/bin/ssh "$@" ;; esac'  # it reads no ~/.ssh/config
    (programs / "ssh").write_text(f'#!/bin/sh\n{promotes}\nexec /usr/bin/ssh {options} "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return machine


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> Iterator[Path]:
    with prefect_server(pytestconfig):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield tmp_path


def settings(
    lab: SshLab, machine: Machine, folder: Path, login: str = "root", there: str = "/root/slipway", **more: Any
) -> Config:
    """The chain with its stages on `machine`, as this login and in this folder, promoted to the login."""
    ssh = lab.set_up(machine, units("lab"), login)
    python = ROOT / ".venv/bin/python"
    remote = {"remote.host": f"ssh://{login}@{machine.address}", "remote.folder": there, "remote.python": python}
    remote["remote.keep_mb"] = KEPT_MB
    deploy = {f"deploy.ssh.{name}": value for name, value in ssh.model_dump(mode="json").items() if value is not None}
    deploy |= {"deploy.kind": "spark", "deploy.target": "lab", "deploy.ports": "[8091,8093]"}
    more = {"evaluate.reference": "streamed", **more}  # two engines less
    return small_config(folder, f"sqlite:///{folder}/mlflow.db", 8091, **remote, **deploy, **more)


@contextmanager
def cut_while_training(machine: Machine) -> Iterator[threading.Event]:
    """Unplug the cable once a training runs there, and plug it in when the caller's ssh has given up; set when done.
    The flow's task asks again ten seconds later."""
    ended, was_cut = threading.Event(), threading.Event()

    def watch() -> None:
        while not machine.pids("slipway stage train_cpu"):
            if ended.wait(0.5):
                return
        machine.cut()
        while callers(machine) and not ended.wait(0.2):
            pass
        machine.mend()
        was_cut.set()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield was_cut
    finally:
        ended.set()
        thread.join()


def callers(machine: Machine) -> list[Path]:
    """Processes here that run our code there over ssh."""
    words = (b"ssh", machine.address.encode(), b"slipway.ops.remote_side")
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if all(word in read(path) for word in words)]


def read(path: Path) -> bytes:
    """The file; empty for a process that has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_whole_chain_runs_on_the_other_machine_and_weights_cross_the_cable_once(
    ssh_lab: SshLab, spark: Machine, laptop: Path
) -> None:
    """The link is cut while the training runs, which goes on; the run finds what it made."""
    config = settings(ssh_lab, spark, laptop)
    before = spark.carried()
    with cut_while_training(spark) as was_cut:
        first = finetune_and_ship(config, return_state=True)
    assert first.is_completed(), first.message
    assert was_cut.is_set()
    carried = spark.carried() - before
    serving = status(config.deploy)
    assert serving.release and serving.healthy

    store, far = Path(config.store.root), spark.home / "slipway/store"
    stages = {
        json.loads(path.read_text())["provenance"]["stage"]: path.parent for path in store.glob(f"*/*/{MANIFEST}")
    }
    assert {
        stage for stage, path in stages.items() if (far / path.relative_to(store)).is_dir()
    } >= THERE & stages.keys()
    steps = [json.loads(line)["step"] for line in (stages["train_cpu"] / "training.jsonl").read_text().splitlines()]
    assert steps == list(range(1, (config.train.max_steps or 0) + 1)), "the stage went on while nobody heard of it"
    engines = [load(Engine, path.parent) for path in store.glob(f"engine/*/{MANIFEST}")]
    assert all((one := placed(engine.path)) and one.address.endswith(spark.address) for engine in engines)
    left = sum(file["size"] for engine in engines for file in engine.manifest["files"] if file["size"] > KEPT_MB * 1e6)
    base = sum(path.stat().st_size for path in (laptop / "model").iterdir())
    sys.stdout.write(json.dumps({"carried": carried, "base": base, "left there": left}) + "\n")
    assert carried - base < left, "code, data and small files crossed the cable, no weights made there"

    again = plan(as_run(config)[0], ROOT)
    assert again.nothing_to_do, [(stage.title, stage.state, stage.why) for stage in again.stages]
    assert {stage.machine for stage in again.stages} == {"", f"ssh://root@{spark.address}"}
    other = as_run(config.model_copy(update={"train": config.train.model_copy(update={"seed": 7})}))[0]
    assert not any(stage.moves for stage in plan(other, ROOT).stages), "base model and data are there already"
    stop(config.deploy)


def test_another_user_port_and_clock_and_a_path_with_spaces(ssh_lab: SshLab, spark: Machine, tmp_path: Path) -> None:
    """A login without root's rights at port 2222 of a machine whose clock is two hours behind, and which has the base
    model already; the store here is in a folder with spaces."""
    debian.install("faketime", unless="faketime")
    library = spark.run("sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1").stdout.strip()
    spark.power_off()
    (spark.folder / "sshd.extra").write_text(f"ListenAddress {spark.address}:2222\n")
    (spark.folder / "session.env").write_text(f"LD_PRELOAD={library}\nFAKETIME=-2h\n")
    (spark.folder / LOGIN / "shell").write_text("/bin/dash\n")
    spark.start()
    spark.run("chmod", "711", "/root")  # the lab's Python may lie below it
    address = f"ssh://{LOGIN}@{spark.address}:2222"
    machine = RemoteMachine(address, f"{LOGIN_HOME}/slipway", str(ROOT / ".venv/bin/python"), keep_mb=0.03)
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(known_hosts.read_text().replace(spark.address, f"[{spark.address}]:2222"))
    there = RemoteConfig(host=address, folder=machine.folder, python=str(ROOT / ".venv/bin/python"))
    doctor = {row[0].removeprefix("remote: "): row for row in remote_rows(there)}
    assert [doctor[name][1] for name in (address, "python", "rsync")] == ["ok"] * 3, doctor
    assert "GB free" in doctor["disk"][2], doctor
    assert doctor["clock"][1] == "warn" and "behind of ours" in doctor["clock"][2]
    store = Store(tmp_path / "a folder of mine/store")
    with store.create(Checkpoint, "b", {}) as out:
        pico_model(out)
    with store.create(Adapter, "a", {}) as out:
        pico_adapter(out)
    base, adapter = load(Checkpoint, store.dir("checkpoint", "b")), load(Adapter, store.dir("adapter", "a"))
    machine.push(base)
    params = MergeConfig(max_logit_error=10, proof_layers=1, proof_tokens=8, materialize=True)
    call = StageCall("merge", {"base": base, "adapter": adapter}, params)
    made, again = (ensure_at(machine, call, store, tmp_path / "cache", LocalRunner(), print) for _ in range(2))
    assert (made.reused, again.reused, again.artifact) == (False, True, made.artifact)
    created = made.artifact.manifest["provenance"]["created"]
    behind = time.time() - calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
    assert 7000 < behind < 10000, "its clock was two hours behind"
    shutil.rmtree(made.artifact.path)
    fetched = ensure_at(machine, call, store, tmp_path / "cache", LocalRunner(), print)
    assert (fetched.reused, fetched.artifact.digest) == (True, made.artifact.digest)
    machine_of(placed(fetched.artifact.path) or pytest.fail("all of it is here")).bring(fetched.artifact)
    assert verify(fetched.artifact.path) is None

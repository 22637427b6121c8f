"""The machine of `remote.host`: what it is asked, what is sent and brought, and how its failures are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.remote import RemoteConfig
from slipway.config.target import TargetConfig
from slipway.engines.fingerprint import engine_fingerprint
from slipway.errors import ConfigError, LinkLostError, ResourceError
from slipway.pipeline.measurements import this_machine
from slipway.pipeline.remote_machine import RemoteMachine, machine_of, remote_machine
from slipway.store.artifacts import Checkpoint
from slipway.store.placed import placed
from slipway.store.store import Store, verify
from slipway.system.memory import total_bytes
from tests.support.other_machine import OtherMachine, other_machine


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OtherMachine:
    return other_machine(tmp_path, monkeypatch)


def test_an_artifact_goes_there_once_its_small_files_come_back_and_then_the_rest(
    other: OtherMachine, tmp_path: Path
) -> None:
    machine = other.machine
    machine.push(other.base)
    machine.push(other.base)
    assert other.pushes() == 1
    assert machine.inventory() == {f"checkpoint/{other.base.key}": other.base.digest}
    copy = machine.pull(Checkpoint, other.base.key, tmp_path / "elsewhere/checkpoint/b")
    there = placed(copy.path)
    assert there and machine.holds(there) and there.files and all(name.endswith(".safetensors") for name in there.files)
    assert (verify(copy.path, elsewhere=True), (copy.path / "config.json").is_file()) == (None, True)
    machine_of(there).bring(copy)
    assert (verify(copy.path), placed(copy.path)) == (None, None)


def test_what_its_store_has_is_not_sent(other: OtherMachine) -> None:
    other.machine.push(other.base)
    again = RemoteMachine("ssh://me@other", str(other.folder), other.python, keep_mb=1)
    again.push(other.base)
    assert other.pushes() == 1
    (Store(other.folder / "store").dir("checkpoint", other.base.key) / "config.json").unlink()
    assert again.inventory() == {}
    RemoteMachine("ssh://me@other", str(other.folder), other.python, keep_mb=1).push(other.base)
    assert other.pushes() == 2


def test_facts_are_of_the_machine_and_asked_once(other: OtherMachine) -> None:
    engine, serving = EngineConfig(), TargetConfig()
    facts = other.machine.facts(engine, serving)
    assert (facts.name, facts.memory) == (this_machine(), total_bytes())
    assert facts.fingerprint == engine_fingerprint(engine, serving)
    calls = other.calls.read_text()
    assert other.machine.facts(engine, serving) is facts
    assert other.calls.read_text() == calls


def test_a_machine_without_the_python_or_without_ssh_is_named(other: OtherMachine, tmp_path: Path) -> None:
    machine = RemoteMachine("ssh://me@other", str(other.folder), "/usr/bin/no-python", keep_mb=1)
    with pytest.raises(ConfigError, match=r"remote.python: /usr/bin/no-python on ssh://me@other: .*No such file"):
        other.merge(machine)
    (tmp_path / "bin/ssh").write_text("#!/bin/sh\necho 'ssh: connect to host other: No route to host' >&2\nexit 255\n")
    with pytest.raises(ResourceError, match="No route to host"):
        other.merge(other.machine)


def test_a_link_that_is_lost_is_another_attempts(other: OtherMachine, tmp_path: Path) -> None:
    """Prefect tries a stage again for it: the stage goes on there."""
    other.machine.inventory()  # our code is there
    ssh = tmp_path / "bin/ssh"
    ssh.write_text('#!/bin/sh\ncase $* in *remote_side*) echo "client_loop: send disconnect" >&2; exit 255 ;; esac\n')
    with pytest.raises(LinkLostError, match=r"link to ssh://me@other: client_loop.*a stage goes on there"):
        other.machine.inventory()


def test_this_machine_is_none() -> None:
    assert remote_machine(RemoteConfig()) is None

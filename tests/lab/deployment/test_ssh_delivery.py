"""A bundle's way to a target over a real link: whole, cut, tampered with, too large, of another architecture."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.bundle import delivery as bundle_delivery
from slipway.deployment.bundle.delivery import deliver
from slipway.deployment.ssh.target import SshSession, open_target
from slipway.errors import BundleError, ConfigError, ResourceError
from slipway.store.artifacts import Engine
from slipway.store.store import Store
from tests.lab.ssh_lab import Machine, SshLab
from tests.support.target import make_engine

MODEL_BYTES = 24 << 20


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine whose model takes some seconds at the speed that these tests copy with."""
    return make_engine(Store(tmp_path / "store"), {"answer": "{}", "padding": "x" * MODEL_BYTES})


def _deliver(engine: Engine, target: SshSession, **more: Any) -> dict[str, Any]:
    return deliver(engine, DeployConfig(), target, time.time(), more.get("note", print))


def _there(machine: Machine, folder: str) -> dict[str, int]:
    at = machine.home / "targets/lab" / folder
    return {p.name: p.stat().st_size for p in sorted(at.iterdir())} if at.is_dir() else {}


def test_a_bundle_arrives_and_only_signatures_go_over_a_second_time(ssh_lab: SshLab, engine: Engine) -> None:
    machine, notes = ssh_lab.machines[0], list[str]()
    with open_target(ssh_lab.set_up(machine)) as target:
        first = _deliver(engine, target, note=notes.append)
        assert target.call("missing", {"digests": list(first.values())}) == {"missing": []}
        layers = _there(machine, "layers")
        assert len(layers) >= 3
        assert _there(machine, "incoming") == {}
        notes.clear()
        again = _deliver(engine, target, note=notes.append)
    assert again["manifest"] == first["manifest"]
    assert _there(machine, "layers") == layers
    assert any(" 0.00 of 0.03 GB" in note for note in notes), notes


def test_a_cable_that_is_pulled_in_a_copy_costs_what_was_left_only(ssh_lab: SshLab, engine: Engine) -> None:
    machine = ssh_lab.machines[0]
    slow = ssh_lab.set_up(machine).model_copy(update={"bandwidth_mb_s": 5})
    cut = threading.Thread(target=lambda: _cut_after(machine, 2 << 20))
    cut.start()
    with pytest.raises(ResourceError, match=r"copy to 198.*goes on from there"), open_target(slow) as target:
        _deliver(engine, target)
    cut.join()
    arrived = _there(machine, "incoming")
    assert 2 << 20 <= max(arrived.values()) < MODEL_BYTES
    machine.mend()
    assert "lock" not in _there(machine, "")
    sent: list[str] = []
    with open_target(slow.model_copy(update={"bandwidth_mb_s": None})) as target:
        _deliver(engine, target, note=sent.append)
        assert target.call("holder", {}) == {"lock": None}
    # of the delivery that was cut only its own signatures stay, until `gc`: the second one was signed anew
    left = _there(machine, "incoming")
    assert sum(left.values()) < 64 << 10, left


def test_a_layer_that_was_tampered_with_on_the_target_is_not_taken_in(
    ssh_lab: SshLab, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = ssh_lab.machines[0]
    flips = 0
    send = bundle_delivery._send

    def tamper(packed: Any, receiver: Any, note: Any) -> None:
        nonlocal flips
        send(packed, receiver, note)
        largest = max((machine.home / "targets/lab/incoming").iterdir(), key=lambda file: file.stat().st_size)
        flips += 1
        with largest.open("r+b") as file:
            file.seek(MODEL_BYTES // 2)
            file.write(b"!")

    monkeypatch.setattr(bundle_delivery, "_send", tamper)
    notes: list[str] = []
    with open_target(ssh_lab.set_up(machine)) as target:
        with pytest.raises(BundleError, match=r"blob .*digest .*expected the bytes of its name"):
            _deliver(engine, target, note=notes.append)
        assert flips == 2
        monkeypatch.undo()
        _deliver(engine, target)  # and the damaged one is not in its way


def test_a_disk_without_room_is_named_before_the_first_byte(ssh_lab: SshLab, engine: Engine) -> None:
    machine = ssh_lab.machines[0]
    machine.small_disk("/root/targets", 20)
    with open_target(ssh_lab.set_up(machine)) as target:
        with pytest.raises(ResourceError, match=r"disk of 198.*0.0\d GB free; expected 0.05 GB.*nothing was copied"):
            _deliver(engine, target)
        assert int(machine.run("sh", "-c", "ls /root/targets/lab/incoming 2>/dev/null | wc -l").stdout) == 0


def test_a_disk_that_fills_meanwhile_leaves_a_target_that_can_go_on(ssh_lab: SshLab, engine: Engine) -> None:
    machine = ssh_lab.machines[0]
    machine.small_disk("/root/targets", 80)
    params = ssh_lab.set_up(machine)
    with open_target(params.model_copy(update={"bandwidth_mb_s": 8})) as target:
        filler = threading.Thread(target=lambda: _fill(machine))
        filler.start()
        with pytest.raises(ResourceError, match="No space left"):
            _deliver(engine, target)
        filler.join()
        machine.run("rm", "/root/targets/filler")
        _deliver(engine, target)


def test_an_engine_of_another_architecture_is_refused_with_nothing_sent(ssh_lab: SshLab, engine: Engine) -> None:
    """The machine's logins run under `setarch`, which is how a kernel says that it is another machine."""
    machine = ssh_lab.machines[0]
    params = ssh_lab.set_up(machine)
    keys = machine.home / ".ssh/authorized_keys"
    keys.write_text(keys.read_text().replace('command="', 'command="/usr/bin/setarch linux32 '))
    with open_target(params) as target:
        with pytest.raises(ConfigError, match=r"made for .*; expected one for i686"):
            _deliver(engine, target)
        assert _there(machine, "incoming") == {}


def _cut_after(machine: Machine, size: int) -> None:
    deadline = time.monotonic() + 60
    while max(_there(machine, "incoming").values(), default=0) < size:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    machine.cut()


def _fill(machine: Machine) -> None:
    """Once the first bytes of a copy are there, take all room that is left."""
    command = (
        "until [ $(ls -l /root/targets/lab/incoming 2>/dev/null | awk '{s+=$5} END {print s+0}') -gt 1000000 ]; "
        "do sleep 0.02; done; head -c 100000000 /dev/zero > /root/targets/filler"
    )
    machine.run("sh", "-c", command, check=False, timeout=60)

"""What of the config reaches a set-up, and which targets have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.set_up import set_up_target, undo_target
from slipway.deployment.ssh import set_up as ssh_set_up
from slipway.errors import ConfigError

SPARK = DeployConfig(kind="spark", target="spark", ports=[8091, 8092], ssh={"host": "spark", "user": "me"})


def test_what_of_the_config_reaches_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tunnels may lead to engines and proxy, a unit is written, this store's signer is trusted."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(ssh_set_up, "set_up", lambda *args, **more: calls.append((*args[:-1], more)) or {})
    set_up_target(SPARK, print, tmp_path, fingerprint="SHA256:x")
    ((ssh, name, ports, units, more),) = calls
    assert (ssh.host, name, ports) == ("spark", "spark", [8091, 8092, 8090])
    assert list(units) == ["slipway-spark.service"]
    trust = {"policy": "warn", "keys": ((tmp_path / "signing/key.pub").read_text(),), "roots": ()}
    assert more == {"identity": None, "fingerprint": "SHA256:x", "trust": trust}


def test_a_target_of_this_machine_needs_no_set_up() -> None:
    with pytest.raises(ConfigError, match=r"target local: kind local; expected kind spark.*needs no set-up"):
        set_up_target(DeployConfig(), print, Path())
    with pytest.raises(ConfigError, match="kind local"):
        undo_target(DeployConfig(), print)


@pytest.mark.parametrize("name", ["Spark 1", "", "-x", "../x", "x" * 42])
def test_a_name_that_no_unit_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"deploy.target"):
        set_up_target(SPARK.model_copy(update={"target": name}), print, Path())

"""Stages on `remote.host` as an ordinary user of that machine, promoted to the same one.

The login: no sudo, a home that no one else may enter, umask 077, no /run/user; its store lies in a data folder of its
own. The chain is fetch to promote with the pico model.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.finetune_and_ship import finetune_and_ship
from slipway.config.remote import RemoteConfig
from slipway.deployment.state import status, stop
from slipway.errors import ResourceError
from slipway.ops.remote_check import remote_rows
from slipway.pipeline.remote_machine import RemoteMachine
from slipway.store.artifacts import Checkpoint
from slipway.store.store import Store, load
from tests.lab.runners.test_remote import cut_while_training, laptop, settings, spark  # noqa: F401 (fixtures)
from tests.lab.ssh_lab import LOGIN, LOGIN_DATA, LOGIN_ID, ROOT, Machine, SshLab
from tests.support.pico import pico_model

pytestmark = [pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
PYTHON = str(ROOT / ".venv/bin/python")


def test_the_chain_runs_as_an_ordinary_login_and_goes_on_after_a_cut(
    ssh_lab: SshLab,
    spark: Machine,  # noqa: F811
    laptop: Path,  # noqa: F811
) -> None:
    spark.run("chmod", "711", "/root")  # the lab's Python may lie below it
    spark.run("cp", "-a", "/root/slipway", "/srv/data/slipway")
    spark.run("chown", "-R", f"{LOGIN}:", "/srv/data/slipway")
    spark.run("mv", "/srv/data/slipway", f"{LOGIN_DATA}/slipway")
    config = settings(ssh_lab, spark, laptop, login=LOGIN, there=f"{LOGIN_DATA}/slipway")
    with cut_while_training(spark) as was_cut:
        made = finetune_and_ship(config, return_state=True)
    assert made.is_completed(), made.message
    assert was_cut.is_set()
    serving = status(config.deploy)
    assert serving.release and serving.healthy
    owners = {path.lstat().st_uid for top in (spark.login_home, spark.login_data) for path in top.rglob("*")}
    assert owners == {LOGIN_ID}
    stop(config.deploy)


def test_a_login_that_prints_words_and_a_folder_that_is_not_its_own_are_named(
    ssh_lab: SshLab,
    spark: Machine,  # noqa: F811
    tmp_path: Path,
) -> None:
    spark.run("chmod", "711", "/root")
    address = f"ssh://{LOGIN}@{spark.address}"
    nearest = {"/srv/data/other/slipway": "/srv/data", "/root/slipway": "/root/slipway"}
    store = Store(tmp_path / "store")
    with store.create(Checkpoint, "b", {}) as out:
        pico_model(out)
    base = load(Checkpoint, store.dir("checkpoint", "b"))
    for folder in ("/srv/data/other/slipway", "/root/slipway"):
        doctor = {row[0]: row for row in remote_rows(RemoteConfig(host=address, folder=folder, python=PYTHON))}
        assert doctor["remote: disk"][1:] == (
            "fail",
            f"{nearest[folder]} is not writable",
            "set remote.folder elsewhere",
        )
        expected = rf"{folder}/.*Permission denied .*a folder that the login may write.*an admin"
        with pytest.raises(ResourceError, match=expected):
            RemoteMachine(address, folder, PYTHON, 1).push(base)
    with (spark.login_home / ".bashrc").open("a") as profile:
        profile.write("echo Have a good day\n")
    _, row, *_ = remote_rows(RemoteConfig(host=address, folder=LOGIN_DATA, python=PYTHON))
    assert row[:2] == ("remote: login", "fail") and "prints 'Have a good day' before any command" in row[2]
    with pytest.raises(ResourceError, match=r"prints words before any command.*silence.*case \$- in"):
        RemoteMachine(address, f"{LOGIN_DATA}/slipway", PYTHON, 1).push(base)

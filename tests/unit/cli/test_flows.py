"""`slipway run` and `promote` become the flow's process, with its arguments and what it needs to know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.ops.credentials import ensure_credentials
from slipway.system.ports import any_port

FLOW = """import json, os, sys
names = ("SLIPWAY_COMMAND", "DO_NOT_TRACK", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "no_proxy")
print(json.dumps({"argv": sys.argv[1:], "pid": os.getpid(), **{n: os.environ.get(n) for n in names}}))
sys.exit(7)
"""
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose flows only say what they were started with, and exit with 7."""
    (tmp_path / "flows").mkdir()
    for name in ("finetune_and_ship", "promote"):
        (tmp_path / "flows" / f"{name}.py").write_text(FLOW)
    (tmp_path / "infra/local").mkdir(parents=True)
    (tmp_path / "infra/local/supervisord.conf").touch()  # marks a project's root
    return tmp_path


def run(cwd: Path, *words: str, **env: str) -> tuple[subprocess.Popen[str], str, str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PREFECT_API_URL", "SLIPWAY_PREFECT_PORT")}
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway", *words],
        cwd=cwd,
        env={**environment, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, *process.communicate(timeout=120)


def test_run_hands_over_and_its_exit_code_is_the_flows(project: Path) -> None:
    conf = str(ROOT / "conf")
    process, out, err = run(
        project, "run", "--conf", conf, "--json", "train.epochs=2", SLIPWAY_PREFECT_PORT="4321", no_proxy="a.org"
    )
    assert process.returncode == 7, err
    flow = json.loads(out)
    assert flow == {
        "argv": ["--conf", conf, "--json", "train.epochs=2"],
        "pid": process.pid,
        "SLIPWAY_COMMAND": f"slipway run --conf {conf} --json train.epochs=2",
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": "http://127.0.0.1:4321/api",
        "PREFECT_API_AUTH_STRING": None,
        "no_proxy": "a.org,127.0.0.1,localhost,::1",
    }


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        (["promote", "v/1", "--json"], ["promote", "v/1", "--conf", "conf", "--json"]),
        (["promote"], ["promote", "--conf", "conf"]),
    ],
)
def test_promotions_hand_over_their_arguments(project: Path, words: list[str], argv: list[str]) -> None:
    process, out, _ = run(project, *words, PREFECT_API_URL="http://elsewhere/api")
    flow = json.loads(out)
    assert (process.returncode, flow["argv"], flow["PREFECT_API_URL"]) == (7, argv, "http://elsewhere/api")


def test_the_flow_gets_the_credentials_of_this_machines_server_alone(project: Path) -> None:
    pair = ensure_credentials(project)
    environment = {"SLIPWAY_SERVICES": str(project), "SLIPWAY_PREFECT_PORT": str(any_port())}
    _, out, _ = run(project, "promote", **environment)
    assert json.loads(out)["PREFECT_API_AUTH_STRING"] == pair.pair
    _, out, _ = run(project, "promote", **environment, PREFECT_API_URL="http://elsewhere/api")
    assert json.loads(out)["PREFECT_API_AUTH_STRING"] is None
    _, out, _ = run(project, "promote", **environment, PREFECT_API_AUTH_STRING="my:own")
    assert json.loads(out)["PREFECT_API_AUTH_STRING"] == "my:own"


def test_outside_of_the_project_nothing_is_started(tmp_path: Path) -> None:
    process, out, err = run(tmp_path, "promote")
    assert (process.returncode, out) == (2, "")
    assert f"working directory: {tmp_path}" in err and "holds flows/promote.py" in err


def test_a_config_that_is_refused_starts_no_flow(project: Path) -> None:
    process, out, err = run(project, "run", "--conf", str(ROOT / "conf"), "train.nonsense=1")
    assert (process.returncode, out) == (2, "") and "train.nonsense" in err

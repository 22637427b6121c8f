"""The deployment for real: `infra/local/up` on free ports, then the literal command, run by the worker to its end."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from slipway.config.gate import GateConfig
from slipway.config.load import load_config
from slipway.config.quantize import QuantizeConfig
from slipway.config.train import TrainConfig
from slipway.deployment.state import status, stop
from slipway.ops.services import DEPLOYMENT, HOST, POOL, Services, supervisor
from slipway.system.ports import any_port
from tests.support.world import ROOT, small_settings

PASSWORD = "Tr0ub4dor-and-3"
pytestmark = pytest.mark.timeout(1800)  # the first run on a machine builds the engine


@dataclass
class Lab:
    """A server, a tracking server and a worker of their own, and the shell that a user would have."""

    folder: Path
    services: Services
    shell: dict[str, str]

    def sh(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=self.shell, capture_output=True, text=True, timeout=900, check=False
        )

    def api(self, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection(HOST, self.services.prefect_port, timeout=30)
        try:
            connection.request("POST", f"/api{path}", json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def logged_params(self) -> dict[str, str]:
        """The parameters of the one pipeline run in MLflow."""
        client = MlflowClient(self.services.mlflow_url)
        experiment = client.get_experiment_by_name("test")
        assert experiment
        runs = client.search_runs([experiment.experiment_id])
        (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
        return dict(parent.data.params)

    def deployment(self) -> dict[str, Any]:
        (found,) = self.api("/deployments/filter", {})
        return dict(found)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    services = Services(ROOT, folder / "services", any_port(), any_port())
    bin_folder = str(Path(sys.executable).parent)
    shell = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "SLIPWAY_SERVICES": str(services.data),
        "SLIPWAY_PREFECT_PORT": str(services.prefect_port),
        "SLIPWAY_MLFLOW_PORT": str(services.mlflow_port),
        "PREFECT_API_URL": f"{services.prefect_url}/api",
        "PREFECT_HOME": str(folder / "home"),
        "LAB_TRACKING_URI": f"http://ann:{PASSWORD}@127.0.0.1:{services.mlflow_port}",
    }
    here = Lab(folder, services, shell)
    try:
        started = here.sh("infra/local/up")
        assert started.returncode == 0, started.stdout + started.stderr
        assert "services started" in started.stdout
        yield here
    finally:
        here.sh("infra/local/down")


def test_up_again_changes_nothing_and_says_so(lab: Lab) -> None:
    before, mine = lab.deployment(), supervisor(lab.services)
    again = lab.sh("infra/local/up")
    assert again.returncode == 0, again.stderr
    assert "services were up already; nothing to do" in again.stdout
    assert lab.deployment()["updated"] == before["updated"]
    assert supervisor(lab.services) == mine


def test_the_form_is_the_whole_config_with_defaults(lab: Lab) -> None:
    schema = lab.deployment()["parameter_openapi_schema"]
    sections = schema["properties"]["config"]["properties"]
    stages = {"model", "data", "train", "merge", "quantize", "engine", "evaluate", "gate", "deploy"}
    assert set(sections) == stages | {"target", "images", "store", "tracking", "layers"}
    lr = schema["definitions"]["TrainConfig"]["properties"]["lr"]
    assert (lr["type"], lr["exclusiveMinimum"]) == ("number", 0)
    assert schema["definitions"]["TrainConfig"]["properties"]["method"]["enum"] == ["qlora", "lora", "sft"]
    fields = [f for d in schema["definitions"].values() for f in d.get("properties", {}).values()]
    assert len(fields) > 70
    assert all(
        "description" in f or "$ref" in f for f in fields
    )  # a section whose words are its class's own has them there
    assert all("description" in d for d in schema["definitions"].values())
    default = schema["properties"]["config"]["default"]
    assert (
        default["gate"]["floors"] == load_config(Path("conf")).gate.floors
    )  # the shipped layer, not the class default
    assert default["gate"]["floors"]["exact_match"] != GateConfig().floors["exact_match"]
    assert default["tracking"]["uri"] == lab.services.mlflow_url


def test_the_server_refuses_parameters_outside_the_schema(lab: Lab) -> None:
    answer = lab.sh("prefect", "deployment", "run", DEPLOYMENT, "-p", 'config={"train": {"lr": -1}}')
    assert answer.returncode != 0
    assert "lr" in answer.stdout + answer.stderr


def test_retraining_is_scheduled_and_silent_runs_are_crashed(lab: Lab) -> None:
    (schedule,) = lab.deployment()["schedules"]
    assert (schedule["slug"], schedule["active"], schedule["schedule"]["cron"]) == ("weekly-retrain", True, "0 3 * * 1")
    assert lab.deployment()["global_concurrency_limit"]["limit"] == 1
    assert lab.deployment()["work_pool_name"] == POOL
    (zombies,) = lab.api("/automations/filter", {})
    assert zombies["enabled"]
    assert zombies["actions"][0]["state"] == "CRASHED"


def test_the_server_refuses_a_literal_password_before_it_stores_it(lab: Lab) -> None:
    before = lab.api("/flow_runs/count", {})
    for parameter in (
        'config={"tracking": {"uri": "http://ann:stored-for-ever@host"}}',
        'overrides=["tracking.uri=http://ann:stored-for-ever@host"]',
        'config={"train": {"epoch": 2}}',
    ):
        answer = lab.sh("prefect", "deployment", "run", DEPLOYMENT, "-p", parameter)
        assert answer.returncode != 0, parameter
    assert lab.api("/flow_runs/count", {}) == before


def test_the_literal_command_runs_a_partial_config_over_conf_to_its_end(lab: Lab) -> None:
    """Half of the keys as a partial config, half as overrides, the others as `conf/` says; the tracking address, with
    its password, is known to the worker's environment only."""
    settings = small_settings(lab.folder, "${oc.env:LAB_TRACKING_URI}", any_port())
    words = [f"{key}={value}" for key, value in settings.items()]
    config, overrides = OmegaConf.to_container(OmegaConf.from_dotlist(words[::2])), words[1::2]
    shipped, target = load_config(Path("conf")), load_config(Path("conf"), [w for w in words if "LAB_" not in w]).deploy
    try:
        ran = lab.sh(
            "prefect", "deployment", "run", "finetune-and-ship", "--watch",
            "-p", f"config={json.dumps(config)}", "-p", f"overrides={json.dumps(overrides)}",
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr + (lab.services.data / "worker.log").read_text()[-4000:]
        (run,) = lab.api(
            "/flow_runs/filter",
            {
                "flow_runs": {
                    "deployment_id": {"any_": [lab.deployment()["id"]]},
                    "state": {"type": {"any_": ["COMPLETED"]}},
                }
            },
        )
        assert run["parameters"] == {"config": config, "overrides": overrides}
        logged = lab.logged_params()
        assert logged["train.rank"] == "4", "as the parameters say"
        assert logged["train.lr"] == str(shipped.train.lr) != str(TrainConfig().lr), "as conf/ says"
        assert logged["quantize.method"] == shipped.quantize.method != QuantizeConfig().method
        assert logged["tracking.uri"] == f"http://***@127.0.0.1:{lab.services.mlflow_port}"
        assert status(target).healthy
    finally:
        stop(target)
    files = [p for p in lab.folder.rglob("*") if p.is_file()]
    assert {"prefect.db", "mlflow.db", "worker.log", "last-run.json"} <= {p.name for p in files}
    for secret in (PASSWORD, "stored-for-ever"):
        assert [p for p in files if secret.encode() in p.read_bytes()] == []


def test_a_name_that_is_not_deployed_says_what_to_do(lab: Lab) -> None:
    answer = lab.sh("prefect", "deployment", "run", "finetune-and-sheep")
    assert answer.returncode != 0
    assert "make up" in answer.stdout + answer.stderr


def test_down_stops_exactly_those(lab: Lab) -> None:
    """Last: a process that we do not own, started in the same way, lives on."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], env=lab.shell)
    mine = supervisor(lab.services)
    assert mine
    family = [mine, *mine.children(recursive=True)]
    assert len(family) >= 4
    try:
        down = lab.sh("infra/local/down")
        assert down.returncode == 0, down.stderr
        assert "services stopped" in down.stdout
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
        assert stranger.poll() is None
        assert "already" in lab.sh("infra/local/down").stdout
    finally:
        stranger.kill()
        stranger.wait()
    deadline = time.monotonic() + 10
    while any(
        c.laddr and c.laddr.port in (lab.services.prefect_port, lab.services.mlflow_port) and c.status == "LISTEN"
        for c in psutil.net_connections()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)

"""The deployment for real: `infra/local/up` on free ports, then the literal command, run by the worker to its end."""

from __future__ import annotations

import contextlib
import functools
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
import websockets.exceptions
import websockets.sync.client
from mlflow import MlflowClient
from omegaconf import OmegaConf

from slipway.config.gate import GateConfig
from slipway.config.load import load_config
from slipway.config.quantize import QuantizeConfig
from slipway.config.train import TrainConfig
from slipway.deployment.state import status, stop
from slipway.ops.credentials import ensure_credentials, read_credentials
from slipway.ops.prefect_api import DEPLOYMENT, POOL, call
from slipway.ops.services import HOST, Services
from slipway.ops.supervision import supervisor
from slipway.system import processes
from slipway.system.ports import any_port
from tests.support.browser import browser
from tests.support.files_in_use import contents
from tests.support.stranger import as_nobody
from tests.support.world import ROOT, small_settings

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
        return call(self.services, "POST", path, body)

    def logged_params(self) -> dict[str, str]:
        """The parameters of the one pipeline run in MLflow."""
        client = MlflowClient(self.shell["LAB_TRACKING_URI"])
        experiment = client.get_experiment_by_name("test")
        assert experiment
        runs = client.search_runs([experiment.experiment_id])
        (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
        return dict(parent.data.params)

    def login(self) -> str:
        """The header that a browser of the owner sends."""
        return read_credentials(self.services.data).authorization

    def runs_by_hand(self) -> list[str]:
        """Ids of the flow runs that no schedule made, newest first."""
        runs = self.api("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"})
        return [str(run["id"]) for run in runs if not run["auto_scheduled"]]

    def state(self, run: str) -> dict[str, Any]:
        """The state of a flow run, as the API has it."""
        return dict(call(self.services, "GET", f"/flow_runs/{run}")["state"])

    def wait_for_state(self, run: str, name: str) -> None:
        """Wait until a flow run is in the state of this name; another final one raises."""
        deadline = time.monotonic() + 900
        while (state := self.state(run))["name"] != name:
            ended = state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            log = (self.services.data / "worker.log").read_text()[-4000:]
            assert not ended, f"{state['name']}: {state['message']}\n{log}"
            assert time.monotonic() < deadline, f"{state['name']}, not {name}\n{log}"
            time.sleep(0.5)

    def deployment(self) -> dict[str, Any]:
        (deployment,) = self.api("/deployments/filter", {"deployments": {"name": {"any_": [DEPLOYMENT]}}})
        return dict(deployment)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    services = Services(ROOT, folder / "services", any_port(), any_port())
    services.data.mkdir()
    pair = ensure_credentials(services.data)
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
        "LAB_TRACKING_URI": f"http://{pair.pair}@127.0.0.1:{services.mlflow_port}",
    }
    here = Lab(folder, services, shell)
    try:
        started = here.sh("infra/local/up")
        assert started.returncode == 0, started.stdout + started.stderr
        assert "services started" in started.stdout
        yield here
    finally:
        here.sh("infra/local/down")


def request(port: int, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of one HTTP request to a service, with exactly these headers beside Host."""
    connection = http.client.HTTPConnection(HOST, port, timeout=120)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def both(services: Services) -> list[tuple[int, str, str]]:
    """Port, health page and an API path that reads, of each server."""
    return [
        (services.prefect_port, "/api/health", "/api/flow_runs/filter"),
        (services.mlflow_port, "/health", "/api/2.0/mlflow/experiments/search"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_of_this_machine_gets_no_further_than_health(lab: Lab) -> None:
    file = lab.services.data / "credentials.json"
    password = read_credentials(lab.services.data).password
    assert "PermissionError" in as_nobody(lambda: file.read_text())
    assert "PermissionError" in as_nobody(lambda: list(lab.services.data.iterdir()))
    command = {"name": "stranger", "flow_id": "00000000-0000-0000-0000-000000000000", "entrypoint": "/tmp/x.py:f"}
    for port, health, path in both(lab.services):
        assert as_nobody(lambda port=port, health=health: request(port, health))[0] == 200
        for page in ("/", "/docs", "/version", "/static/index.html", "/api/admin/version"):
            assert as_nobody(lambda port=port, page=page: request(port, page))[0] == 401
        for body, kind in ((json.dumps(command), "application/json"), ("{}", "application/json")):
            asked = as_nobody(lambda p=port, q=path, b=body, k=kind: request(p, q, "POST", b, Content_Type=k))
            assert asked[0] == 401
    created = as_nobody(
        lambda: request(
            lab.services.prefect_port, "/api/deployments/", "POST", json.dumps(command), Content_Type="application/json"
        )
    )
    assert created[0] == 401

    def readable() -> str:
        """Everything that /proc shows another user about every process."""
        texts = []
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ", "comm"):
                with contextlib.suppress(OSError):
                    texts.append((process / name).read_bytes().decode("latin-1"))
        return "\n".join(texts)

    shown = as_nobody(readable)
    assert "slipway.ops.servers" in shown  # the servers are among those looked at
    assert password not in shown


def test_a_web_page_elsewhere_can_use_neither_server(lab: Lab) -> None:
    """Even with the owner's credentials, as a browser that is logged in would send them."""
    login = read_credentials(lab.services.data).authorization
    for port, health, path in both(lab.services):
        ask = functools.partial(request, port, path, "POST", Authorization=login)
        good = {"body": json.dumps({"max_results": 1} if "mlflow" in path else {}), "Content_Type": "application/json"}
        assert ask(**good)[0] == 200
        assert ask(**good, Origin=f"http://{HOST}:{port}")[0] == 200
        assert ask(**good, Origin="http://evil.example")[0] == 403
        assert ask(**good, Origin="null")[0] == 403
        assert ask(**good, Host=f"evil.example:{port}")[0] == 403  # a name that was rebound to 127.0.0.1
        assert ask(**{**good, "Content_Type": "text/plain"})[0] == 415
        assert request(port, health, Host="evil.example")[0] == 403
        assert request(port, "/", Authorization=login)[0] == 200


def test_a_stranger_opens_no_websocket(lab: Lab) -> None:
    """Prefect's event stream: without the pair its own handshake ends; with a foreign Origin the guard ends it."""
    url = f"ws://{HOST}:{lab.services.prefect_port}/api/events/out"
    login = read_credentials(lab.services.data)

    def greet(token: str, origin: str | None = None) -> str:
        try:
            with websockets.sync.client.connect(url, subprotocols=["prefect"], origin=origin, proxy=None) as socket:
                socket.send(json.dumps({"type": "auth", "token": token}))
                return str(json.loads(socket.recv(timeout=120))["type"])
        except websockets.exceptions.ConnectionClosed as err:
            return f"closed {err.rcvd.code if err.rcvd else ''}"
        except websockets.exceptions.InvalidStatus as err:
            return f"refused {err.response.status_code}"

    assert greet(login.pair) == "auth_success"
    assert greet("slipway:wrong") == "closed 1008"
    assert greet(login.pair, "http://evil.example") == "refused 403"


def test_the_login_is_shown_to_its_owner_and_links_carry_none(lab: Lab) -> None:
    pair = read_credentials(lab.services.data)
    shown = json.loads(lab.sh(sys.executable, "-m", "slipway", "status", "--login", "--json").stdout)
    assert [(page["name"], page["user"], page["password"]) for page in shown] == [
        ("Prefect", pair.user, pair.password),
        ("MLflow", pair.user, pair.password),
    ]
    assert [page["url"] for page in shown] == [lab.services.prefect_url, lab.services.mlflow_url]
    status = lab.sh(sys.executable, "-m", "slipway", "status")
    assert status.returncode == 0
    assert pair.password not in status.stdout + status.stderr


def test_up_again_changes_nothing_and_says_so(lab: Lab) -> None:
    before, mine = lab.deployment(), supervisor(lab.services)
    again = lab.sh("infra/local/up")
    assert again.returncode == 0, again.stderr
    assert "services were up already; nothing to do" in again.stdout
    assert lab.deployment()["updated"] == before["updated"]
    assert supervisor(lab.services) == mine


def test_the_form_is_the_whole_config_with_defaults(lab: Lab) -> None:
    schema = lab.deployment()["parameter_openapi_schema"]
    field = schema["properties"]["config"]
    sections = schema["definitions"][field["$ref"].rpartition("/")[2]]["properties"]
    stages = {"model", "data", "train", "merge", "quantize", "engine", "evaluate", "agent", "gate", "deploy", "rag"}
    machines = {"target", "serving", "images", "remote", "store"}
    assert set(sections) == stages | machines | {"tracking", "notify", "watch", "layers"}
    lr = schema["definitions"]["TrainConfig"]["properties"]["lr"]
    assert (lr["type"], lr["exclusiveMinimum"]) == ("number", 0)
    assert schema["definitions"]["TrainConfig"]["properties"]["method"]["enum"] == ["qlora", "lora", "sft"]
    fields = [f for d in schema["definitions"].values() for f in d.get("properties", {}).values()]
    assert len(fields) > 70
    assert all(
        "description" in f or "$ref" in f for f in fields
    )  # a section whose words are its class's own has them there
    assert all("description" in d for d in schema["definitions"].values())
    default = field["default"]
    assert (
        default["gate"]["floors"] == load_config(Path("conf")).gate.floors
    )  # the shipped layer, not the class default
    assert default["gate"]["floors"] != GateConfig().floors
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
    automations = {one["name"]: one for one in lab.api("/automations/filter", {})}
    assert all(one["enabled"] for one in automations.values())
    assert automations["slipway: crash runs that went silent"]["actions"][0]["state"] == "CRASHED"
    assert automations["slipway: cancel runs that never end"]["actions"][0]["type"] == "cancel-flow-run"


def test_the_server_refuses_a_literal_password_before_it_stores_it(lab: Lab) -> None:
    before = lab.runs_by_hand()
    for parameter in (
        'config={"tracking": {"uri": "http://ann:stored-for-ever@host"}}',
        'overrides=["tracking.uri=http://ann:stored-for-ever@host"]',
        'config={"train": {"epoch": 2}}',
    ):
        answer = lab.sh("prefect", "deployment", "run", DEPLOYMENT, "-p", parameter)
        assert answer.returncode != 0, parameter
    assert lab.runs_by_hand() == before


def test_the_literal_command_runs_a_partial_config_over_conf_to_its_end(lab: Lab) -> None:
    """Half of the keys as a partial config, half as overrides, the others as `conf/` says; the tracking address, with
    its password, is known to the worker's environment only."""
    settings = small_settings(lab.folder, "${oc.env:LAB_TRACKING_URI}", any_port())
    words = [f"{key}={value}" for key, value in settings.items()]
    config, overrides = OmegaConf.to_container(OmegaConf.from_dotlist(words[::2])), words[1::2]
    shipped, target = load_config(Path("conf")), load_config(Path("conf"), [w for w in words if "LAB_" not in w]).deploy
    try:
        ran = lab.sh(
            "prefect",
            "deployment",
            "run",
            "finetune-and-ship",
            "--watch",
            "-p",
            f"config={json.dumps(config)}",
            "-p",
            f"overrides={json.dumps(overrides)}",
        )
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
    files = {file: held for file, held in contents(lab.folder).items() if file.name != "credentials.json"}
    assert {"prefect.db", "mlflow.db", "worker.log", "last-run.json"} <= {file.name for file in files}
    for secret in (read_credentials(lab.services.data).password, "stored-for-ever"):
        assert [file for file, held in files.items() if secret.encode() in held] == []


def test_an_inconclusive_gate_asks_a_person_whose_answer_in_the_browser_is_recorded(lab: Lab, tmp_path: Path) -> None:
    """Nobody answers within the time: that is a no, and nothing serves. The run's retry finds every stage made and asks
    again; a person reads the rules on its page, approves, and the run goes on from there."""
    more = {"gate.min_items": 1000, "deploy.root": lab.folder / "asked", "deploy.answer_within_s": 100}
    settings = small_settings(lab.folder, "${oc.env:LAB_TRACKING_URI}", any_port(), **more)
    target = load_config(
        Path("conf"), [f"{key}={value}" for key, value in settings.items() if "LAB_" not in str(value)]
    )
    created = lab.sh("prefect", "deployment", "run", DEPLOYMENT, "-p", f"overrides={json.dumps(words(settings))}")
    assert created.returncode == 0, created.stdout + created.stderr
    run = lab.runs_by_hand()[0]
    try:
        lab.wait_for_state(run, "Suspended")
        assert status(target.deploy).release is None
        lab.wait_for_state(run, "Failed")
        assert "never resumed" in lab.state(run)["message"]
        retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}
        with browser() as page:  # there before the question: where it must be installed first, the answer came too late
            assert lab.api(f"/flow_runs/{run}/set_state", retry)["status"] == "ACCEPT"
            lab.wait_for_state(run, "Suspended")
            page.call("Network.setExtraHTTPHeaders", headers={"Authorization": lab.login()})
            page.open(f"{lab.services.prefect_url}/runs/flow-run/{run}")
            page.click("Resume", "button")
            page.wait_for_text("the gate is inconclusive: a person decides")
            page.wait_for_text("fewer than gate.min_items=1000")
            page.choose(".p-modal select", "approve")
            for place, text in enumerate(("ann", "looked at the answers")):
                page.focus(".p-modal textarea", place)
                page.type(text)
            page.screenshot(tmp_path / "question.png")
            page.click("Submit", "button")
            page.wait("!document.querySelector('.p-modal textarea')")
        lab.wait_for_state(run, "Completed")
        release = status(target.deploy).release
        assert release is not None
        assert (release.outcome, release.asked and release.asked.by) == ("inconclusive", "person")
        recorded = json.loads((Path(release.path) / "decision.json").read_text())
        assert recorded["ruling"]["rule"] == "inconclusive"
        assert {key: recorded["approval"][key] for key in ("approved", "by", "reason", "given")} == {
            "approved": True, "by": "ann", "reason": "looked at the answers", "given": "prefect",
        }  # fmt: skip
        client = MlflowClient(lab.shell["LAB_TRACKING_URI"])
        version = client.get_model_version_by_alias(release.model, "local-champion")
        assert (version.tags["approver"], version.tags["decision"]) == ("ann", release.digests["decision"])
        (suspended,) = client.search_runs(
            [client.get_experiment_by_name("test").experiment_id], "tags.`slipway.suspended` != ''", max_results=1
        )
        assert suspended.info.status == "FINISHED"
    finally:
        stop(target.deploy)


def words(settings: dict[str, Any]) -> list[str]:
    """Dotted keys as overrides."""
    return [f"{key}={value}" for key, value in settings.items()]


def test_a_name_that_is_not_deployed_says_what_to_do(lab: Lab) -> None:
    answer = lab.sh("prefect", "deployment", "run", "finetune-and-sheep")
    assert answer.returncode != 0
    assert "make up" in answer.stdout + answer.stderr


def test_down_stops_exactly_those(lab: Lab) -> None:
    """Last: a process that we do not own, started in the same way, lives on."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], env=lab.shell)
    mine = supervisor(lab.services)
    assert mine
    members = processes.family(mine)
    assert len(members) >= 4
    try:
        down = lab.sh("infra/local/down")
        assert down.returncode == 0, down.stderr
        assert "services stopped" in down.stdout
        assert processes.wait_ended(members, 5) == []
        assert stranger.poll() is None
        assert "already" in lab.sh("infra/local/down").stdout
    finally:
        stranger.kill()
        stranger.wait()
    deadline = time.monotonic() + 120
    while any(
        c.laddr and c.laddr.port in (lab.services.prefect_port, lab.services.mlflow_port) and c.status == "LISTEN"
        for c in psutil.net_connections()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)

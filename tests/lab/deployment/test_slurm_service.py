"""A service job on the lab's Slurm: registered with its token, followed through requeues, node loss and its time limit.

The engine is a small server that answers with the attempt that it is, so an answer says who gave it.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.agent import Agent
from slipway.agent.engine_key import access_of, read_key
from slipway.agent.slurm.engine import Registration, SlurmService, SlurmSettings
from slipway.agent.slurm.follow import Decision, Follower, Hands
from slipway.config.deploy import DeployConfig
from slipway.config.proxy import ProxyConfig
from slipway.config.slurm_service import SlurmServiceConfig
from slipway.deployment import promotion as deployment
from slipway.deployment.start_document import start_document
from slipway.errors import ConfigError, EngineError
from slipway.store.store import Store
from slipway.system.ports import any_port
from tests.lab.slurm_lab import SlurmLab, wait_for
from tests.support.agent import engine, promote, rollback, stage_document
from tests.support.pki import make_pki
from tests.support.target import make_data, make_verdict

RUNBOOK = Path(__file__).parents[3] / "infra/dgx/50-promotion"
ENGINE = """
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_RESTART_COUNT', 0)} {sys.argv[2]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""


def ask(host: str, port: int) -> str | None:
    """Who answers: `JOB.RESTART RELEASE`; None when nobody does."""
    connection = http.client.HTTPConnection(host, port, timeout=120)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class ServiceTarget:
    """A target's root on the filesystem that the nodes share, with a follower and where it points."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.settings = SlurmSettings(time_limit="01:00:00", **{"successor_s": 60.0, **settings})
        self.service = SlurmService(root, self.settings)
        self.root = root
        self.pointed: Registration | None = None
        self.log: list[Decision] = []

    def release(self, name: str) -> Path:
        folder = self.root / "releases" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def submit(self, name: str, **more: Any) -> int:
        argv = [sys.executable, "-c", ENGINE, "{port}", name]
        return self.service.submit(self.release(name), {"argv": argv, "environment": {}, "stop_s": 5.0, **more})

    def follow(self, name: str, until: Callable[[], Any], seconds: float = 120.0) -> None:
        """Steps of a follower until something is true; what it did is added to the log."""

        def point(to: Registration) -> None:
            self.pointed = to

        hands = Hands(lambda to: ask(to.host, to.port) is not None, point, lambda: self.submit(name))
        follower = Follower(self.service, self.settings, hands, {})

        def step() -> bool:
            decision = follower.step(self.release(name), self.pointed)
            if decision.what != "wait":
                self.log.append(decision)
            return bool(until())

        wait_for(step, seconds)

    def serves(self, name: str) -> str:
        """Follow until the engine that is pointed at answers; its token."""
        self.follow(name, lambda: self.pointed and ask(self.pointed.host, self.pointed.port))
        assert self.pointed is not None
        answer = ask(self.pointed.host, self.pointed.port)
        assert answer == f"{self.pointed.token} {name}"
        return self.pointed.token


@pytest.fixture
def target(slurm_lab: SlurmLab, tmp_path: Path) -> Iterator[ServiceTarget]:
    own = ServiceTarget(tmp_path / "root")
    yield own
    for folder in (own.root / "releases").iterdir():
        own.service.cancel(folder)
    wait_for(lambda: not own.service.releases_that_run())


NAME, NEXT = "0001-00000000", "0002-11111111"


def test_a_requeued_job_is_found_again_with_a_younger_token(slurm_lab: SlurmLab, target: ServiceTarget) -> None:
    job = target.submit(NAME)
    assert target.serves(NAME) == f"{job}.0"
    before = target.pointed
    assert before is not None
    slurm_lab.ask("scontrol", "requeue", str(job))
    target.follow(NAME, lambda: target.pointed and target.pointed.restart == 1)
    assert target.serves(NAME) == f"{job}.1"
    assert [decision.what for decision in target.log] == ["point", "point"]
    wait_for(lambda: ask(before.host, before.port) != f"{job}.0 {NAME}")


def test_an_engine_that_outlived_its_nodes_daemon_is_kept_out(slurm_lab: SlurmLab, target: ServiceTarget) -> None:
    """slurmd killed with -9: Slurm requeues the job on the other node while the old engine still answers."""
    job = target.submit(NAME)
    target.serves(NAME)
    old = target.pointed
    assert old is not None
    state = target.service.state(job)
    assert state is not None
    pointed_while_requeued = []
    slurm_lab.part(state.node, "kill")
    try:
        wait_for(lambda: (target.service.state(job) or state).restarts == 1)
        alive = ask(old.host, old.port) == f"{job}.0 {NAME}"
        pointed_while_requeued.append(target.service.registration(target.release(NAME), job))
        target.follow(NAME, lambda: target.pointed and target.pointed.restart == 1)
        assert target.serves(NAME) == f"{job}.1"
        wait_for(lambda: ask(old.host, old.port) is None)  # it saw the younger registration
    finally:
        slurm_lab.part(state.node, "start")
    assert alive, "the old process was meant to live on"
    assert all(one is None or one.restart == 1 for one in pointed_while_requeued)
    record = json.loads((target.release(NAME) / f"slurm/registered/{job}.1").read_text())
    assert record["node"] != state.node


def test_a_successor_takes_over_before_the_time_limit(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    """The limit is an hour, and an hour less three seconds is near it."""
    target = ServiceTarget(tmp_path / "root", successor_s=3597.0)
    try:
        first = target.submit(NAME)
        assert target.serves(NAME) == f"{first}.0"
        target.follow(NAME, lambda: target.pointed and target.pointed.job != first)
        target.follow(NAME, lambda: first not in target.service.jobs(target.release(NAME)))
        assert [decision.what for decision in target.log][:4] == ["point", "submit", "point", "cancel"]
        assert target.serves(NAME)
    finally:
        target.service.cancel(target.release(NAME))
        wait_for(lambda: not target.service.releases_that_run())


def test_a_job_that_somebody_cancelled_is_submitted_again(slurm_lab: SlurmLab, target: ServiceTarget) -> None:
    job = target.submit(NAME)
    target.serves(NAME)
    slurm_lab.ask("scancel", str(job))
    target.follow(NAME, lambda: target.pointed and target.pointed.job > job)
    assert target.serves(NAME) != f"{job}.0"


def test_another_release_starts_beside_and_the_first_goes_when_it_is_left(
    slurm_lab: SlurmLab, target: ServiceTarget
) -> None:
    target.submit(NAME)
    target.serves(NAME)
    old = target.pointed
    assert old is not None
    job = target.submit(NEXT)
    candidate = wait_for(lambda: target.service.registration(target.release(NEXT), job))
    wait_for(lambda: ask(candidate.host, candidate.port) == f"{candidate.token} {NEXT}")
    assert ask(old.host, old.port) == f"{old.token} {NAME}"  # both serve
    assert target.service.releases_that_run() == {NAME, NEXT}
    target.service.cancel(target.release(NAME))
    wait_for(lambda: ask(old.host, old.port) is None)
    assert ask(candidate.host, candidate.port) == f"{candidate.token} {NEXT}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def agent(slurm_lab: SlurmLab, tmp_path: Path) -> Iterator[Agent]:
    """A target's agent, as on a login host; its root is on what the nodes share."""
    own = Agent(tmp_path / "agent")
    own.call("stop", {"settings": {**SETTINGS, "start_timeout_s": 60}})
    yield own
    own.close()
    Agent(own.paths.root).call("stop", {})


SETTINGS = {"slurm": {"time_limit": "01:00:00", "successor_s": 60, "queue_s": 120}}


def follow_until(agent: Agent, what: Callable[[], Any]) -> list[str]:
    """What a unit's watch does, until something is true; what it did."""
    done: list[str] = []

    def step() -> bool:
        done.append(agent.call("follow", {})["did"])
        return bool(what())

    wait_for(step)
    return [did for did in done if did != "wait"]


def test_the_agents_transaction_promotes_and_rolls_back_service_jobs(agent: Agent, store: Store) -> None:
    """Journal, lock, pointer and history are those of every other target."""
    first = promote(agent, engine(store))
    state = agent.call("status", {})
    assert (state["current"]["name"], state["healthy"]) == (first["name"], True)
    job = state["endpoint"]["job"]
    second = promote(agent, engine(store, 2))
    state = agent.call("status", {})
    assert state["current"]["name"] == second["name"]
    assert state["endpoint"]["job"] > job
    assert state["lost"] == []  # the first one's job was cancelled
    assert rollback(agent)["name"] == first["name"]
    assert agent.call("status", {})["healthy"]
    assert [row["release"] for row in agent.call("stop", {})["stopped"]] == [first["name"]]
    assert agent.call("follow", {}) == {"did": "wait", "why": "no job serves here"}  # what was stopped stays stopped
    assert agent.call("boot", {})["started"]


def test_a_candidate_that_dies_on_its_node_leaves_the_champion(agent: Agent, store: Store) -> None:
    first = promote(agent, engine(store))
    with pytest.raises(EngineError, match="unknown tensor type"):
        promote(agent, engine(store, 2, die=True))
    agent.call("abort", {})
    state = agent.call("status", {})
    assert (state["current"]["name"], state["healthy"], state["interrupted"]) == (first["name"], True, None)


def test_the_target_follows_a_node_that_is_lost(slurm_lab: SlurmLab, agent: Agent, store: Store) -> None:
    promote(agent, engine(store))
    before = agent.call("status", {})["endpoint"]
    node = slurm_lab.ask("squeue", "--noheader", f"--job={before['job']}", "--format=%N")
    slurm_lab.part(node, "kill")
    try:
        done = follow_until(agent, lambda: agent.call("status", {})["healthy"] and _restart(agent) == 1)
    finally:
        slurm_lab.part(node, "start")
    assert done[-1] == "point"
    state = agent.call("status", {})
    assert (state["endpoint"]["job"], state["healthy"]) == (before["job"], True)
    assert state["endpoint"]["port"] != before["port"]


def _restart(agent: Agent) -> int:
    endpoint = agent.call("status", {})["endpoint"]
    return int(endpoint["restart"]) if endpoint else -1


class Callers:
    """Two clients that ask the proxy again and again: what each request ended with, and when it began."""

    def __init__(self, port: int) -> None:
        self._port, self._ended = port, threading.Event()
        self.results: list[tuple[float, str]] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        body = json.dumps({"messages": [{"role": "user", "content": "u"}]})
        while not self._ended.is_set():
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            try:
                connection.request("POST", "/v1/chat/completions", body)
                answer = connection.getresponse()
                whole = answer.read().endswith(b"data: [DONE]\n\n")
                self.results.append((began, "ok" if answer.status == 200 and whole else f"status {answer.status}"))
            except (OSError, http.client.HTTPException) as err:
                self.results.append((began, type(err).__name__))
            finally:
                connection.close()
            time.sleep(0.05)

    def failed(self, since: float = 0.0) -> list[str]:
        """Ends of the requests that began after `since` and failed."""
        return [end for began, end in self.results if began >= since and end != "ok"]


def test_clients_keep_one_address_through_a_promotion_and_a_requeue(
    slurm_lab: SlurmLab, agent: Agent, store: Store
) -> None:
    """No request is lost by a promotion. A requeue loses what was in the engine; what comes after it waits and is
    answered by the attempt that follows."""
    port = any_port("127.0.0.1")
    agent.call("stop", {"settings": {**SETTINGS, "start_timeout_s": 60, "proxy": {"kind": "haproxy", "port": port}}})
    promote(agent, engine(store))
    assert agent.call("status", {})["url"] == f"http://127.0.0.1:{port}/v1"
    with Callers(port) as callers:
        wait_for(lambda: len(callers.results) > 5)
        promote(agent, engine(store, 2))
        wait_for(lambda: len(callers.results) > 20)
    assert callers.failed() == []
    job = agent.call("status", {})["endpoint"]["job"]
    with Callers(port) as callers:
        slurm_lab.ask("scontrol", "requeue", str(job))
        wait_for(lambda: agent.call("follow", {}) and agent.call("status", {})["switching"]["held"])
        held = time.monotonic()
        follow_until(agent, lambda: _restart(agent) == 1)
        answered = len(callers.results)
        wait_for(lambda: len(callers.results) > answered + 10)
    assert callers.failed(since=held) == []
    assert len([began for began, _ in callers.results if began >= held]) >= 10


def post(host: str, port: int, key: str = "", context: ssl.SSLContext | None = None) -> int:
    """Status of a chat request."""
    connection = http.client.HTTPConnection(host, port, timeout=120)
    if context:
        connection = http.client.HTTPSConnection(host, port, timeout=120, context=context)
    body = json.dumps({"messages": [{"role": "user", "content": "u"}]})
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request("POST", "/v1/chat/completions", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def holding(key: str, *folders: Path) -> set[str]:
    """Files below these folders that hold a key, by their names."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.name for path in files if key.encode() in path.read_bytes()}


def shown_of(lab: SlurmLab, job: int) -> str:
    """What Slurm's commands show of a job, and what every process of the machine was called with."""
    lines = [lab.ask("scontrol", "show", "job", "--details", str(job))]
    lines.append(lab.ask("scontrol", "write", "batch_script", str(job), "-"))
    lines.append(lab.ask("squeue", "--noheader", f"--job={job}", "--format=%all"))
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_text(errors="replace"))
    return "\n".join(lines)


def test_each_attempt_of_an_engine_has_a_key_of_its_own_that_only_proxy_and_checks_know(
    slurm_lab: SlurmLab, agent: Agent, store: Store
) -> None:
    """By the orchestrator's own promotion: its smoke requests go to the engine's own port."""
    port, made = any_port("127.0.0.1"), engine(store)
    params = DeployConfig(
        kind="slurm",
        root=str(agent.paths.root),
        start_timeout_s=60,
        slurm=SlurmServiceConfig(time_limit="01:00:00", successor_s=60, queue_s=120),
        proxy=ProxyConfig(kind="haproxy", port=port),
    )
    deployment.promote(made, make_verdict(store, made), make_data(store), {}, params, model="m")
    keys = []
    for restart in (0, 1):
        endpoint = agent.call("status", {})["endpoint"]
        address, key = (endpoint["host"], endpoint["port"]), read_key(endpoint["key_file"])
        keys.append(key)
        assert [post(*address), post(*address, "0" * 64), post(*address, key)] == [401, 401, 200]
        assert [post("127.0.0.1", port), post("127.0.0.1", port, "a client's own")] == [200, 200]
        where = {f"{endpoint['job']}.{restart}", "engine.keys"}
        assert holding(key, agent.paths.root, slurm_lab.folder) == where
        assert key not in shown_of(slurm_lab, endpoint["job"])
        if restart == 0:
            slurm_lab.ask("scontrol", "requeue", str(endpoint["job"]))
            follow_until(agent, lambda: _restart(agent) == 1)
    assert post(*address, keys[0]) == 401
    assert holding(keys[0], agent.paths.root, slurm_lab.folder) == set()


def test_engines_speak_tls_by_config_to_proxy_and_checks(
    slurm_lab: SlurmLab, agent: Agent, store: Store, tmp_path: Path
) -> None:
    """The first engine speaks plain HTTP; clients see nothing of the change."""
    port, pki = any_port("127.0.0.1"), make_pki(tmp_path / "pki", chained=False, usage="serverAuth")
    settings = {**SETTINGS, "start_timeout_s": 60, "proxy": {"kind": "haproxy", "port": port}}
    promote(agent, engine(store), settings=settings)
    plain = agent.call("status", {})["endpoint"]
    assert (plain["url"].split(":")[0], post("127.0.0.1", port)) == ("http", 200)
    tls = {"certificate": pki.certificate, "key": pki.key, "ca": pki.root}
    settings |= {"slurm": {**SETTINGS["slurm"], "tls": tls}}
    made = engine(store, 2)
    start = start_document(made.path)
    start["plan"]["tls_options"] = ["--ssl-certfile", "--ssl-keyfile"]  # as of an engine that speaks it
    agent.call("begin", {"action": "promote", "engine": made.digest, "settings": settings})
    agent.call("stage", stage_document(made, start=start))
    endpoint = agent.call("start", {})
    assert post("127.0.0.1", port) == 200  # the first one still serves
    agent.call("switch", {"smoke": []})
    agent.call("commit", {})
    access = access_of(endpoint)
    address, context = (endpoint["host"], endpoint["port"]), access.context()
    assert endpoint["url"] == f"https://{endpoint['host']}:{endpoint['port']}/v1"
    assert [post(*address, "", context), post(*address, access.key, context)] == [401, 200]
    with pytest.raises((OSError, http.client.HTTPException)):
        post(*address, access.key)
    assert post("127.0.0.1", port) == 200
    slurm_lab.ask("scontrol", "requeue", str(endpoint["job"]))
    follow_until(agent, lambda: _restart(agent) == 1 and agent.call("status", {})["healthy"])
    assert post("127.0.0.1", port) == 200
    with pytest.raises(ConfigError, match=r"deploy\.slurm\.tls\.ca: none"):
        agent.call("start_current", {"settings": {**settings, "slurm": SETTINGS["slurm"]}})
    assert post("127.0.0.1", port) == 200


def test_the_runbook_checks_the_cluster_and_writes_the_unit_and_undoes_it(
    slurm_lab: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_SET", f"deploy.root={tmp_path}/target")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    unit = tmp_path / ".config/systemd/user/slipway-dgx-slurm.service"
    done = subprocess.run([RUNBOOK, "dgx-slurm"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ready: slipway promote --to dgx-slurm"
    assert f"{tmp_path}/target/slipway-target --root {tmp_path}/target watch\n" in unit.read_text()
    assert f'Environment="SLURM_CONF={slurm_lab.folder}/slurm.conf"' in unit.read_text()
    done = subprocess.run([RUNBOOK, "dgx-slurm", "--undo"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not unit.exists()

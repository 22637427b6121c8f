"""Engines as processes: a session of their own, no login, no output of ours, an end whatever they do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slipway.agent import processes
from slipway.agent.engine_process import model_of, of_release, releases_that_run, spawn
from slipway.agent.health import await_health, log_tail
from slipway.agent.processes import Process
from slipway.agent.start_plan import StartPlan, parse_start
from slipway.deployment.start_document import start_document
from slipway.errors import EngineError
from slipway.system.ports import any_port
from tests.support import scripted_server
from tests.support.clock import step_clock
from tests.support.ended import has_ended
from tests.support.scripted_server import bundle

HOST = "127.0.0.1"


def plan_of(folder: Path) -> StartPlan:
    return parse_start(start_document(folder), "start")


def started(folder: Path, port: int, log: Path) -> Process:
    process = spawn(plan_of(folder), folder, HOST, port, log)
    await_health(HOST, port, "/health", 60, lambda: processes.is_alive(process), lambda: log_tail(log))
    return process


def test_an_engine_has_a_session_of_its_own_and_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:secret")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)  # which tests have themselves
    process = started(bundle(tmp_path / "b"), any_port(HOST), tmp_path / "log")
    try:
        assert os.getsid(process.pid) == process.pid
        environment = psutil.Process(process.pid).environ()
        assert environment["GOMP_SPINCOUNT"] == "1000"
        assert "PREFECT_API_AUTH_STRING" not in environment
    finally:
        assert processes.stop(process, 10)
    assert not processes.is_alive(process)
    assert processes.stop(process, 10) is False


def test_a_pipe_on_the_output_of_a_program_ends_with_it_not_with_the_engine_it_left(tmp_path: Path) -> None:
    """`slipway promote | tee log`: what serves on, engine and log watcher, holds none of its outputs."""
    program = (
        "import json, sys; from pathlib import Path; from slipway.agent.engine_process import spawn\n"
        "from slipway.agent.start_plan import parse_start\n"
        "bundle, host, port, log, plan = sys.argv[1:]\n"
        "process = spawn(parse_start(json.loads(plan), 'start'), Path(bundle), host, int(port), Path(log))\n"
        "print(process.pid)"
    )
    folder = bundle(tmp_path / "b")
    import json

    arguments = [str(folder), HOST, str(any_port(HOST)), str(tmp_path / "log"), json.dumps(start_document(folder))]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stderr == ""
    process = processes.identify(int(done.stdout))
    assert processes.is_alive(process)
    assert processes.stop(process, 10)


def test_an_engine_is_known_across_a_clock_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = started(bundle(tmp_path / "b"), any_port(HOST), tmp_path / "log")
    try:
        step_clock(monkeypatch, -3600)
        assert processes.is_alive(process)
    finally:
        assert processes.stop(process, 10)
    assert has_ended(process.pid)


def test_an_engine_that_ignores_term_is_killed(tmp_path: Path) -> None:
    source = Path(scripted_server.__file__).read_text()
    stubborn = source.replace(
        "def main() -> None:\n",
        "def main() -> None:\n    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
    )
    assert stubborn != source
    process = started(bundle(tmp_path / "b", program=stubborn), any_port(HOST), tmp_path / "log")
    assert processes.stop(process, 0.2)
    assert has_ended(process.pid)


def test_the_log_of_the_start_before_is_apart(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("error of yesterday\n")
    folder = bundle(tmp_path / "b", program="raise SystemExit('today')")
    with pytest.raises(EngineError, match="today") as err:
        started(folder, any_port(HOST), tmp_path / "log")
    assert "yesterday" not in str(err.value)
    assert (tmp_path / "log.1").read_text() == "error of yesterday\n"


def test_a_program_that_cannot_run_is_named(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "b")
    (folder / "llama-server").write_bytes(b"\x7fELF broken")
    with pytest.raises(EngineError, match="llama-server"):
        spawn(plan_of(folder), folder, HOST, any_port(HOST), tmp_path / "log")


def test_an_engine_is_known_by_the_release_that_it_runs_out_of(tmp_path: Path) -> None:
    release = tmp_path / "releases" / "0001-aaaaaaaa"
    folder = bundle(release / "engine")
    process = started(folder, any_port(HOST), release / "engine.log")
    try:
        assert of_release(release) == [process]
        assert of_release(tmp_path / "releases" / "0001-aaaaaaa") == []
        assert releases_that_run(tmp_path / "releases") == {release.name}
    finally:
        processes.stop(process, 10)


def test_report_3_every_start_has_caches_of_its_own_and_the_bundle_s_stay(tmp_path: Path) -> None:
    """rllm#490: two engines shared a live cache. Champion and candidate start from one bundle."""
    folder = bundle(tmp_path / "b")
    (folder / "cache").mkdir()
    (folder / "cache" / "tuned").write_text("as shipped")
    document = start_document(folder)
    document["plan"]["caches"] = [{"name": "triton", "path": "triton", "variable": "TRITON_CACHE_DIR"}]
    document["plan"]["files"] = {"serve.yaml": "cache: {cache}\nport: {port}\n"}
    plan, seen = parse_start(document, "start"), set()
    for name in ("champion", "candidate"):
        (tmp_path / name).mkdir()
        process = spawn(plan, folder, HOST, any_port(HOST), tmp_path / name / "log")
        while "TRITON_CACHE_DIR" not in (environment := psutil.Process(process.pid).environ()):
            time.sleep(0.01)  # in the midst of exec it has none yet
        seen.add(environment["TRITON_CACHE_DIR"])
        processes.stop(process, 10)
        assert f"cache: {tmp_path / name}/start/cache" in (tmp_path / name / "start/config/serve.yaml").read_text()
    assert seen == {str(tmp_path / name / "start" / "cache" / "triton") for name in ("champion", "candidate")}
    assert [(p.name, p.read_text()) for p in (folder / "cache").iterdir()] == [("tuned", "as shipped")]


def test_the_model_is_where_the_plan_says_else_the_bundle_s_own(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "b")
    plan = plan_of(folder)
    assert model_of(plan, folder) == folder
    (folder / "model").mkdir()
    assert model_of(plan, folder) == folder / "model"
    elsewhere = parse_start({**start_document(folder), "model": "/store/checkpoint"}, "start")
    assert model_of(elsewhere, folder) == Path("/store/checkpoint")

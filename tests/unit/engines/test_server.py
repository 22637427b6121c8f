from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from slipway.engines.bundle import SERVE, read_plan
from slipway.engines.server import Server, is_healthy, is_running, start, stop
from slipway.errors import ConfigError, EngineError, ResourceError
from slipway.system.ports import any_port
from slipway.system.processes import identify
from tests.support import scripted_server
from tests.support.clock import step_clock
from tests.support.scripted_server import bundle

HOST = "127.0.0.1"


def test_a_server_has_a_session_of_its_own_and_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:secret")
    server = start(bundle(tmp_path / "b"), HOST, any_port(HOST), tmp_path / "log")
    try:
        assert os.getsid(server.pid) == server.pid
        environment = psutil.Process(server.pid).environ()
        assert environment["GOMP_SPINCOUNT"] == "1000"
        assert "PREFECT_API_AUTH_STRING" not in environment
        again = Server.model_validate_json(server.model_dump_json())
        assert is_healthy(again)
    finally:
        assert stop(server)
    assert not is_running(server)
    assert stop(server) is False


def test_a_pipe_on_the_output_of_a_program_ends_with_it_not_with_the_engine_it_left(tmp_path: Path) -> None:
    """`slipway promote | tee log`: what serves on, engine and log watcher, holds none of its outputs."""
    program = (
        "import sys; from pathlib import Path; from slipway.engines.server import start\n"
        "server = start(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))\n"
        "Path(sys.argv[5]).write_text(server.model_dump_json()); print('done')"
    )
    record = tmp_path / "server.json"
    arguments = [str(bundle(tmp_path / "b")), HOST, str(any_port(HOST)), str(tmp_path / "log"), str(record)]
    command = [sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        assert (done.stdout, done.stderr) == ("done\n", "")
        assert is_running(Server.model_validate_json(record.read_text()))
    finally:
        assert stop(Server.model_validate_json(record.read_text()))


def test_a_server_is_known_across_a_clock_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(bundle(tmp_path / "b"), HOST, any_port(HOST), tmp_path / "log")
    again = Server.model_validate_json(server.model_dump_json())
    try:
        step_clock(monkeypatch, -3600)
        assert is_running(again) and is_healthy(again)
    finally:
        assert stop(again)
    assert not psutil.pid_exists(server.pid)


def test_a_server_is_reached_directly_whatever_proxy_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{HOST}:{any_port(HOST)}")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server = start(bundle(tmp_path / "b"), HOST, any_port(HOST), tmp_path / "log")
    try:
        assert is_healthy(server)
    finally:
        assert stop(server)


def test_a_reused_pid_is_never_stopped() -> None:
    me = identify(os.getpid())
    assert me.started is not None
    stranger = Server(pid=me.pid, started=me.started - 500, boot=me.boot, host=HOST, port=1, model="m", log="x")
    assert not is_running(stranger)
    assert stop(stranger) is False


def test_a_server_that_ignores_term_is_killed(tmp_path: Path) -> None:
    source = Path(scripted_server.__file__).read_text()
    stubborn = source.replace(
        "def main() -> None:\n",
        "def main() -> None:\n    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
    )
    server = start(bundle(tmp_path / "b", program=stubborn), HOST, any_port(HOST), tmp_path / "log")
    assert stop(server, grace_s=0.2)
    assert not psutil.pid_exists(server.pid)
    assert stubborn != source


def test_a_busy_port_names_port_and_holder(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind((HOST, 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(ResourceError, match=rf"port {port} on {HOST}: in use by .*\(pid {os.getpid()}\)"):
            start(bundle(tmp_path / "b"), HOST, port, tmp_path / "log")


def test_a_server_that_dies_at_start_shows_its_log(tmp_path: Path) -> None:
    script = "import sys\nprint('error: unknown model architecture', file=sys.stderr)\nsys.exit(1)\n"
    with pytest.raises(EngineError, match="unknown model architecture"):
        start(bundle(tmp_path / "b", program=script), HOST, any_port(HOST), tmp_path / "log")


def test_the_log_of_the_start_before_is_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("error of yesterday\n")
    with pytest.raises(EngineError, match="today") as err:
        start(bundle(tmp_path / "b", program="raise SystemExit('today')"), HOST, any_port(HOST), tmp_path / "log")
    assert "yesterday" not in str(err.value)
    assert (tmp_path / "log.1").read_text() == "error of yesterday\n"


def test_a_server_that_never_gets_healthy_is_stopped(tmp_path: Path) -> None:
    script = "import os, sys, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    with pytest.raises(EngineError, match="healthy within"):
        start(bundle(tmp_path / "b", program=script), HOST, any_port(HOST), tmp_path / "log", timeout_s=1)
    assert not psutil.pid_exists(int((tmp_path / "log").read_text()))


def test_a_program_that_cannot_run_is_named(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    (made / "llama-server").write_bytes(b"\x7fELF broken")
    with pytest.raises(EngineError, match="llama-server"):
        start(made, HOST, any_port(HOST), tmp_path / "log")


def test_what_is_served_in_a_container_is_no_process_of_this_machine(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    plan = read_plan(made).model_copy(update={"image": "registry/vllm@sha256:1"})
    (made / SERVE).write_text(plan.model_dump_json())
    with pytest.raises(ConfigError, match="registry/vllm"):
        start(made, HOST, any_port(HOST), tmp_path / "log")

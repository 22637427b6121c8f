"""A bundle as a job of the local runner: started, known again, ended, and every way in which it may not start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from slipway.config.target import DockerConfig, GuardConfig, TargetConfig
from slipway.engines.bundle import read_plan
from slipway.engines.chat_client import ChatClient
from slipway.engines.serving import RECORD, Service, serve, service_of, serving, stop
from slipway.errors import ConfigError, EngineError, ResourceError
from slipway.runners import local
from slipway.system import ports
from slipway.system.ports import any_port
from slipway.system.processes import identify, is_alive
from tests.support import scripted_server
from tests.support.ended import has_ended
from tests.support.scripted_server import bundle

HERE = TargetConfig()


def service(tmp_path: Path, *, program: str | None = None, **plan: Any) -> Service:
    """A scripted server's bundle, with some fields of its plan changed."""
    made = bundle(tmp_path / "b", program=program)
    return Service(made, read_plan(made).model_copy(update=plan), HERE, tmp_path / "work")


def pid_of(endpoint: Any) -> int:
    pid = local.pid(endpoint.job)
    assert pid is not None
    return pid


def test_a_server_lives_for_the_block_and_in_our_process_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:secret")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)  # which tests have themselves
    with serving(service_of(bundle(tmp_path / "b"), HERE, tmp_path / "work")) as endpoint:
        assert endpoint.is_healthy()
        assert not endpoint.adopted
        process = psutil.Process(pid_of(endpoint))
        assert os.getpgid(process.pid) == os.getpgid(0)
        environment = process.environ()
        assert environment["GOMP_SPINCOUNT"] == "1000"
        assert "PREFECT_API_AUTH_STRING" not in environment
        with ChatClient(endpoint.url, endpoint.model, 30) as client:
            assert client.ask([{"role": "user", "content": "say hello"}], 4).text == "hello"
    assert not process.is_running()
    assert not (tmp_path / "work" / RECORD).exists()


def test_a_server_is_reached_directly_whatever_proxy_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{any_port()}")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(service(tmp_path)) as endpoint:
        assert endpoint.is_healthy()


def test_a_free_port_that_another_process_takes_first_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = service(tmp_path)
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))  # as an outgoing connection holds its port: nobody listens there
        taken = taker.getsockname()[1]
        offered = iter([taken])
        monkeypatch.setattr(ports, "any_port", lambda host: next(offered, None) or any_port(host))
        with serving(one) as endpoint:
            assert endpoint.port != taken and endpoint.is_healthy()
        with pytest.raises(ResourceError, match=f"port {taken}"):
            serve(replace(one, port=taken))


KILLED = """
import os, signal, sys
from pathlib import Path
from slipway.config.target import TargetConfig
from slipway.engines.serving import serve, service_of
endpoint = serve(service_of(Path(sys.argv[1]), TargetConfig(), Path(sys.argv[2])))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left(tmp_path: Path) -> Iterator[int]:
    """The pid of a server whose starter was killed."""
    made = bundle(tmp_path / "b")
    done = subprocess.run([sys.executable, "-c", KILLED, made, tmp_path / "work"], timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(json.loads((tmp_path / "work" / local.JOB_FILE).read_text())["pid"])
    identity = identify(pid)
    yield pid
    if is_alive(identity):
        os.kill(pid, signal.SIGKILL)


def test_a_server_that_was_left_behind_is_adopted(tmp_path: Path, left: int) -> None:
    with serving(service_of(tmp_path / "b", HERE, tmp_path / "work")) as endpoint:
        assert endpoint.adopted
        assert pid_of(endpoint) == left
        assert endpoint.is_healthy()
    assert has_ended(left)


def test_one_of_another_plan_is_ended_and_not_adopted(tmp_path: Path, left: int) -> None:
    made = tmp_path / "b"
    other = Service(made, read_plan(made).model_copy(update={"notes": ["changed"]}), HERE, tmp_path / "work")
    with serving(other) as endpoint:
        assert not endpoint.adopted
        assert pid_of(endpoint) != left
        assert has_ended(left)


def test_one_that_died_meanwhile_is_started_anew(tmp_path: Path, left: int) -> None:
    identity = identify(left)
    os.kill(left, signal.SIGKILL)
    while is_alive(identity):
        time.sleep(0.01)
    with serving(service_of(tmp_path / "b", HERE, tmp_path / "work")) as endpoint:
        assert not endpoint.adopted


def test_a_server_that_ignores_term_is_killed(tmp_path: Path) -> None:
    source = Path(scripted_server.__file__).read_text()
    ignoring = "def main() -> None:\n    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn = source.replace("def main() -> None:\n", ignoring)
    assert stubborn != source
    endpoint = serve(service(tmp_path, program=stubborn, stop_s=0.2))
    pid = pid_of(endpoint)
    stop(endpoint)
    assert has_ended(pid)


def test_its_children_end_with_it(tmp_path: Path) -> None:
    source = Path(scripted_server.__file__).read_text()
    spawning = "def main() -> None:\n    import subprocess; child = subprocess.Popen(['sleep', '600'])\n"
    spawning += "    sys.stderr.write(f'child {child.pid}\\n')\n"
    endpoint = serve(service(tmp_path, program=source.replace("def main() -> None:\n", spawning)))
    child = int(endpoint.job.log.read_text().split()[1])
    assert psutil.pid_exists(child)
    stop(endpoint)
    assert has_ended(child)


def test_a_busy_port_names_port_and_holder(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        made = bundle(tmp_path / "b")
        with pytest.raises(ResourceError, match=rf"port {port} on 127.0.0.1: in use by .*\(pid {os.getpid()}\)"):
            serve(Service(made, read_plan(made), HERE, tmp_path / "work", port=port))


def test_a_server_that_dies_at_start_shows_the_log_of_this_start(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "log.txt").write_text("error of yesterday\n")
    script = "import sys\nprint('error: unknown model architecture', file=sys.stderr)\nsys.exit(1)\n"
    with pytest.raises(EngineError, match="unknown model architecture") as err:
        serve(service(tmp_path, program=script))
    assert "yesterday" not in str(err.value)
    assert not (tmp_path / "work" / RECORD).exists()


def test_a_server_that_never_gets_healthy_is_stopped(tmp_path: Path) -> None:
    script = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
    with pytest.raises(EngineError, match="healthy within"):
        serve(service(tmp_path, program=script, start_s=5))  # time to print
    assert has_ended(int((tmp_path / "work" / "log.txt").read_text()))


def test_whoever_looks_on_may_end_the_start(tmp_path: Path) -> None:
    def look() -> None:
        raise ResourceError("memory", "4 GB", "5 GB", "wait")

    script = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
    with pytest.raises(ResourceError, match="memory"):
        serve(service(tmp_path, program=script), look)
    log = (tmp_path / "work" / "log.txt").read_text()
    assert not log or has_ended(int(log))


def test_the_guard_of_its_machine_stops_what_takes_too_much_while_it_loads(tmp_path: Path) -> None:
    """A floor that no machine can hold: the first reading is below it."""
    (tmp_path / "kern.log").touch()
    guard = GuardConfig(available_gb=1e6, every_s=0.05, kernel_log=str(tmp_path / "kern.log"))
    loading = service(tmp_path, program="import time; time.sleep(600)")
    guarded = replace(loading, machine=HERE.model_copy(update={"guard": guard}))
    with pytest.raises(ResourceError, match=r"memory of the machine while serve-.* loads: .* it was stopped"):
        serve(guarded)
    assert not (tmp_path / "work" / RECORD).exists()
    lenient = HERE.model_copy(update={"guard": guard.model_copy(update={"available_gb": 0.0})})
    with serving(replace(service(tmp_path), machine=lenient)) as endpoint:
        assert endpoint.is_healthy()


def test_a_killed_server_is_noticed(tmp_path: Path) -> None:
    with serving(service(tmp_path)) as endpoint:
        endpoint.check_alive()
        psutil.Process(pid_of(endpoint)).send_signal(signal.SIGKILL)
        while endpoint.ended() is None:
            time.sleep(0.01)
        with pytest.raises(EngineError, match=r"(?s)died \(signal 9\).*listening on"):
            endpoint.check_alive()


def test_a_program_that_cannot_run_is_named(tmp_path: Path) -> None:
    one = service(tmp_path)
    (one.bundle / "llama-server").write_bytes(b"\x7fELF broken")
    with pytest.raises(EngineError, match="llama-server"):
        serve(one)


def test_an_image_needs_a_digest_and_a_machine_with_containers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runs no containers"):
        serve(service(tmp_path, image="registry/vllm@sha256:1"))
    docker = TargetConfig(runner=DockerConfig(kind="docker"))
    made = bundle(tmp_path / "b")
    tagged = read_plan(made).model_copy(update={"image": "registry/vllm:latest"})
    with pytest.raises(ConfigError, match="registry/vllm:latest; expected"):
        serve(Service(made, tagged, docker, tmp_path / "work"))


def test_sigterm_to_the_caller_stops_the_server_first(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom slipway.config.target import TargetConfig\n"
        "from slipway.engines.serving import service_of, serving\n"
        "with serving(service_of(Path(sys.argv[1]), TargetConfig(), Path(sys.argv[2]))):\n"
        "    print('on', flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(bundle(tmp_path / "b")), str(tmp_path / "work")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        pid = int(json.loads((tmp_path / "work" / local.JOB_FILE).read_text())["pid"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert has_ended(pid)

"""A node's program with a real engine process: it registers, serves, gives way to a younger attempt, and ends."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.agent import warm_caches
from slipway.agent.slurm import engine as slurm_engine
from slipway.agent.slurm import node as slurm_node
from slipway.agent.slurm.node import (
    FENCED,
    KEYS,
    OVER,
    REGISTERED,
    free_port,
    is_fenced,
    make_key,
    register,
    restarts,
)

ENGINE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), sys.exit(0)))
print("port", sys.argv[1], os.environ["WHERE"], flush=True)
time.sleep(60)
"""


def prepared(folder: Path, argv: list[str] | None = None, stop_s: float = 5.0) -> Path:
    """A job's folder as it is submitted."""
    for name in (REGISTERED, OVER):
        (folder / name).mkdir(parents=True)
    words = argv or [sys.executable, "-c", ENGINE, "{port}"]
    document = {"argv": words, "environment": {"WHERE": "{host}"}, "stop_s": stop_s, "ports": [20000, 31999]}
    (folder / "job.json").write_text(json.dumps(document))
    return folder


def node(folder: Path, restart: int = 0, job: int = 7, **more: str) -> subprocess.Popen[str]:
    """The program as a batch script starts it."""
    environment = {"SLURM_JOB_ID": str(job), "SLURM_RESTART_COUNT": str(restart), "SLURMD_NODENAME": "n1", **more}
    if restart == 0:
        del environment["SLURM_RESTART_COUNT"]  # Slurm sets it from the first restart on
    return subprocess.Popen(
        [sys.executable, slurm_node.__file__, str(folder)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def until(what: Callable[[], Any]) -> Any:
    """`what()` as soon as it is true."""
    deadline = time.monotonic() + 120
    while not (value := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def first_line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def test_it_registers_where_its_engine_listens(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    with node(folder) as process:
        words = first_line(process)
        record = json.loads((folder / REGISTERED / "7.0").read_text())
        assert words == ["port", str(record["port"]), "0.0.0.0"]
        assert (record["job"], record["restart"], record["node"]) == (7, 0, "n1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "drained\n"
    assert list((folder / REGISTERED).iterdir()) == []


WARM = """
import pathlib, sys, time
found = pathlib.Path(sys.argv[1], "triton/a.so")
print(found.read_text() if found.exists() else "cold", flush=True)
"""


def test_the_nodes_own_cache_is_filled_where_its_machine_is_the_harvests(tmp_path: Path) -> None:
    """With nothing of slipway on the node but what the submission left in the release's folder."""
    bundle, start = tmp_path / "bundle", tmp_path / "start"
    file = bundle / "caches/files/triton/a.so"
    file.parent.mkdir(parents=True)
    file.write_text("kernel")
    start.mkdir()
    status = file.stat()
    row = {"path": "triton/a.so", "size": 6, "mtime_ns": status.st_mtime_ns, "mode": 0o644}
    row["sha256"] = hashlib.sha256(b"kernel").hexdigest()
    key = {**warm_caches.machine(), "image": "none", "kind": "llama.cpp", "python": platform.python_version()}
    key |= dict.fromkeys(("engine", "torch", "cuda", "compilers"), "none")
    caches = {"bundle": str(bundle), "start": str(start), "modules": str(slurm_engine._modules(tmp_path / "m.zip"))}
    for in_image, gpu, shown in ((False, key["gpu"], "kernel"), (True, key["gpu"], "kernel"), (False, "H100", "cold")):
        (bundle / "caches/manifest.json").write_text(json.dumps({"key": {**key, "gpu": gpu}, "files": [row]}))
        folder = prepared(tmp_path / f"job-{in_image}-{shown}", [sys.executable, "-c", WARM, "{cache}"])
        document = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps({**document, "caches": {**caches, "in_image": in_image}}))
        argv = [sys.executable, "-I", "-S", slurm_node.__file__, str(folder)]
        environment = {**os.environ, "SLURM_JOB_ID": "7"}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{shown}\n", done.stderr
        assert ("gpu: H100 when harvested" in (warm_caches.start_note(start) or "")) == (shown == "cold")


KEYED = """
import hashlib, os, sys
keys = [os.environ[name] for name in ("LLAMA_API_KEY", "VLLM_API_KEY")]
print(keys[0] == keys[1] and hashlib.sha256(keys[0].encode()).hexdigest(), *sys.argv[1:], flush=True)
"""


def keyed(folder: Path, code: str) -> Path:
    """A job's folder whose engine reads a key."""
    prepared(folder, [sys.executable, "-c", code + "\nimport time; time.sleep(60)", "{port}"])
    document = json.loads((folder / "job.json").read_text())
    document["key_variables"] = ["LLAMA_API_KEY", "VLLM_API_KEY"]
    (folder / "job.json").write_text(json.dumps(document))
    return folder


def test_each_attempt_has_a_key_of_its_own_in_a_file_that_goes_with_it(tmp_path: Path) -> None:
    folder, keys = keyed(tmp_path / "slurm", KEYED), []
    for restart in (0, 1):
        with node(folder, restart=restart) as process:
            digest, port = first_line(process)
            file = folder / KEYS / f"7.{restart}"
            keys.append(file.read_text().strip())
            assert hashlib.sha256(keys[-1].encode()).hexdigest() == digest
            assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
            record = (folder / REGISTERED / f"7.{restart}").read_text()
            assert json.loads(record)["key"] is True
            assert keys[-1] not in record + Path(f"/proc/{process.pid}/cmdline").read_text()
            assert str(json.loads(record)["port"]) == port
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        assert not file.exists()
    assert keys[0] != keys[1]
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)


def test_a_younger_attempt_takes_the_key_of_an_older_one_away(tmp_path: Path) -> None:
    """Nobody is to ask a fenced engine, whether its node still can be reached or not."""
    for job, restart in ((7, 0), (7, 1), (70, 0)):
        make_key(tmp_path / KEYS, job, restart)
    assert sorted(path.name for path in (tmp_path / KEYS).iterdir()) == ["7.1", "70.0"]


def test_an_engine_that_knows_no_key_has_none(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    with node(folder) as process:
        first_line(process)
        assert json.loads((folder / REGISTERED / "7.0").read_text())["key"] is False
        assert not (folder / KEYS).exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def test_an_older_attempt_that_lives_on_gives_way(tmp_path: Path) -> None:
    """As when its node's daemon was killed: Slurm requeues the job, the process knows nothing of it."""
    folder = prepared(tmp_path)
    with node(folder) as old:
        first_line(old)
        with node(folder, restart=1) as young:
            assert old.wait(120) == FENCED
            assert first_line(young)[0] == "port"
            assert [path.name for path in (folder / REGISTERED).iterdir()] == ["7.1"]
            young.send_signal(signal.SIGTERM)
            assert young.wait(120) == 0


def test_a_job_that_is_over_ends_though_slurm_cannot_tell_it(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    with node(folder) as process:
        first_line(process)
        (folder / OVER / "8").touch()  # another job's
        (folder / OVER / "7").touch()
        assert process.wait(120) == 0


def test_near_the_time_limit_it_drains_and_asks_to_be_requeued(tmp_path: Path) -> None:
    folder, tools = prepared(tmp_path / "job"), tmp_path / "bin"
    tools.mkdir()
    asked = tmp_path / "asked"
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {asked}\nexit 1\n')
    (tools / "scontrol").chmod(0o755)
    with node(folder, PATH=f"{tools}:{os.environ['PATH']}") as process:
        first_line(process)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(120) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "drained\n"
    assert asked.read_text().split() == ["requeue", "7"]


@pytest.mark.parametrize(("code", "expected"), [("import sys; sys.exit(3)", 3), ("import os; os.abort()", 134)])
def test_the_exit_code_is_the_engines(tmp_path: Path, code: str, expected: int) -> None:
    with node(prepared(tmp_path, [sys.executable, "-c", code])) as process:
        assert process.wait(120) == expected


def test_an_engine_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with node(prepared(tmp_path, [sys.executable, "-c", code], stop_s=0.2)) as process:
        first_line(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def test_only_a_younger_attempt_of_the_same_job_fences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    for job, restart in ((7, 0), (7, 2), (70, 9)):
        register(tmp_path / REGISTERED, job, restart, 1234)
    (tmp_path / REGISTERED / ".7.5.99").write_text("half")
    assert restarts(tmp_path, 7) == [0, 2]
    assert [is_fenced(tmp_path, 7, n) for n in (0, 1, 2)] == [True, True, False]
    assert not is_fenced(tmp_path / "gone", 7, 0)


def test_a_taken_port_is_not_chosen() -> None:
    import socket

    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"no free port from {port} to {port}"):
            free_port(port, port)
    assert free_port(port, port) == port

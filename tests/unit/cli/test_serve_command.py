"""`slipway serve` as a person runs it: it says how to ask, and ends with what it served."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from slipway.engines.chat_client import ChatClient
from slipway.runners import local
from tests.support.ended import has_ended
from tests.support.scripted_server import bundle
from tests.support.terminal import signals_of_a_terminal


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a terminal gives it one."""
    command = [sys.executable, "-m", "slipway", "serve", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        stdout=pipe,
        stderr=pipe,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
        preexec_fn=signals_of_a_terminal,
    )


def lines_until(process: subprocess.Popen[str], last: str) -> dict[str, str]:
    """What it printed, up to a line of this name."""
    assert process.stdout is not None
    printed: dict[str, str] = {}
    for line in process.stdout:
        name, _, value = line.strip().partition(" ")
        printed[name] = value.strip()
        if name == last:
            break
    return printed


def pid_of(log: str) -> int:
    return int(json.loads((Path(log).parent / local.JOB_FILE).read_text())["pid"])


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped_and_leaves_nothing(tmp_path: Path, sig: signal.Signals) -> None:
    with start(tmp_path, str(bundle(tmp_path / "b"))) as process:
        printed = lines_until(process, "stop")
        pid = pid_of(printed["log"])
        with ChatClient(printed["url"], printed["model"], 30) as client:
            assert client.ask([{"role": "user", "content": "say hello"}], 4).text == "hello"
        assert re.match(rf"curl {re.escape(printed['url'])}/chat/completions ", printed["ask"])
        process.send_signal(sig)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + sig
    assert "Traceback" not in errors
    assert has_ended(pid)


def test_a_server_that_dies_is_named_with_its_log(tmp_path: Path) -> None:
    with start(tmp_path, str(bundle(tmp_path / "b"))) as process:
        pid = pid_of(lines_until(process, "stop")["log"])
        psutil.Process(pid).kill()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 5
    assert "died (signal 9)" in errors
    assert "listening on" in errors


def test_a_folder_that_is_none_is_exit_2(tmp_path: Path) -> None:
    with start(tmp_path, str(tmp_path)) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "neither serve.json nor config.json" in errors

"""The command line of the file that stands on a target, run as that file by a Python without our packages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway.agent.program import main
from slipway.deployment.target_file import target_file


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("target") / "slipway-target"
    file.write_bytes(target_file())
    return file


def _run(program: Path, *words: str, text: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", str(program), *words]
    return subprocess.run(argv, input=text, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **more})


def test_a_verb_is_called_with_its_document(program: Path, tmp_path: Path) -> None:
    done = _run(program, "--root", str(tmp_path), "call", "probe", text='{"images": []}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["architecture"] in ("amd64", "arm64")


def test_a_session_answers(program: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(program), "--root", str(tmp_path), "session"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdin and session.stdout
        assert json.loads(session.stdout.readline())["agent"]["protocol"] == 1
        session.stdin.write('{"verb": "holder"}\n')
        session.stdin.flush()
        assert json.loads(session.stdout.readline()) == {"result": {"lock": None}}
    assert session.returncode == 0


def test_a_forced_command_is_read_from_the_environment(program: Path, tmp_path: Path) -> None:
    done = _run(program, "--root", str(tmp_path), "forced", SSH_ORIGINAL_COMMAND="bash -c id")
    assert (done.returncode, done.stdout) == (2, "")
    assert "command over ssh: bash -c id; expected `session`" in done.stderr
    assert _run(program, "--root", str(tmp_path), "forced").returncode == 2


@pytest.mark.parametrize(
    "words", [[], ["session"], ["--root"], ["--root", "x"], ["--root", "x", "sh"], ["--root", "x", "call"]]
)
def test_other_words_are_refused_with_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "arguments of slipway-target" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["rubbish", "[]", "1"])
def test_a_document_that_is_none_is_refused(program: Path, tmp_path: Path, text: str) -> None:
    done = _run(program, "--root", str(tmp_path), "call", "probe", text=text)
    assert done.returncode == 2
    assert done.stderr.startswith("standard input: ")


def test_the_watch_ends_with_sigterm(program: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(program), "--root", str(tmp_path), "watch"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as watch:
        # SIGTERM is handled from the moment that the kernel says so, not from the start on
        while not _catches(watch.pid, signal.SIGTERM):
            assert watch.poll() is None
            time.sleep(0.01)
        watch.terminate()
    assert watch.returncode == 0


def _catches(pid: int, kind: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (kind - 1) & 1)

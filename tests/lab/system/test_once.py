"""infra/lab/once: packages of labs are made once for all clones, appear whole, and are not changed by anybody."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ONCE = Path(__file__).parents[3] / "infra/lab/once"
WAIT_S = 120
# Fills a folder while a file `hold` is there; `filled` has a line for every time that it ran
FILL = """#!/bin/sh
echo "$$" >> "$LAB/filled"
touch "$1/one"
while [ -e "$LAB/hold" ]; do sleep 0.05; done
[ ! -e "$LAB/fail" ] || exit 1
mkdir "$1/inner" && echo whole > "$1/inner/two"
"""


class Lab:
    """A folder for packages of its own, and processes that ask for them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fill = folder, folder / "fill"
        self.fill.write_text(FILL)
        self.fill.chmod(0o755)
        self.processes: list[subprocess.Popen[str]] = []

    def ask(self, key: str = "a") -> subprocess.Popen[str]:
        """A process that asks for the packages of `key`."""
        env = {**os.environ, "SLIPWAY_LAB": str(self.folder / "packages"), "LAB": str(self.folder)}
        words: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([ONCE, "x", self.fill], env=env, text=True, start_new_session=True, **words)
        assert process.stdin
        process.stdin.write(key)
        process.stdin.close()
        self.processes.append(process)
        return process

    def made(self, process: subprocess.Popen[str]) -> Path:
        """The folder that a process printed."""
        assert process.wait(WAIT_S) == 0 and process.stdout
        return Path(process.stdout.read().strip())

    def fills(self) -> int:
        """How many times packages were made."""
        return len((self.folder / "filled").read_text().splitlines()) if (self.folder / "filled").exists() else 0

    def names(self) -> list[str]:
        """What is among the packages, but for locks."""
        return sorted(path.name for path in (self.folder / "packages").iterdir() if path.suffix != ".lock")


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    lab = Lab(tmp_path)
    yield lab
    for process in lab.processes:
        with process, suppress(ProcessLookupError):  # closes its pipes
            os.killpg(process.pid, signal.SIGKILL)


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_that_ask_at_once_have_one_folder_whole_and_read_only(lab: Lab) -> None:
    (lab.folder / "hold").touch()
    first = lab.ask()
    until(lambda: lab.fills() == 1)
    second = lab.ask()
    until(lambda: _waits_for_a_lock(second.pid))
    assert [name.endswith(".partial") for name in lab.names()] == [True]
    (lab.folder / "hold").unlink()
    folder = lab.made(first)
    assert lab.made(second) == folder and lab.fills() == 1 and lab.names() == [folder.name]
    assert (folder / "inner/two").read_text() == "whole\n"
    assert [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o222] == []
    assert lab.made(lab.ask()) == folder and lab.fills() == 1
    assert lab.made(lab.ask("b")) != folder and lab.fills() == 2


def _waits_for_a_lock(pid: int) -> bool:
    """Whether a `flock` of the process or of its children waits: blocked ones are marked by an arrow."""
    tasks = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    blocked = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(words[5] in tasks for words in blocked)


def test_what_a_killed_one_left_is_made_anew(lab: Lab) -> None:
    (lab.folder / "hold").touch()
    first = lab.ask()
    until(lambda: lab.fills() == 1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(WAIT_S)
    (lab.folder / "hold").unlink()
    folder = lab.made(lab.ask())
    assert lab.fills() == 2 and lab.names() == [folder.name] and (folder / "inner/two").exists()


def test_who_outlives_a_killed_asker_is_waited_for(lab: Lab) -> None:
    (lab.folder / "hold").touch()
    first = lab.ask()
    until(lambda: lab.fills() == 1)
    first.kill()  # alone: its program works on, and has the lock
    first.wait(WAIT_S)
    second = lab.ask()
    until(lambda: _waits_for_a_lock(second.pid))
    assert lab.fills() == 1
    (lab.folder / "hold").unlink()
    folder = lab.made(second)
    assert lab.fills() == 2 and lab.names() == [folder.name]


def test_a_program_that_fails_leaves_nothing_that_counts(lab: Lab) -> None:
    (lab.folder / "fail").touch()
    assert lab.ask().wait(WAIT_S) != 0
    (lab.folder / "fail").unlink()
    folder = lab.made(lab.ask())
    assert lab.fills() == 2 and lab.names() == [folder.name]

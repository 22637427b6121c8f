"""The question before a run, on a real pseudo terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.world import ROOT, small_settings

FLOW = "import sys\nprint('STARTED', len(sys.argv))\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose flow only says that it was started."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/finetune_and_ship.py").write_text(FLOW)
    (tmp_path / "infra/local").mkdir(parents=True)
    (tmp_path / "infra/local/supervisord.conf").touch()
    return tmp_path


def words_of(project: Path) -> list[str]:
    """Overrides and conf of a small run."""
    words = [f"{key}={value}" for key, value in small_settings(project, "sqlite:///t.db", 1).items()]
    return [*words, "--conf", str(ROOT / "conf")]


def on_terminal(
    project: Path, answer: str, *options: str, words: list[str] | None = None, **env: str
) -> tuple[int, str]:
    """`slipway run` on a terminal where somebody types `answer`: its exit code and what the terminal showed."""
    words = words_of(project) if words is None else words
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | env
    command = [sys.executable, "-m", "slipway", "run", *words, *options]
    process = subprocess.Popen(command, cwd=project, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer.encode())
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the terminal's other end is closed
            break
        shown += piece
    os.close(ours)
    return process.wait(timeout=60), shown.decode(errors="replace")


def test_a_person_sees_the_plan_and_says_no_or_yes(project: Path) -> None:
    code, shown = on_terminal(project, "n\n")
    assert code == 130 and "never made here" in shown and "preflight" in shown and "STARTED" not in shown
    code, shown = on_terminal(project, "y\n")
    assert code == 0 and "Run it?" in shown and "STARTED" in shown


@pytest.mark.parametrize(("options", "env"), [(("--yes",), {}), ((), {"CI": "true"})])
def test_nobody_is_asked_with_yes_or_in_ci(project: Path, options: tuple[str, ...], env: dict[str, str]) -> None:
    code, shown = on_terminal(project, "", *options, **env)
    assert code == 0 and "Run it?" not in shown and "STARTED" in shown


def test_a_saved_plan_is_shown_and_asked_about_too(project: Path) -> None:
    """Whoever saved it may be another person than who runs it, on another day."""
    plan = [sys.executable, "-m", "slipway", "plan", *words_of(project), "--out", "p.plan"]
    subprocess.run(plan, cwd=project, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    code, shown = on_terminal(project, "n\n", words=["p.plan"])
    assert code == 130 and "never made here" in shown and "STARTED" not in shown
    code, shown = on_terminal(project, "y\n", words=["p.plan"])
    assert code == 0 and "Run it?" in shown and "STARTED" in shown
    for options, env in ((("--yes",), {}), ((), {"CI": "true"})):
        code, shown = on_terminal(project, "", *options, words=["p.plan"], **env)
        assert code == 0 and "Run it?" not in shown and "STARTED" in shown
    (project / "rows.jsonl").write_text((project / "rows.jsonl").read_text() + "\n")
    code, shown = on_terminal(project, "y\n", words=["p.plan"])
    assert code == 2 and "the world moved: data" in shown and "Run it?" not in shown


def test_a_preflight_that_fails_asks_nothing(project: Path) -> None:
    code, shown = on_terminal(project, "y\n", "deploy.host=203.0.113.7")
    assert code == 4 and "preflight" in shown and "deploy ports" in shown and "STARTED" not in shown

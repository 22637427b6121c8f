"""The commands that there are, their order and their examples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway import __version__
from slipway.cli import app as cli
from slipway.cli.app import COMMANDS, app
from slipway.pipeline.stage import STAGES

ROOT = Path(__file__).resolve().parents[3]

ORDER = [
    "run",
    "plan",
    "stage",
    "quantize",
    "merge",
    "tune",
    "data",
    "config",
    "gate",
    "recipe",
    "capacity",
    "engine",
    "agent",
    "chat",
    "rag",
    "index",
    "status",
    "bench",
    "compare",
    "promote",
    "canary",
    "capture",
    "watch",
    "explain",
    "history",
    "hold",
    "unhold",
    "rollback",
    "start",
    "stop",
    "target",
    "probe",
    "verify",
    "serve",
    "gc",
    "doctor",
    "build-engine",
    "pin",
]


def test_help_lists_the_commands_in_their_order() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    positions = [shown.index(f"│ {name} ") for name in ORDER]
    assert positions == sorted(positions)
    assert len(COMMANDS) == len(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_every_command_says_what_it_does_and_gives_an_example(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    assert f"Usage: slipway {name}" in shown
    assert f"Example: slipway {name}" in shown


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"{__version__}\n"


def test_a_bug_is_shown_whole_and_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "app", broken)
    assert cli._run() == 1
    assert "ZeroDivisionError: a bug" in (shown := capsys.readouterr().err) and "please report it" in shown


def test_an_interruption_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert cli._run() == 130


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_that_the_system_refuses_is_one_error_and_no_bug(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda **_: (tmp_path / "absent").read_text())
    monkeypatch.setattr(sys, "argv", ["slipway", "status", *(["--json"] if as_json else [])])
    assert cli._run() == 4
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    if as_json:
        assert json.loads(out)["error"]["thing"] == f"file {tmp_path}/absent"
    else:
        assert f"file {tmp_path}/absent: No such file or directory" in " ".join(err.split())


def test_a_refusal_of_the_system_that_names_no_file_is_shown_as_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(cli, "app", refused)
    assert cli._run() == 1
    assert "Too many open files" in capsys.readouterr().err


def test_an_error_on_purpose_is_one_message_with_its_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slipway", "config", "--conf", "nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "config layer: nowhere/base.yaml",
        "  expected  an existing YAML file",
        "  next      run from the project's root, or pass --conf",
    ]


def _texts() -> Iterator[tuple[str, str]]:
    """Every source, script and document that may tell a person what to type, with its text."""
    for folder, pattern in (
        ("src", "*.py"),
        ("tasks", "*.py"),
        ("flows", "*.py"),
        ("scripts", "*.py"),
        ("docs", "*.md"),
    ):
        for file in sorted((ROOT / folder).rglob(pattern)):
            yield str(file.relative_to(ROOT)), file.read_text()
    yield "README.md", (ROOT / "README.md").read_text()


def test_every_command_that_a_text_advises_exists_with_its_options() -> None:
    """`slipway X` in backticks, in error texts, help and documents;"""
    advised = [
        (name, words) for name, text in _texts() for words in re.findall(r"`slipway ([a-z][a-z-]*(?: [^`\n]*)?)`", text)
    ]
    assert len(advised) > 50
    unknown = [(name, words) for name, words in advised if words.split()[0] not in ORDER]
    assert unknown == []
    options = {name: CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output for name in ORDER}
    missing = [
        (name, words, option)
        for name, words in advised
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", words)
        if option not in options[words.split()[0]]
    ]
    assert missing == []


def test_every_make_target_that_a_text_advises_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    advised = {(name, target) for name, text in _texts() for target in re.findall(r"`make ([a-z][a-z-]*)", text)}
    assert {"up", "setup"} <= {target for _, target in advised}
    assert sorted((name, target) for name, target in advised if target not in targets) == []


def test_stage_names_every_stage_that_there_is() -> None:
    shown = " ".join(CliRunner().invoke(app, ["stage", "--help"], env={"COLUMNS": "200"}).output.split())
    assert [name for name in STAGES if name not in shown] == []

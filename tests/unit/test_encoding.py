"""Text files are UTF-8 in any locale: every call that reads or writes text says so."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Recorded in dvc.lock by their bytes; `dvc repro` runs in UTF-8 mode, which `slipway run` and the services set.
DVC_SOURCES = {
    "scripts/corpus.py",
    "scripts/data.py",
    "src/slipway/data/clean.py",
    "src/slipway/data/near_duplicates.py",
    "src/slipway/data/rows.py",
    "src/slipway/data/split.py",
}
FOLDERS = ("src", "tasks", "flows", "scripts")


def _silent_calls(source: str) -> list[int]:
    """Lines that call `Path.read_text` or `Path.write_text` without an encoding."""
    calls = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    positional = {"read_text": 1, "write_text": 2}
    return [
        call.lineno
        for call in calls
        if call.func.attr in positional
        and len(call.args) < positional[call.func.attr]
        and "encoding" not in {k.arg for k in call.keywords}
    ]


def test_every_text_file_is_read_and_written_as_utf8() -> None:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    names = {file: str(file.relative_to(ROOT)) for file in files}
    silent = {names[f]: lines for f in files if (lines := _silent_calls(f.read_text(encoding="utf-8")))}
    assert {name: lines for name, lines in silent.items() if name not in DVC_SOURCES} == {}
    assert set(names.values()) >= DVC_SOURCES


def test_the_check_sees_what_it_looks_for() -> None:
    assert _silent_calls("p.read_text()\np.read_text(encoding='utf-8')\np.write_text('x')\nd.read_text('RECORD')") == [
        1,
        3,
    ]


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("command", [["config"], ["config", "--json"], ["--help"], ["recipe", "--help"]])
def test_commands_work_in_a_locale_without_letters(locale: dict[str, str], command: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_CTYPE", "PYTHONIOENCODING")}
    done = subprocess.run(
        [sys.executable, "-m", "slipway", *command],
        cwd=ROOT, env={**environment, **locale}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr

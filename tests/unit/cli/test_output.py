"""A command whose output is full, closed or read by nobody: one clear error or the shell's convention, never a
traceback."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.cli import output
from slipway.cli.app import COMMANDS
from slipway.cli.tables import make_table

ROOT = Path(__file__).resolve().parents[3]
SLIPWAY = [sys.executable, "-m", "slipway"]
FULL = "standard output: No space left on device; expected room for the output. Next: redirect it elsewhere\n"
CLOSED = FULL.replace("No space left on device", "closed")
NAMES = [row.name for row in COMMANDS]


def shell(command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; its exit code is the first command's."""
    script = f"{command}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def line(*words: str) -> str:
    return shlex.join([*SLIPWAY, *words])


@pytest.mark.parametrize("name", NAMES)
def test_no_command_ends_in_a_traceback_when_the_disk_is_full(name: str) -> None:
    done = shell(f"{line(name, '--help')} > /dev/full")
    assert (done.returncode, done.stderr) == (2, FULL)


@pytest.mark.parametrize(
    "words",
    [
        ["config"],
        ["config", "--json"],
        ["status"],
        ["status", "--json"],
        ["doctor", "--json"],
        ["recipe"],
        ["stop"],
        ["--version"],
        ["config", "train.nonsense=1", "--json"],  # the error itself is what is printed
    ],
)
def test_what_a_command_prints_meets_a_full_disk_a_closed_output_or_a_reader_that_left(
    words: list[str], tmp_path: Path
) -> None:
    if words[0] == "stop":
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "base.yaml").write_text(
            f"deploy: {{root: {tmp_path}/target}}\nstore: {{root: {tmp_path}/store}}\n"
        )
        words = [*words, "--conf", f"{tmp_path}/conf"]
    full = shell(f"{line(*words)} > /dev/full")
    assert full.returncode == 2 and full.stderr.endswith(FULL) and "Traceback" not in full.stderr
    unread = shell(f"{line(*words)} | true")
    assert unread.returncode == 141 and "Traceback" not in unread.stderr and "output" not in unread.stderr
    closed = shell(f"{line(*words)} >&-")
    assert (closed.returncode, closed.stderr) == (2, CLOSED)


def test_a_closed_output_is_refused_before_any_work(tmp_path: Path) -> None:
    """Also because the first file that is opened would become standard output."""
    done = shell(f"{line('merge', str(tmp_path), str(tmp_path), '--out', str(tmp_path / 'out'))} >&-")
    assert (done.returncode, done.stderr) == (2, CLOSED)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sink", ["2> /dev/full", "2>&-", "0<&- 2>&-"])
def test_a_standard_error_that_takes_nothing_changes_neither_output_nor_exit_code(sink: str) -> None:
    done = shell(f"{line('--version')} {sink}")
    assert (done.returncode, done.stdout.count(".")) == (0, 2)
    assert shell(f"{line('config', 'train.nonsense=1')} {sink}").returncode == 2


def test_a_child_process_gets_three_open_descriptors() -> None:
    code = (
        "import subprocess, sys; from slipway.cli.output import guarded\n"
        "probe = 'import os; [os.fstat(fd) for fd in (0, 1, 2)]'\n"
        "sys.exit(guarded(lambda: subprocess.run([sys.executable, '-c', probe]).returncode))"
    )
    assert shell(f"{shlex.join([sys.executable, '-c', code])} 0<&- 2>&-").returncode == 0


def test_exit_codes_pass() -> None:
    def leave(code: object) -> int:
        raise SystemExit(code)

    assert output.guarded(lambda: 3) == 3
    assert output.guarded(lambda: leave(5)) == 5
    assert output.guarded(lambda: leave(None)) == 0
    assert output.guarded(lambda: leave("no")) == 1


def test_a_terminals_encoding_that_lacks_a_letter_gets_an_escape() -> None:
    code = "from slipway.cli.output import guarded; guarded(lambda: print('K\\u00f6ln \\u00b7') or 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=True
    )
    assert done.stdout == b"K\\xf6ln \\xb7\n"


def test_a_piped_table_breaks_no_url_and_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    table = make_table("what", "where")
    path = "/a/very/long/path" * 20
    url = "https://mlflow.example.org/" + "#/experiments/1/runs/" * 20
    table.add_row(path, url)
    output.console().print(table)
    output.console().print(f"see {url}", highlight=False)
    rows = stream.getvalue().splitlines()
    assert rows[1].split() == [path, url]
    assert rows[2] == f"see {url}"
    assert len(rows) == 3


def test_piped_commands_print_long_paths_whole(tmp_path: Path) -> None:
    conf, root = tmp_path / "conf", tmp_path / ("deep/" * 30) / "target"
    conf.mkdir()
    (conf / "base.yaml").write_text(f"deploy: {{root: '{root}'}}\nstore: {{root: '{root}/store'}}\n")
    shown = shell(f"{line('config', '--conf', str(conf))} | cat").stdout
    (row,) = [row for row in shown.splitlines() if row.startswith("deploy.root")]
    assert str(root) in row
    error = shell(line("config", "--conf", f"{root}/conf"))
    assert f"{root}/conf/base.yaml" in error.stderr


def test_json_is_json_when_a_command_is_refused() -> None:
    done = shell(line("config", "train.nonsense=1", "--json"))
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["thing"] == "config key train.nonsense"

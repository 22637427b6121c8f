"""What a set-up runs on the far side, with a shell of this machine in place of ssh; tests/lab sets a machine up."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh import set_up as ssh_set_up
from slipway.errors import ConfigError, ResourceError


class Shell:
    """A connection whose far side is a shell of this machine."""

    def __init__(self, before: str = "") -> None:
        self.params = SshConfig(host="spark", user="me", root="x")
        self._before = before

    def argv(self, command: str) -> list[str]:
        return ["sh", "-c", f"{self._before}\n{command}"]


def test_lines_of_the_far_side_are_shown_and_the_upload_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = b"import sys; print(sys.argv[1:], file=sys.stderr); print(sys.stdin.read(), file=sys.stderr)"
    monkeypatch.setattr(ssh_set_up, "target_file", lambda: program)
    lines: list[str] = []
    ssh_set_up._run_there(Shell(), "set-up", {"name": "n"}, lines.append)  # type: ignore[arg-type]
    assert lines == ["spark: ['--root', 'x', 'set-up']", 'spark: {"name": "n"}']
    assert list(tmp_path.iterdir()) == []


def test_a_far_side_that_ends_before_it_reads_is_named_by_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(ssh_set_up, "target_file", lambda: b"import sys; sys.stdin.close(); sys.exit('no room')")
    document = {"name": "n" * (1 << 20)}  # more than a pipe holds: the write itself breaks
    with pytest.raises(ConfigError, match="set-up on spark: no room"):
        ssh_set_up._run_there(Shell(), "set-up", document, print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "program", "kind", "words"),
    [
        ("", "import sys; sys.exit('root: 1; expected 2')", ConfigError, "set-up on spark: root: 1; expected 2"),
        ("", "import sys; sys.exit(3)", ConfigError, "exit code 3"),
        ("python3() { echo 'python3: not found' >&2; return 127; }", "", ResourceError, "python3 on spark"),
        ("echo 'This account is not available.'; exit 1", "", ResourceError, "upload to spark: This account"),
        ("echo welcome", "", ConfigError, "login me on spark: prints 'welcome' before any command"),
        ("echo 'Session open refused by peer' >&2; exit 255", "", ResourceError, "MaxSessions 1"),
        ("", "import sys; sys.exit('Session open refused by peer\\nclosed')", ResourceError, "MaxSessions 1"),
    ],
)
def test_what_goes_wrong_there_is_one_error(
    before: str, program: str, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(ssh_set_up, "target_file", program.encode)
    monkeypatch.setattr(ssh_set_up, "_shell", lambda text: text)
    with pytest.raises(kind, match=words):
        ssh_set_up._run_there(Shell(before), "set-up", {}, print)  # type: ignore[arg-type]

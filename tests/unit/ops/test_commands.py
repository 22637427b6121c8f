"""git and DVC as programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.ops import commands

ROOT = Path(__file__).resolve().parents[3]


def test_a_release_without_git_tells_dvc_so(tmp_path: Path) -> None:
    assert "no_scm = true" in (ROOT / "infra/local/dvc-without-git/config").read_text()
    assert commands.without_git(tmp_path) == {"DVC_SYSTEM_CONFIG_DIR": str(tmp_path / "infra/local/dvc-without-git")}
    (tmp_path / ".git").write_text("gitdir: elsewhere")  # a worktree's is a file
    assert commands.without_git(tmp_path) == {}


def test_git_says_why_it_refused_and_its_absence_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = commands.git(tmp_path, "rev-parse", "HEAD")
    assert code == 128 and "not a git repository" in text
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commands.git(tmp_path, "status") == (127, "git is not installed")

"""What DVC is told; tests/flow proves it with DVC itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import dvc_repro


def test_a_release_without_git_tells_dvc_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(dvc_repro._without_git().get("DVC_SYSTEM_CONFIG_DIR", dvc_repro.ROOT / "infra/local/dvc-without-git"))
    assert "no_scm = true" in (folder / "config").read_text()
    monkeypatch.setattr(dvc_repro, "ROOT", tmp_path)
    assert dvc_repro._without_git() == {"DVC_SYSTEM_CONFIG_DIR": str(tmp_path / "infra/local/dvc-without-git")}
    (tmp_path / ".git").write_text("gitdir: elsewhere")  # a worktree's is a file
    assert dvc_repro._without_git() == {}

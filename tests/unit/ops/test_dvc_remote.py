"""Bytes of a version that a run could have, or not yet: of a folder and of a server of objects, with DVC itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from slipway.ops import data_versions as versions
from slipway.ops.data_versions import DataVersion
from slipway.ops.dvc_remote import missing_bytes
from tests.support.data_repository import RAW, SECOND, another_clone, commit, do, object_server, repository_in


@pytest.fixture(scope="module", params=["folder", "http"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone with a remote of either kind."""
    folder = tmp_path_factory.mktemp("remote")
    with ExitStack() as stack:
        remote = stack.enter_context(object_server()) if request.param == "http" else str(folder / "remote")
        yield repository_in(folder, remote)


def test_bytes_are_missed_until_they_are_pushed_and_nothing_is_fetched(repository: Path, tmp_path: Path) -> None:
    other = another_clone(repository, "other")
    commit(repository, SECOND)
    do(repository, "git", "push", "-q")
    version, _ = versions.upstream_version(other, RAW)
    assert version and missing_bytes(repository, version, tmp_path) == "", "the working tree has them"
    assert missing_bytes(other, version, tmp_path).startswith("DVC's remote store does not show its bytes")
    do(repository, "dvc", "push", "-q")
    assert missing_bytes(other, version, tmp_path) == ""
    assert not (other / ".dvc/cache/files").exists() and not (other / RAW).exists()
    gone = DataVersion(RAW, version.digest, "f" * 40)
    assert missing_bytes(other, gone, tmp_path).startswith("DVC's remote cannot be asked: ")
    assert missing_bytes(other, DataVersion(RAW, "0" * 32), tmp_path) == "the working tree has other bytes"
    kept = tmp_path / version.digest / Path(RAW).name
    kept.parent.mkdir()
    kept.write_text(SECOND)
    assert missing_bytes(other, version, tmp_path) == "", "an earlier run left them"


def test_a_commit_without_a_remote_is_said(tmp_path: Path) -> None:
    repository = repository_in(tmp_path, str(tmp_path / "remote"))
    do(repository, "dvc", "remote", "remove", "-q", "store")
    commit(repository, SECOND)
    do(repository, "git", "push", "-q")
    other = another_clone(repository, "other")
    version, _ = versions.upstream_version(other, RAW)
    assert version and missing_bytes(other, version, tmp_path / "kept").startswith("no DVC remote is set (`dvc remote")

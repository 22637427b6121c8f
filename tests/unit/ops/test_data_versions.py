"""Versions of raw data, with git and DVC themselves: recorded, pushed, fetched elsewhere, refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slipway.errors import DataError
from slipway.ops import data_versions as versions
from slipway.ops.data_versions import DataVersion
from tests.support.data_repository import FIRST, RAW, SECOND, another_clone, commit, do, repository_in


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with one committed version, an origin, and a DVC remote."""
    folder = tmp_path_factory.mktemp("versions")
    return repository_in(folder, str(folder / "remote"))


def test_a_version_is_published_and_another_clone_has_it_while_its_tree_stays(repository: Path, tmp_path: Path) -> None:
    first = versions.publish(repository, RAW)
    assert first == versions.committed_version(repository, RAW)
    other = another_clone(repository, "other")
    do(other, "dvc", "pull", "-q")
    assert versions.upstream_version(other, RAW) == (first, "")
    commit(repository, SECOND)
    do(repository, "git", "push", "-q")
    second = versions.publish(repository, RAW)
    assert second.digest != first.digest
    assert versions.upstream_version(other, RAW) == (second, "")  # fetched, not merged
    store = tmp_path / "store"
    copy = versions.bytes_of(other, first, store)
    (other / RAW).unlink()
    (other / RAW).write_text("somebody adds rows while the run works")
    assert copy.read_text() == FIRST and versions.bytes_of(other, first, store) == copy
    (other / RAW).write_text(FIRST)
    file = versions.bytes_of(other, second, store)
    assert file.read_text() == SECOND and (other / RAW).read_text() == FIRST
    shutil.rmtree(repository.parent / "remote")  # what was fetched is not fetched again
    assert versions.bytes_of(other, second, store) == file
    shutil.rmtree(store)
    shutil.rmtree(other / ".dvc/cache")
    with pytest.raises(DataError, match=r"(?s)dvc get .*Next: mend what it says \(`dvc push data/x.jsonl`"):
        versions.bytes_of(other, second, store)


def test_what_is_no_version_is_refused_with_the_next_command(repository: Path) -> None:
    file = repository / RAW
    before = file.read_text()
    with pytest.raises(DataError, match=r"not tracked by DVC; expected .*`dvc add data/none.jsonl`"):
        versions.publish(repository, "data/none.jsonl")
    with pytest.raises(DataError, match="a file below"):
        versions.publish(repository, "/etc/hostname")
    file.unlink()
    file.write_text("{}\n")
    with pytest.raises(DataError, match=r"as DVC recorded.*`dvc add data/x.jsonl`"):
        versions.publish(repository, RAW)
    do(repository, "dvc", "add", "-q", RAW)
    with pytest.raises(DataError, match=r"in HEAD; expected a version that a commit records.*git commit"):
        versions.publish(repository, RAW)
    do(repository, "git", "checkout", "-q", ".")
    file.unlink()
    with pytest.raises(DataError, match=r"is missing.*`dvc checkout data/x.jsonl`"):
        versions.publish(repository, RAW)
    file.write_text(before)


def test_a_damaged_record_in_a_commit_is_named(repository: Path) -> None:
    record = repository / f"{RAW}.dvc"
    before = record.read_text()
    for text in ("outs: 7", "- a", "outs: [{path: x.jsonl}]", "{"):
        record.write_text(text)
        do(repository, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "damaged")
        with pytest.raises(DataError, match=r"data/x.jsonl.dvc of commit \w{12}: unreadable"):
            versions.committed_version(repository, RAW)
        do(repository, "git", "reset", "-q", "--hard", "HEAD~1")
    assert record.read_text() == before


def test_a_pipelines_output_has_its_version_in_the_lock_and_a_folder_without_git_has_the_files(
    repository: Path, tmp_path: Path
) -> None:
    lock = "schema: '2.0'\nstages:\n  raw:\n    outs: [{path: data/made.jsonl, md5: 0a, size: 1}]\n"
    (repository / "dvc.lock").write_text(lock)
    do(repository, "git", "add", "dvc.lock")
    do(repository, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "lock")
    made = versions.committed_version(repository, "data/made.jsonl")
    assert made and (made.digest, len(made.revision)) == ("0a", 40)
    assert versions.committed_version(repository, "data/none.jsonl") is None
    assert versions.committed_version(repository, RAW, "no-such-branch") is None
    (tmp_path / "dvc.lock").write_text(lock)
    assert versions.committed_version(tmp_path, "data/made.jsonl") == DataVersion("data/made.jsonl", "0a")
    with pytest.raises(DataError, match="without git"):
        versions.bytes_of(tmp_path, DataVersion("data/made.jsonl", "0a"), tmp_path / "store")


@pytest.mark.parametrize("damaged", ["", "[]", "{", '{"data/x.jsonl": 7}', '{"data/x.jsonl": {"digest": null}}'])
def test_what_was_seen_is_remembered_and_a_damaged_record_starts_nothing(tmp_path: Path, damaged: str) -> None:
    (tmp_path / versions.SEEN_FILE).write_text(damaged)
    assert versions.last_seen(tmp_path, RAW) is None
    for version in (DataVersion(RAW, "0a", "c1"), DataVersion("data/y.jsonl", "0b")):
        versions.remember(tmp_path, version)
        assert versions.last_seen(tmp_path, version.path) == version
    assert versions.last_seen(tmp_path, RAW) == DataVersion(RAW, "0a", "c1")


@pytest.mark.parametrize(
    ("digest", "revision"),
    [("../../etc", ""), ("0" * 31, ""), ("0" * 32 + ".dir", ""), ("0" * 32, "--upload-pack=x"), ("0" * 32, "HEAD")],
)
def test_what_an_event_calls_a_version_is_no_path_and_no_option(digest: str, revision: str) -> None:
    with pytest.raises(DataError, match="of a data version"):
        DataVersion(RAW, digest, revision).checked()
    assert DataVersion(RAW, "0a" * 16, "c" * 40).checked().digest == "0a" * 16

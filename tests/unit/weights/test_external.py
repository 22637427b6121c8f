"""A checkpoint that points at a user's shards: unchanged ones pass, others are named before a byte is used."""

import hashlib
import json
import os

import pytest

from slipway.config.model import ModelConfig
from slipway.errors import CheckpointError
from slipway.store.store import seal
from slipway.weights import external
from slipway.weights.external import SOURCE, absolute, check_reference, fetch_extra

SHARDS = {"model-00001-of-00002.safetensors": b"first shard", "model-00002-of-00002.safetensors": b"second"}


@pytest.fixture
def directory(tmp_path):
    """The user's files."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in SHARDS.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def reference(tmp_path, directory):
    """An artifact with links to them, sealed."""
    out = tmp_path / "store" / "checkpoint" / "key"
    out.mkdir(parents=True)
    files = [
        {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in SHARDS.items()
    ]
    (out / SOURCE).write_text(json.dumps({"files": files}))
    for name in SHARDS:
        (out / name).symlink_to(directory / name)
    seal(out, "checkpoint", "key", {})
    return out


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that were read to be hashed."""
    names, sha256_file = [], external.sha256_file
    monkeypatch.setattr(external, "sha256_file", lambda file: names.append(file.name) or sha256_file(file))
    return names


def test_shards_not_touched_since_are_not_even_read(reference, directory, hashed):
    sealed = (reference / "manifest.json").stat()
    os.utime(reference / "manifest.json", ns=(sealed.st_mtime_ns + 10**10, sealed.st_mtime_ns + 10**10))
    check_reference(reference)
    assert hashed == []


def test_a_touched_but_unchanged_shard_is_hashed_again_and_fine(reference, directory, hashed):
    name = "model-00001-of-00002.safetensors"
    sealed = (reference / "manifest.json").stat().st_mtime_ns
    os.utime(directory / name, ns=(sealed + 10**9, sealed + 10**9))
    check_reference(reference)
    assert name in hashed


def test_other_bytes_of_the_same_length_are_named(reference, directory):
    shard = directory / "model-00002-of-00002.safetensors"
    shard.write_bytes(b"SECOND")
    sealed = (reference / "manifest.json").stat().st_mtime_ns
    os.utime(shard, ns=(sealed + 10**9, sealed + 10**9))
    digest = hashlib.sha256(b"second").hexdigest()
    with pytest.raises(
        CheckpointError, match=rf"shard {shard}: other bytes than when it was fetched; expected sha256 {digest}"
    ):
        check_reference(reference)


def test_other_bytes_with_an_old_time_are_noticed_by_the_time_of_change(reference, directory):
    """`cp -p` and rsync set a file's time back; its ctime is the kernel's."""
    shard = directory / "model-00002-of-00002.safetensors"
    manifest = reference / "manifest.json"
    os.utime(manifest, ns=(0, manifest.stat().st_mtime_ns - 10**10))  # sealed well before what follows
    shard.write_bytes(b"SECOND")
    os.utime(shard, ns=(0, 0))
    with pytest.raises(CheckpointError, match=rf"shard {shard}: other bytes"):
        check_reference(reference)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda shard: shard.unlink(), "missing; expected the file that was fetched"),
        (lambda shard: shard.write_bytes(b"second0"), "7 bytes; expected 6 bytes"),
        (lambda shard: (shard.unlink(), shard.mkdir()), "missing"),
    ],
    ids=["gone", "longer", "a folder"],
)
def test_a_shard_that_is_gone_or_longer_is_named(reference, directory, change, message):
    shard = directory / "model-00002-of-00002.safetensors"
    change(shard)
    with pytest.raises(CheckpointError, match=f"shard {shard}: {message}.*fetch notices the change"):
        check_reference(reference)


def test_a_checkpoint_of_its_own_files_has_nothing_to_check(tmp_path, hashed):
    check_reference(tmp_path)
    assert hashed == []


def params_for(directory):
    return ModelConfig(source="directory", directory=str(directory))


def test_the_key_follows_names_sizes_and_times_of_the_files(tmp_path, directory):
    store = tmp_path / ".slipway"
    before = fetch_extra(params_for(directory), store)
    assert before == fetch_extra(params_for(directory), store) and before["place"] == "model"
    digests = {before["directory"]}
    shard = directory / "model-00001-of-00002.safetensors"
    os.utime(shard, ns=(0, 1))
    digests.add(fetch_extra(params_for(directory), store)["directory"])
    (directory / "config.json").write_text("{}")
    digests.add(fetch_extra(params_for(directory), store)["directory"])
    (directory / "config.json").rename(directory / "other.json")
    digests.add(fetch_extra(params_for(directory), store)["directory"])
    assert len(digests) == 4
    (directory / "folder").mkdir()  # which is not fetched
    assert fetch_extra(params_for(directory), store)["directory"] in digests


def test_outside_of_the_stores_tree_the_place_is_absolute(tmp_path, directory):
    assert fetch_extra(params_for(directory), tmp_path / "clone" / ".slipway")["place"] == str(directory)


def test_no_directory_adds_nothing_to_the_key_and_a_missing_one_has_no_files(tmp_path):
    assert fetch_extra(ModelConfig(), tmp_path / "store") == {}
    missing, empty = (
        fetch_extra(params_for(tmp_path / name), tmp_path / "store")["directory"] for name in ("none", "empty")
    )
    assert missing == empty == hashlib.sha256(b"[]").hexdigest()


def test_a_relative_directory_is_made_absolute_before_the_stage_runs_elsewhere(directory, monkeypatch):
    monkeypatch.chdir(directory.parent)
    assert absolute(ModelConfig(source="directory", directory=directory.name)).directory == str(directory)
    assert absolute(ModelConfig()) == ModelConfig()


def test_a_home_directory_is_written_out(monkeypatch, directory):
    monkeypatch.setenv("HOME", str(directory.parent))
    params = ModelConfig(source="directory", directory="~/model", name="mine")
    assert absolute(params) == params.model_copy(update={"directory": str(directory)})

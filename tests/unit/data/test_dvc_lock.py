"""What DVC recorded, read from files as DVC writes them; digests against hashlib and DVC's own rule."""

import hashlib
import json

import pytest

from slipway.data.dvc_lock import digest_now, locked_digest, locked_stage, locked_stage_name
from slipway.errors import DataError
from tests.support.world import ROOT

LOCK = """schema: '2.0'
stages:
  splits:
    cmd: python -m scripts.data split
    outs:
    - path: data/splits
      md5: 0123456789abcdef0123456789abcdef.dir
"""


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_a_stage_is_named_by_what_it_makes(tmp_path):
    (tmp_path / "dvc.lock").write_text(LOCK)
    stage = locked_stage(tmp_path, tmp_path / "data" / "splits")
    assert stage and stage["cmd"] == "python -m scripts.data split"
    assert locked_digest(tmp_path, tmp_path / "data" / "splits") == "0123456789abcdef0123456789abcdef.dir"
    assert locked_stage(tmp_path, tmp_path / "data" / "raw") is None


def test_data_that_were_added_have_their_digest_beside_them(tmp_path):
    (tmp_path / "my.jsonl.dvc").write_text("outs:\n- md5: abc\n  path: my.jsonl\n")
    assert locked_digest(tmp_path, tmp_path / "my.jsonl") == "abc"
    assert locked_digest(tmp_path, tmp_path / "other.jsonl") is None


@pytest.mark.parametrize("content", ["stages: [1]", "stages", "{", "stages: {a: {outs: [{}]}}"])
def test_a_lock_file_that_others_damaged_is_one_error_that_names_it(tmp_path, content):
    (tmp_path / "dvc.lock").write_text(content)
    with pytest.raises(DataError, match=r"dvc\.lock: unreadable.*restore it with git"):
        locked_stage(tmp_path, tmp_path / "data")


def test_the_digest_of_a_file_is_its_md5(tmp_path):
    (tmp_path / "a").write_bytes(b"rows\n")
    assert digest_now(tmp_path / "a") == md5(b"rows\n")


def test_the_digest_of_a_folder_is_that_of_its_list_of_files(tmp_path):
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "b").write_bytes(b"2")
    (tmp_path / "d" / "sub" / "a").write_bytes(b"1")
    listed = [{"md5": md5(b"2"), "relpath": "b"}, {"md5": md5(b"1"), "relpath": "sub/a"}]
    assert digest_now(tmp_path / "d") == md5(json.dumps(listed).encode()) + ".dir"


def test_the_lock_of_this_project_names_the_modules_of_the_data_room():
    stage = locked_stage(ROOT, ROOT / "data/splits")
    paths = [dep["path"] for dep in stage["deps"]]
    assert "src/slipway/data/split.py" in paths
    assert [path for path in paths if path.startswith("src/") and not (ROOT / path).is_file()] == []


def test_the_stage_of_a_file_is_known_by_name(tmp_path):
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert locked_stage_name(tmp_path, tmp_path / "data" / "splits") == "splits"
    assert locked_stage_name(tmp_path, tmp_path / "data" / "raw") is None
    assert locked_stage_name(tmp_path / "none", tmp_path / "data") is None
    assert locked_stage_name(ROOT, ROOT / "data/raw/languages.jsonl") == "languages"

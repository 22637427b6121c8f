"""What `dvc repro` would make again, without asking DVC."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slipway.data.dvc_changes import changes_since_lock, repro_reason
from slipway.data.dvc_lock import digest_now
from slipway.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """raw.txt -> rows/ -> splits/, and a stage beside them, all up to date."""
    (tmp_path / "make.py").write_text("make")
    (tmp_path / "raw.txt").write_text("raw")
    (tmp_path / "params.yaml").write_text("seed: 1\nnested: {share: 0.5}\n")
    for folder in ("rows", "splits"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_text(folder)
    (tmp_path / "other.txt").write_text("other")

    def entry(name: str) -> dict[str, object]:
        path = tmp_path / name
        return {"path": name, "md5": digest_now(path), **({"size": path.stat().st_size} if path.is_file() else {})}

    params = {"params.yaml": {"seed": 1, "nested": {"share": 0.5}}}
    stages = {
        "splits": {"deps": [entry("rows")], "params": params, "outs": [entry("splits")]},
        "raw": {"deps": [entry("make.py")], "outs": [entry("raw.txt")]},
        "rows": {"deps": [entry("raw.txt")], "outs": [entry("rows")]},
        "other": {"deps": [], "outs": [entry("other.txt")]},
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return tmp_path


def of_raw(root: Path) -> list[str]:
    return changes_since_lock(root, root / "raw.txt")


def test_nothing_changed(root: Path) -> None:
    assert of_raw(root) == []


def test_a_changed_dependency_makes_all_after_it_again(root: Path) -> None:
    (root / "make.py").write_text("made")  # of the same size
    assert of_raw(root) == ["raw: make.py changed", "rows: raw.txt is made again", "splits: rows is made again"]


def test_the_reason_in_one_line_counts_the_others(root: Path) -> None:
    assert repro_reason(root, root / "raw.txt") == repro_reason(root, root / "mine.jsonl") == ""
    (root / "make.py").write_text("made")
    assert repro_reason(root, root / "raw.txt") == "dvc repro: raw: make.py changed, and 2 more"


def test_a_changed_parameter_and_a_missing_output_are_named(root: Path) -> None:
    (root / "params.yaml").write_text("seed: 2\nnested: {share: 0.5}\n")
    (root / "splits" / "a").unlink()
    (root / "splits").rmdir()
    assert of_raw(root) == ["splits: params.yaml: seed 1 -> 2", "splits: splits is missing"]


def test_a_file_edited_by_hand_counts(root: Path) -> None:
    (root / "rows" / "a").write_text("more")
    assert of_raw(root) == ["splits: rows changed"]


def test_a_stage_beside_is_not_looked_at_and_own_data_has_none(root: Path) -> None:
    (root / "other.txt").unlink()
    assert of_raw(root) == []
    assert changes_since_lock(root, root / "mine.jsonl") == []
    (root / "dvc.lock").unlink()
    assert of_raw(root) == []


def test_a_damaged_lock_is_one_error(root: Path) -> None:
    (root / "dvc.lock").write_text("stages: {raw: [}")
    with pytest.raises(DataError, match="unreadable"):
        of_raw(root)

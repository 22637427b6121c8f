"""Rows on disk for NeMo: shifted by one, mapped, whole files."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from slipway.training.nemo import labelled_rows
from slipway.training.nemo.labelled_rows import LabelledRows, write_labelled

ROWS = [([5, 6, 7, 8], [-100, -100, 7, 8]), ([9, 4], [-100, 4])]


def test_samples_are_shifted_as_nemos_own(tmp_path):
    write_labelled(tmp_path / "rows", ROWS)
    first, second = LabelledRows(str(tmp_path / "rows"), SimpleNamespace(pad_token_id=3))
    assert (first["input_ids"], first["labels"], first["attention_mask"]) == ([5, 6, 7], [-100, 7, 8], [1, 1, 1])
    assert (second["input_ids"], second["labels"]) == ([9], [4])
    assert first["___PAD_TOKEN_IDS___"] == {"input_ids": 3, "labels": -100, "attention_mask": 0}


def test_an_index_beyond_the_rows_ends_iteration_and_a_negative_one_counts_from_the_end(tmp_path):
    write_labelled(tmp_path, ROWS)
    rows = LabelledRows(str(tmp_path))
    assert len(rows) == 2 and rows[-1]["labels"] == [4]
    with pytest.raises(IndexError):
        rows[2]


def test_a_tokenizer_without_padding_gets_one_as_from_nemos_own_datasets(tmp_path):
    write_labelled(tmp_path, ROWS)
    tokenizer = SimpleNamespace(pad_token_id=None, pad_token=None, eos_token="</s>")
    LabelledRows(str(tmp_path), tokenizer)
    assert tokenizer.pad_token == "</s>"


def test_files_are_replaced_not_overwritten(tmp_path):
    """A running job has the old ones mapped."""
    write_labelled(tmp_path, ROWS)
    before = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    write_labelled(tmp_path, [([1, 2], [-100, 2])])
    assert before.tolist() == [5, 6, 7, 8, 9, 4]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.npy", "offsets.npy", "tokens.npy"]


def test_the_file_stands_alone():
    """It is loaded by its path on a machine that has no Slipway."""
    spec = importlib.util.spec_from_file_location("copied", Path(labelled_rows.__file__))
    module = importlib.util.module_from_spec(spec)
    before = {name for name in sys.modules if name.startswith("slipway")}
    spec.loader.exec_module(module)
    assert {name for name in sys.modules if name.startswith("slipway")} == before
    source = Path(labelled_rows.__file__).read_text().splitlines()
    assert not any(line.startswith(("from slipway", "import slipway")) for line in source)

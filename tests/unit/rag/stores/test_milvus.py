"""Milvus without its package: one error with the line that installs it. With it: tests/lab/rag/real_stores.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from slipway.config.store_address import store_address
from slipway.errors import ResourceError
from slipway.rag.stores.milvus import NO_WORD, _document, _row
from slipway.rag.stores.store import Row, open_store


@pytest.mark.parametrize("name", ["pymilvus", "milvus_lite"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == name else there("json"))
    with pytest.raises(ResourceError, match=rf"package {name}: not installed.*pip install 'slipway\[milvus\]'"):
        open_store(store_address(f"milvus://{tmp_path}/deep/x.db"))
    assert not (tmp_path / "deep").exists()


def test_a_row_comes_back_as_it_was() -> None:
    row = Row(3, "d", 1, 9, "text", np.array([0.1, 0.7], np.float32), ("a",), {5: 0.25})
    document = _document(row)
    assert document["words"] == {5: 0.25} and row.same(_row(document))
    assert _document(Row(3, "d", 1, 9, "!!!", None, (), {}))["words"] == {NO_WORD: 1.0}
    assert "vector" not in _document(Row(3, "d", 1, 9, "!!!", None, (), {}))

"""The file that names the index which is searched: none, one, or what names no index."""

from pathlib import Path

import pytest

from slipway.errors import StateError
from slipway.ops.index_pointer import pointer
from slipway.ops.retrieval import current_index, current_retriever


def test_the_index_that_was_built_last_is_named(tmp_path: Path) -> None:
    assert pointer(tmp_path) is None
    (tmp_path / "current-index").write_text("a1b2 hybrid\n")
    assert pointer(tmp_path) == ("a1b2", "hybrid")


@pytest.mark.parametrize("content", [b"", b"key", b"key sparse", b"../engine/e bm25", b"a b c", b"\xff\xfe bm25"])
def test_a_pointer_that_names_no_index_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "current-index").write_bytes(content)
    for ask in (current_index, current_retriever):
        with pytest.raises(StateError, match="a key and a retriever"):
            ask(tmp_path)

"""`slipway chat` without its extra, and which index it opens; with it: tests/lab/rag/test_chat.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.cli import chat_command
from slipway.config.load import parse
from slipway.errors import ResourceError, StateError
from slipway.store.usage import INDEX_POINTER


def test_the_extra_is_named_before_anything_is_opened() -> None:
    with pytest.raises(ResourceError, match=r"package nicegui: not installed.*extra chat.*slipway\[chat\]"):
        chat_command.chat(url="http://127.0.0.1:1", model="m")


def test_the_index_is_the_named_one_else_the_last_else_none(tmp_path: Path) -> None:
    config = parse({"store": {"root": str(tmp_path)}}, "a test")
    assert chat_command._index(config, tmp_path / "own") == tmp_path / "own"
    assert chat_command._index(config, None) is None
    (tmp_path / INDEX_POINTER).write_text("k bm25\n")
    with pytest.raises(StateError, match="is gone"):
        chat_command._index(config, None)
    (tmp_path / "index/k").mkdir(parents=True)
    assert chat_command._index(config, None) == tmp_path / "index/k"

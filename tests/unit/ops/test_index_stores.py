"""An index in a store, by the address and the key of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.load import load_config
from slipway.errors import StateError
from slipway.ops import index_stores
from tests.support import faq
from tests.support.pico_embedder import pico_embedder


def test_the_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIPWAY_STORE_API_KEY", raising=False)
    assert index_stores.address_of("milvus://db").api_key is None
    monkeypatch.setenv("SLIPWAY_STORE_API_KEY", "key-of-9")
    address = index_stores.address_of("milvus://db")
    assert address.api_key.get_secret_value() == "key-of-9" and "key-of-9" not in repr(address)


def test_another_embedder_or_another_index_is_not_verified(tmp_path: Path) -> None:
    url = f"faiss://{tmp_path}/vectors"
    model, other = pico_embedder(tmp_path / "model"), pico_embedder(tmp_path / "other", seed=5)
    path = faq.built_index(tmp_path / "index", model, cache=tmp_path)
    steps: list[tuple[int, int]] = []
    pushed = index_stores.pushed(path, url, "docs", lambda done, of: steps.append((done, of)))
    assert pushed["written"] == 32 and steps == [(32, 32)]
    rag = {"embedder": {"source": "directory", "directory": other.directory}}
    with pytest.raises(StateError, match="that made its vectors"):
        index_stores.verified_in_store(path, url, "docs", load_config(Path("conf"), [], {"rag": rag}))
    words = faq.built_index(tmp_path / "words", None, cache=tmp_path)
    config = load_config(Path("conf"), [], {"rag": {"embedder": {"source": "directory", "directory": model.directory}}})
    with pytest.raises(StateError, match=r"expected index .*, 32 rows of 0"):
        index_stores.verified_in_store(words, url, "docs", config)
    assert index_stores.verified_in_store(path, url, "docs", config)["rows"] == 32
    index_stores.pushed(words, url, "docs", lambda _done, _of: None)
    assert index_stores.dropped(path, url, "docs")["dropped"] == pushed["collection"]

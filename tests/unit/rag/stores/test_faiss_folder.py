"""A folder as a store: the contract of every store, and files that were damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipway.config.store_address import StoreAddress, store_address
from slipway.errors import EngineError, ResourceError
from slipway.rag.search import open_index
from slipway.rag.stores.push import push
from slipway.rag.stores.store import open_store
from tests.support import faq, store_contract
from tests.support.pico_embedder import pico_embedder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return faq.built_index(tmp_path / "index", pico_embedder(tmp_path / "model"), cache=tmp_path)


@pytest.fixture
def address(tmp_path: Path) -> StoreAddress:
    return store_address(f"faiss://{tmp_path}/a%20store")


def test_it_finds_the_same_top_tens(path: Path, address: StoreAddress) -> None:
    vectors = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = [row["text"] for row in faq.questions(faq.documents())]
    store_contract.check_the_same_top_tens(open_index(path), path, open_store(address), questions, vectors)


def test_pushes_are_idempotent_and_mend(path: Path, address: StoreAddress) -> None:
    store_contract.check_pushes(open_index(path), path, address)


def test_rows_come_back(path: Path, address: StoreAddress) -> None:
    store_contract.check_rows_come_back(open_store(address), open_index(path))


def test_an_alias_moves(path: Path, address: StoreAddress, tmp_path: Path) -> None:
    other = faq.built_index(tmp_path / "other", pico_embedder(tmp_path / "second", seed=3), cache=tmp_path)
    store_contract.check_an_alias_moves((path, other), open_store(address))


def test_an_index_of_words_alone(address: StoreAddress, tmp_path: Path) -> None:
    store_contract.check_words_alone(faq.built_index(tmp_path / "words", None, cache=tmp_path), open_store(address))


def test_a_damaged_file_is_named(path: Path, address: StoreAddress) -> None:
    store_contract.check_pushes(open_index(path), path, address)
    file = next(address.file.glob("*/rows-00000000.npz"))
    for content in (b"", file.read_bytes()[:200], b"no archive"):
        file.write_bytes(content)
        store = open_store(address)
        with pytest.raises(EngineError, match=r"rows-00000000\.npz cannot be read .*push again"):
            store.count(file.parent.name)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="a file; expected a folder"):
        open_store(store_address(f"faiss://{tmp_path}/file"))


def test_an_alias_that_names_no_collection_is_named(address: StoreAddress) -> None:
    address.file.mkdir()
    for content in (b"", b"../../etc", b"\xff\xfe", b"a\nb"):
        (address.file / "docs.alias").write_bytes(content)
        with pytest.raises(EngineError, match=r"docs\.alias holds .*; expected the name of a collection"):
            open_store(address).served("docs")


def test_what_the_system_does_not_let_be_written_is_named(path: Path, address: StoreAddress) -> None:
    (address.file / "pushes.alias").mkdir(parents=True)
    for store, text in (
        (open_store(store_address("faiss:///proc/none")), "No such file or directory"),
        (open_store(store_address("faiss:///dev/null/x")), "Not a directory"),
        (open_store(address), "Is a directory"),
    ):
        with pytest.raises(ResourceError, match=f"{text}.*expected a folder to write in"):
            push(open_index(path), store_contract.digest_of(path), store, "pushes", store_contract.quiet)

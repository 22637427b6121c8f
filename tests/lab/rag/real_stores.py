"""Run by test_stores.py with the packages of infra/lab/rag: the contract of every store, asked of milvus-lite and of a
server that speaks Elasticsearch's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import httpx
import numpy as np
import pytest

from slipway.config.store_address import StoreAddress, store_address
from slipway.errors import DataError, EngineError, EngineLostError
from slipway.rag.index import Index, same_ranking
from slipway.rag.search import open_index
from slipway.rag.stores.push import push, record_for
from slipway.rag.stores.store import Row, open_store
from slipway.rag.stores.through import through
from slipway.system.ports import any_port
from tests.support import faq, store_contract
from tests.support.pico_embedder import pico_embedder

NOIDA = Path(str(files("noida_db"))) / "noida-db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's own program: stopping its Python wrapper would leave it running."""
    folder, port = tmp_path_factory.mktemp("noida"), any_port()
    words = ["start", "--data-dir", str(folder / "data"), "--only", "elasticsearch", "--elasticsearch-port", str(port)]
    with (folder / "log").open("w") as log, subprocess.Popen([NOIDA, *words], stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 120
            while not _answers(port):
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
            yield f"elasticsearch://127.0.0.1:{port}"
        finally:
            process.kill()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(params=["milvus", "elasticsearch"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    if request.param == "milvus":
        return store_address(f"milvus://{tmp_path}/store/vectors.db")
    return store_address(request.getfixturevalue("server"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return faq.built_index(tmp_path / "index", pico_embedder(tmp_path / "model"), cache=tmp_path)


@pytest.fixture
def index(path: Path) -> Index:
    return open_index(path)


def test_it_finds_the_same_top_tens(index: Index, path: Path, address: StoreAddress) -> None:
    vectors = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = [row["text"] for row in faq.questions(faq.documents())]
    store_contract.check_the_same_top_tens(index, path, open_store(address), questions, vectors)


def test_pushes_are_idempotent_and_mend(index: Index, path: Path, address: StoreAddress) -> None:
    store_contract.check_pushes(index, path, address)


def test_rows_come_back(index: Index, address: StoreAddress) -> None:
    store_contract.check_rows_come_back(open_store(address), index)


def test_an_alias_moves(path: Path, address: StoreAddress, tmp_path: Path) -> None:
    other = faq.built_index(tmp_path / "other", pico_embedder(tmp_path / "second", seed=3), cache=tmp_path)
    store_contract.check_an_alias_moves((path, other), open_store(address))


def test_an_index_of_words_alone(address: StoreAddress, tmp_path: Path) -> None:
    store_contract.check_words_alone(faq.built_index(tmp_path / "words", None, cache=tmp_path), open_store(address))


def test_a_file_of_milvus_is_opened_again_by_another_process(index: Index, path: Path, tmp_path: Path) -> None:
    url = f"milvus://{tmp_path}/vectors.db"
    words = [sys.executable, "-m", "slipway", "index", "push", url, "--index", str(path), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr
    store = open_store(store_address(url))
    name = store.served("slipway")
    assert store.count(name) == 32
    stored = through(index, store, name).nearest(index.probe_vectors, 10)
    assert all(map(same_ranking, stored, index.nearest(index.probe_vectors, 10)))


def test_a_text_that_milvus_cannot_hold_is_named(index: Index, path: Path, tmp_path: Path) -> None:
    store = open_store(store_address(f"milvus://{tmp_path}/vectors.db"))
    store.create("long", record_for(index, "ab" * 32))
    with pytest.raises(DataError, match=r"chunk 7 .*text of 65,536 bytes; expected at most 65,535"):
        store.add("long", [Row(7, "d", 0, 1, "\u00e4" * 32768, index.probe_vectors[0], (), {0: 1.0})])
    assert store.count("long") == 0


def test_files_that_are_no_store_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database")
    (tmp_path / "file").touch()
    for name in ("text.db", "file/x.db"):
        with pytest.raises(EngineError, match=f"store milvus://{tmp_path}/{name}: "):
            open_store(store_address(f"milvus://{tmp_path}/{name}")).record("anything")


def test_a_server_of_milvus_that_is_down_is_lost() -> None:
    with pytest.raises(EngineLostError, match=r"store milvus://127\.0\.0\.1:\d+: .*expected an answer"):
        open_store(store_address(f"milvus://127.0.0.1:{any_port()}"))


def test_a_vector_of_another_length_is_refused(index: Index, address: StoreAddress) -> None:
    store = open_store(address)
    store.create("lengths_1", record_for(index, "ab" * 32))
    with pytest.raises(EngineError, match="store "):
        store.add("lengths_1", [Row(0, "d", 0, 1, "x", np.ones(3, np.float32), ("x",), {0: 1.0})])
    assert store.count("lengths_1") == 0
    store.drop("lengths_1")


def test_an_alias_that_is_a_collection_is_not_taken(index: Index, path: Path, address: StoreAddress) -> None:
    from slipway.errors import SlipwayError

    store = open_store(address)
    store.create("taken", record_for(index, "ab" * 32))
    with pytest.raises(SlipwayError, match="taken"):
        push(index, store_contract.digest_of(path), store, "taken", store_contract.quiet)
    assert store.record("taken") is not None
    store.drop("taken")

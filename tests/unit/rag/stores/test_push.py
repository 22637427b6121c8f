"""Pushing: what was killed goes on, what differs is refused, and the alias moves last."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from slipway.config.store_address import store_address
from slipway.errors import ConfigError, StateError
from slipway.rag.search import open_index
from slipway.rag.stores import push as pushing
from slipway.rag.stores.faiss_folder import FaissFolder
from slipway.rag.stores.store import Row
from tests.support import faq
from tests.support.pico_embedder import pico_embedder
from tests.support.store_contract import digest_of, quiet


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return faq.built_index(tmp_path / "index", pico_embedder(tmp_path / "model"), cache=tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> FaissFolder:
    return FaissFolder(store_address(f"faiss://{tmp_path}/store"))


class Dying(FaissFolder):
    """Ends after a few writes."""

    left = 2

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """Write, while there is life."""
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        super().add(name, rows)


def test_a_killed_push_goes_on_and_serves_nothing_before(
    path: Path, store: FaissFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "BLOCK", 8)
    index, digest = open_index(path), digest_of(path)
    with pytest.raises(KeyboardInterrupt):
        pushing.push(index, digest, Dying(store_address(f"faiss://{tmp_path}/store")), "docs", quiet)
    assert store.served("docs") is None and store.count(pushing.collection_of("docs", digest)) == 16
    with pytest.raises(StateError, match=r"alias docs .*not there"):
        pushing.verify(index, digest, store, "docs")
    steps: list[tuple[int, int]] = []
    store = FaissFolder(store_address(f"faiss://{tmp_path}/store"))
    held = pushing.push(index, digest, store, "docs", lambda done, of: steps.append((done, of)))
    assert (held.written, held.rows, steps) == (16, 32, [(8, 32), (16, 32), (24, 32), (32, 32)])
    assert store.served("docs") == held.collection == f"docs_{digest[:32]}"


def test_rows_of_somebody_else_are_not_served(path: Path, store: FaissFolder) -> None:
    """One row more than the index has: neither verified nor served."""
    index, digest = open_index(path), digest_of(path)
    name = pushing.push(index, digest, store, "docs", quiet).collection
    store.add(name, [Row(32, "d9", 0, 1, "x", index.vectors.reconstruct(0), (), {})])
    for check in (lambda: pushing.verify(index, digest, store, "docs"), lambda: push_as(index, digest, store, "docs")):
        with pytest.raises(StateError, match="33 rows; expected the 32 of the index"):
            check()


def push_as(index: object, digest: str, store: FaissFolder, alias: str) -> None:
    pushing.push(index, digest, store, alias, quiet)


class Forgetful(FaissFolder):
    """Stores other BM25 weights than it is given."""

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """Each row found by the words of another one."""
        weights = [row.weights for row in rows[1:] + rows[:1]]
        super().add(name, [Row(**{**vars(r), "weights": w}) for r, w in zip(rows, weights, strict=True)])


def test_probes_that_find_other_chunks_leave_the_alias(path: Path, store: FaissFolder, tmp_path: Path) -> None:
    other = faq.built_index(tmp_path / "other", pico_embedder(tmp_path / "second", seed=3), cache=tmp_path)
    served = pushing.push(open_index(other), digest_of(other), store, "docs", quiet).collection
    wrong = Forgetful(store_address(f"faiss://{tmp_path}/store"))
    with pytest.raises(StateError, match=r"probe\(s\) find other chunks:\nbm25, probe"):
        pushing.push(open_index(path), digest_of(path), wrong, "docs", quiet)
    assert store.served("docs") == served


class Approximate(FaissFolder):
    """BM25 that is said to be the store's own."""

    approximate_bm25 = True


class Wordless(Approximate):
    """Finds the first half of the rows by their words alone."""

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """The second half has no words."""
        super().add(name, [row if row.number < 16 else Row(**{**vars(row), "weights": {}}) for row in rows])


def test_a_share_of_a_top_ten_by_hand() -> None:
    ours = [(row, 20.0 - row) for row in range(9)] + [(9, 1.0), (10, 1.0), (11, 0.5)]
    first, tied = set(range(9)), {10}
    assert pushing._agreed(ours, first | tied) == pushing._agreed(ours, first | {9}) == 1
    assert pushing._agreed(ours, first | {11}) == pushing._agreed(ours, first) == 0.9
    assert pushing._agreed(ours, {1, 2, 3, 4, 5, 6, 7, 20, 21, 22}) == 0.7
    assert (pushing._agreed([], set()), pushing._agreed([], {1}), pushing._agreed(ours, set())) == (1, 0, 0)


def test_a_store_with_bm25_of_its_own_must_agree_on_most(path: Path, tmp_path: Path) -> None:
    index, digest = open_index(path), digest_of(path)
    same = Approximate(store_address(f"faiss://{tmp_path}/same"))
    assert pushing.push(index, digest, same, "docs", quiet).bm25_agreement == 1.0
    spoiled = Wordless(store_address(f"faiss://{tmp_path}/spoiled"))
    with pytest.raises(StateError, match=r"BM25 agrees on 0\.800 of the probes"):
        pushing.push(index, digest, spoiled, "docs", quiet)


def test_a_collection_of_another_index_is_refused(path: Path, store: FaissFolder, tmp_path: Path) -> None:
    index, digest = open_index(path), digest_of(path)
    name = pushing.push(index, digest, store, "docs", quiet).collection
    longer = faq.built_index(tmp_path / "words", None, cache=tmp_path)
    with pytest.raises(StateError, match=r"rows of 16; expected index .* rows of 0"):
        pushing.check_served(open_index(longer), digest, store, "docs")
    (tmp_path / "store" / name / "record.json").write_text('{"index": 7}')
    with pytest.raises(StateError, match="its record is"):
        pushing.verify(index, digest, store, "docs")
    shutil.rmtree(tmp_path / "store" / name)
    with pytest.raises(StateError, match="without a record"):
        pushing.verify(index, digest, store, "docs")


@pytest.mark.parametrize("alias", ["", "Docs", "a-b", "1a", "_a", "a" * 64, "a/b", "a b", "ä"])
def test_an_alias_that_no_store_would_take_is_refused(alias: str) -> None:
    with pytest.raises(ConfigError, match="small letters"):
        pushing.collection_of(alias, "0" * 64)

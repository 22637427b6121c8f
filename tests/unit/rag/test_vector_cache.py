"""The cache: nothing is embedded twice, a kill loses one shard, the bytes are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipway.rag import vector_cache
from slipway.rag.vector_cache import VectorCache

TEXTS = [f"text {n}" for n in range(10)]


class Counting:
    """Embeds by length and last letter; counts texts, and dies before the one asked for."""

    def __init__(self, dies_at: int = 10**9) -> None:
        self.made, self.dies_at = 0, dies_at

    def __call__(self, texts: list[str]) -> np.ndarray:
        if self.made + len(texts) > self.dies_at:
            raise KeyboardInterrupt
        self.made += len(texts)
        return np.array([[len(text), ord(text[-1])] for text in texts], np.float32)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "SHARD", 3)


def ask(folder: Path, embed: Counting, texts: list[str] = TEXTS, embedder: str = "e" * 64) -> np.ndarray:
    return VectorCache(folder, embedder, "passage").vectors(texts, embed, lambda *_: None)


def test_one_changed_text_is_one_new_vector(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    before = ask(tmp_path, first, [*TEXTS, TEXTS[0]])
    after = ask(tmp_path, second, [*TEXTS[:9], "another"])
    assert (first.made, second.made) == (10, 1)
    assert (before[:9] == after[:9]).all() and (before[10] == before[0]).all()


def test_a_killed_run_goes_on_at_its_shard_to_the_same_bytes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path / "killed", Counting(dies_at=7))
    rest = Counting()
    resumed = ask(tmp_path / "killed", rest)
    assert rest.made == 4
    assert resumed.tobytes() == ask(tmp_path / "whole", Counting()).tobytes()


def test_embedders_do_not_share_vectors(tmp_path: Path) -> None:
    ask(tmp_path, Counting())
    other = Counting()
    ask(tmp_path, other, embedder="f" * 64)
    assert other.made == 10


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 not a zip", None])
def test_a_damaged_shard_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    expected = ask(tmp_path, Counting())
    shard = sorted((tmp_path / "vectors").rglob("*.npz"))[0]
    content = shard.read_bytes()
    flipped = bytes([*content[:-150], content[-150] ^ 255, *content[-149:]])
    shard.write_bytes(flipped[: len(content) // 2] if damage is None else damage)
    again = Counting()
    assert (ask(tmp_path, again) == expected).all()
    assert again.made in (1, 3)


def test_progress_counts_distinct_texts(tmp_path: Path) -> None:
    counts_shown: list[tuple[int, int]] = []
    VectorCache(tmp_path, "e", "query").vectors(
        ["a", "a", "b"], Counting(), lambda *counts: counts_shown.append(counts)
    )
    assert counts_shown == [(2, 2)]

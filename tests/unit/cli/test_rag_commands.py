"""What `slipway rag` and `slipway index` print, and how they end on bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError, DataError, StateError
from slipway.store.usage import INDEX_POINTER
from tests.support import faq
from tests.support.pico_embedder import pico_embedder


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """Options for a store with a built index."""
    params = pico_embedder(tmp_path / "model")
    faq.built_index(tmp_path / "store/index/k", params, cache=tmp_path)
    (tmp_path / "store" / INDEX_POINTER).write_text("k bm25\n")
    values = {
        "store.root": tmp_path / "store",
        "store.cache": tmp_path / "cache",
        "rag.embedder.source": "directory",
        "rag.embedder.directory": params.directory,
    }
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def ran(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


def test_search_shows_sources_and_ranks(settings: list[str]) -> None:
    shown = ran("rag", "search", "what is word3open?", "--top", "2", "--explain", "--retriever", "hybrid", *settings)
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("1. d3 ") and ": bm25 1, dense " in shown.output
    results = json.loads(ran("rag", "search", "what is word3open?", "--top", "1", "--json", *settings).output)
    assert results[0]["text"] == faq.paragraph(3, "open")
    assert "nothing" in ran("rag", "search", "zebra", *settings).output


def test_status_and_verify(settings: list[str], tmp_path: Path) -> None:
    assert json.loads(ran("rag", "status", "--json", *settings).output)["chunks"] == 32
    assert "digests, 32 probes, embedder" in ran("index", "verify", *settings).output
    file = tmp_path / "store/index/k/chunks.jsonl"
    file.write_text(file.read_text().replace("d1", "d2", 1))
    refused = ran("index", "verify", *settings)
    assert isinstance(refused.exception, StateError) and "chunks.jsonl has" in str(refused.exception)


def test_bad_words_are_refused(settings: list[str], tmp_path: Path) -> None:
    for words, kind, text in (
        (["rag", "search", *settings], ConfigError, "what to search for"),
        (["rag", "search", "x", "--retriever", "magic", *settings], ConfigError, "one of bm25"),
        (["rag", "search", "x", "--on", "local", "--store", "faiss:///f", *settings], ConfigError, "one of them"),
        (
            ["rag", "search", "x", "--on", "local", "--set", f"deploy.root={tmp_path / 't'}", *settings],
            StateError,
            "index of target local: nothing serves there",
        ),
        (["rag", "compare", "--corpus", str(tmp_path / "no"), *settings], DataError, "rag.corpus"),
        (["rag", "compare", "--budget", "1", *settings], ConfigError, "context_tokens"),
        (["rag", "build", "--strategy", "no", *settings], ConfigError, "one of fixed-256"),
    ):
        refused = ran(*words)
        assert isinstance(refused.exception, kind) and text in str(refused.exception), refused.output


def test_few_questions_are_undecided_with_the_number_that_would_do(tmp_path: Path) -> None:
    faq.write_corpus(tmp_path / "data", 2)
    params = pico_embedder(tmp_path / "model")
    values = {"store.root": tmp_path / "s", "store.cache": tmp_path / "c", "rag.retrievers": "[bm25]"}
    values |= {"rag.embedder.source": "directory", "rag.embedder.directory": params.directory}
    values |= {"rag.strategies": "{}", "rag.strategies.small": "{kind: fixed, tokens: 24, overlap: 0}"}
    words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    shown = ran("rag", "compare", "--corpus", str(tmp_path / "data"), *words)
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert "undecided: small/bm25" in shown.output and "About 50 questions would decide." in shown.output


def test_an_index_is_pushed_verified_searched_and_dropped(settings: list[str], tmp_path: Path) -> None:
    url = f"faiss://{tmp_path}/vectors"
    pushed = json.loads(ran("index", "push", url, "--json", *settings).output)
    assert (pushed["written"], pushed["rows"], pushed["alias"]) == (32, 32, "slipway")
    again = ran("index", "push", url, "--index", str(tmp_path / "store/index/k"), *settings)
    assert again.exit_code == 0 and "32 of 32 rows are there" in again.stderr
    verified = json.loads(ran("index", "verify", url, "--json", *settings).output)
    assert verified["verified"] == "record, 32 rows, 32 probes, embedder"
    assert verified["index"] == json.loads(ran("index", "verify", "--json", *settings).output)["digest"]
    asked = ("rag", "search", "what is word3open?", "--retriever", "hybrid", "--json", *settings)
    assert json.loads(ran(*asked, "--store", url).output) == json.loads(ran(*asked).output)
    refused = ran("index", "drop", url, *settings)
    assert isinstance(refused.exception, StateError) and "served as slipway" in str(refused.exception)
    assert ran("index", "push", url, "--alias", "other", *settings).exit_code == 0
    assert isinstance(ran(*asked, "--store", url, "--alias", "third").exception, StateError)


def test_stores_that_are_none_are_refused(settings: list[str], tmp_path: Path) -> None:
    never = f"faiss://{tmp_path}/never"
    for words, text in (
        (["push"], "store: none; expected a store"),
        (["drop", "some/folder"], "store: some/folder"),
        (["push", "pinecone://x"], "store: pinecone://x"),
        (["push", never, "--alias", "Docs!"], "--alias: 'Docs!'"),
        (["verify", "some/folder", "--index", "other"], "one directory"),
    ):
        refused = ran("index", *words, *settings)
        assert isinstance(refused.exception, ConfigError) and text in str(refused.exception), refused.output
    assert not (tmp_path / "never").exists()

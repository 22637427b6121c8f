"""Indexes of BM25 alone as artifacts of a store, and verdicts on an engine that is searched with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.store.artifacts import Choice, Engine, Retrieval, SearchIndex, Verdict
from slipway.store.manifest import read_manifest
from slipway.store.references import reference_to
from slipway.store.store import Store, load, seal
from tests.support import faq
from tests.support.target import make_verdict


def searchable(store: Store, documents: int = 4) -> SearchIndex:
    """The index over a corpus of that many documents; made once."""
    folder = store.dir(SearchIndex.kind, f"i{documents}")
    if not folder.exists():
        faq.built_index(folder, None, cache=store.root, count=documents)
    return load(SearchIndex, folder)


def searched(store: Store, index: SearchIndex, **params: Any) -> Retrieval:
    """The evaluation of an index by BM25, without items."""
    known = {"retrievers": ["bm25"], "depth": 100, **params}
    provenance = {"stage": "search_eval", "inputs": {"index": reference_to(index, store.root)}, "params": known}
    key = f"s{index.digest[:8]}{'-'.join(known['retrievers'])}"
    with store.create(Retrieval, key, provenance) as out:
        (out / "items.jsonl").write_text(index.digest)
    return load(Retrieval, store.dir(Retrieval.kind, key))


def chosen(store: Store, winner: str) -> Choice:
    """A choice of this arm."""
    with store.create(Choice, "c", {"stage": "choose", "inputs": {}}) as out:
        (out / "choice.json").write_text(json.dumps({"winner": winner}))
    return load(Choice, store.dir(Choice.kind, "c"))


def searched_verdict(store: Store, engine: Engine, index: SearchIndex) -> Verdict:
    """A passed verdict on an engine and the index that goes with it."""
    return make_verdict(store, engine, search=searched(store, index))


def spoil_probes(folder: Path) -> None:
    """The sealed index in a folder says that its first probe found another row; its manifest fits."""
    about = json.loads((folder / "index.json").read_text())
    first = about["top"]["bm25"][0]
    first[0][0] = (first[0][0] + 5) % about["rows"]
    (folder / "index.json").write_text(json.dumps(about))
    manifest = read_manifest(folder)
    (folder / "manifest.json").unlink()
    seal(folder, SearchIndex.kind, manifest["key"], manifest["provenance"])

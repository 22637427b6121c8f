"""A sealed index into a store, and whether the store still holds it.

collection   ALIAS_DIGEST: a name of its own for each index, so what is served is never written to
rows         compared with the store's, block by block; blocks that lack one or differ are written. A killed push
             goes on, a second one writes nothing
checks       count, every row and vector read back, the 32 probes searched there
alias        moved last, when all of it holds: until then the former index is served
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slipway.errors import ConfigError, StateError
from slipway.rag.index import TIE, TOP, Index, replay, top_tens
from slipway.rag.lexical import Ranked, words
from slipway.rag.stores.store import Record, Row, Store
from slipway.rag.stores.through import lexical_of, through

BLOCK = 256  # rows that are compared and written at a time
ALIKE = 0.9  # share of the probes' top tens that a store's own BM25 must agree on
ALIAS = re.compile(r"[a-z][a-z0-9_]{0,62}")
OnRows = Callable[[int, int], None]  # rows that are there, of how many


@dataclass(frozen=True)
class Held:
    """What a store holds of an index. `written`: rows that this push wrote; `former`: the collection that was served
    before it, None where there was none or the same; `bm25_agreement`: share of the probes' top tens by BM25 that are
    the index's, 1 where the store computes with its weights."""

    collection: str
    rows: int
    written: int
    former: str | None
    bm25_agreement: float


def push(index: Index, digest: str, store: Store, alias: str, on_rows: OnRows) -> Held:
    """Write an opened index, whose seal has this digest, and serve it under the alias. Raises StateError when the store
    then holds something else, EngineError when it does not take it; the alias stays as it was in both cases."""
    name, record = collection_of(alias, digest), record_for(index, digest)
    former = store.served(alias)
    store.create(name, record)
    _same_record(store, name, record)
    written = _write(index, store, name, on_rows)
    agreement = _checked(index, store, name)
    store.serve(alias, name)
    return Held(name, len(index.chunks), written, former if former != name else None, agreement)


def verify(index: Index, digest: str, store: Store, alias: str) -> Held:
    """What the alias serves, when it is this index, whole. Raises StateError that says what differs."""
    name = check_served(index, digest, store, alias)
    for block in _blocks(len(index.chunks)):
        _refuse_different([_row(index, number) for number in block], store, name)
    return Held(name, len(index.chunks), 0, None, _checked(index, store, name))


def drop(digest: str, store: Store, alias: str) -> str:
    """Remove the collection of an index; its name. Raises StateError while the alias serves it, and where it is not
    there."""
    name = collection_of(alias, digest)
    thing = f"collection {name} of {store.place}"
    if store.served(alias) == name:
        raise StateError(thing, f"served as {alias}", "one that is not", "push the index to be served first, then drop")
    if store.record(name) is None:
        raise StateError(thing, "not there", "one that was pushed", "check --alias and --index")
    store.drop(name)
    return name


def check_served(index: Index, digest: str, store: Store, alias: str) -> str:
    """The collection under the alias, by its record this index's. Raises StateError where there is none, and for
    another index's."""
    name = store.served(_sound(alias))
    if name is None:
        raise StateError(f"alias {alias} of {store.place}", "not there", "an index", "`slipway index push`, or --alias")
    _same_record(store, name, record_for(index, digest))
    return name


def collection_of(alias: str, digest: str) -> str:
    """The name of an index's collection. Raises ConfigError for an alias that not every store allows."""
    return f"{_sound(alias)}_{digest[:32]}"


def record_for(index: Index, digest: str) -> Record:
    """The record of an index."""
    embedder = index.about.get("embedder")
    dimension = 0 if index.probe_vectors is None else int(index.probe_vectors.shape[1])
    return Record(digest, embedder["digest"] if embedder else "", len(index.chunks), dimension)


def _sound(alias: str) -> str:
    if not ALIAS.fullmatch(alias):
        wanted = "small letters, digits and `_`, a letter first, at most 63"
        raise ConfigError("--alias", repr(alias), wanted, "choose another name")
    return alias


def _same_record(store: Store, name: str, record: Record) -> None:
    there = store.record(name)
    if there != record:
        raise StateError(
            f"collection {name} of {store.place}",
            f"index {there.index[:16]}, {there.rows} rows of {there.dimension}" if there else "without a record",
            f"index {record.index[:16]}, {record.rows} rows of {record.dimension}",
            "`slipway index push` puts this index there, --index names another one",
        )


def _blocks(count: int) -> Sequence[range]:
    return [range(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)]


def _write(index: Index, store: Store, name: str, on_rows: OnRows) -> int:
    written, weights = 0, list[dict[int, float]]()
    for block in _blocks(len(index.chunks)):
        if _different([_row(index, number) for number in block], store, name):
            weights = weights or lexical_of(index).weights()
            rows = [_row(index, number, weights[number]) for number in block]
            store.add(name, rows)
            written += len(rows)
            _refuse_different(rows, store, name)
        on_rows(block.stop, len(index.chunks))
    return written


def _row(index: Index, number: int, weights: Mapping[int, float] | None = None) -> Row:
    """A row of the index; its vector is read out of the FAISS file."""
    chunk = index.chunks[number]
    vector = None if index.vectors is None else index.vectors.reconstruct(number)
    searched = index.documents[chunk.document][chunk.start : chunk.end]
    found_by = words(searched) if weights is not None else ()
    place = chunk.document, chunk.context_start, chunk.context_end
    return Row(number, *place, index.text(number), vector, found_by, weights)


def _different(rows: Sequence[Row], store: Store, name: str) -> list[int]:
    """Numbers of the rows that the store lacks or holds otherwise."""
    there = {row.number: row for row in store.rows(name, [row.number for row in rows])}
    return [row.number for row in rows if row.number not in there or not row.same(there[row.number])]


def _refuse_different(rows: Sequence[Row], store: Store, name: str) -> None:
    if different := _different(rows, store, name):
        value = f"{len(different)} row(s) lack or differ, the first is {different[0]}"
        raise StateError(
            f"collection {name} of {store.place}",
            value,
            "the rows of the index",
            "`slipway index push` writes them again",
        )


def _checked(index: Index, store: Store, name: str) -> float:
    """How far BM25 agrees. Raises StateError for a wrong number of rows, and for probes that find others."""
    thing, again = f"collection {name} of {store.place}", "remove it there, then push again"
    if (count := store.count(name)) != len(index.chunks):
        raise StateError(thing, f"{count} rows", f"the {len(index.chunks)} of the index", again)
    stored = through(index, store, name)
    if problems := replay(stored, ("dense",) if store.approximate_bm25 else ("bm25", "dense")):
        shown = "\n".join(problems[:5])
        raise StateError(thing, f"{len(problems)} probe(s) find other chunks:\n{shown}", "those of the index", again)
    agreement = _bm25_agreement(index, stored) if store.approximate_bm25 else 1.0
    if agreement < ALIKE:
        raise StateError(thing, f"BM25 agrees on {agreement:.3f} of the probes' top tens", f"{ALIKE} or more", again)
    return agreement


def _bm25_agreement(index: Index, stored: Index) -> float:
    """Share of the probes' top tens by BM25 that the store finds; what ties with the last of ten counts as it."""
    shares, probes = list[float](), index.about["probes"]
    for text, theirs in zip(probes, top_tens(stored, probes)["bm25"], strict=True):
        shares.append(_agreed(lexical_of(index).search(text, len(index.chunks)), {int(row) for row, _ in theirs}))
    return sum(shares) / len(shares)


def _agreed(ours: Ranked, theirs: set[int]) -> float:
    """Share of our first ten that is among theirs."""
    wanted = min(TOP, len(ours))
    if not wanted:
        return float(not theirs)
    last = ours[wanted - 1][1]
    sure = {row for row, score in ours if score > last * (1 + TIE)}
    allowed = {row for row, score in ours if score >= last * (1 - TIE)}
    wrong = max(len(sure - theirs), len(theirs - allowed), wanted - len(theirs))
    return max(wanted - wrong, 0) / wanted

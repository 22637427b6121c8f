"""Embedding and head of a merge: tied or not, and with how many rows.

A model whose head is its embedding stores one tensor for both. An adapter may change one and not the other: then the
merge has two tensors and a config that says so, as the adapted model computes it. It stays tied where both change
alike:

| the adapter holds | the merge |
|---|---|
| the embedding or the head in modules_to_save, or both and different | not tied |
| both and equal, as PEFT saves them with ensure_weight_tying, or of a resized vocabulary | tied |
| a pair on one of them, pairs that differ, or DoRA: an embedding's lengths are not a head's | not tied |
| pairs on both that are each other's transposes (ensure_weight_tying) | tied, the product added once |
| trained tokens of the embedding: PEFT ties them | tied |

PEFT's own `merge_and_unload` adds a pair on a tied head to the shared tensor, and with it to the embedding, which the
adapted model did not do; it warns of that. Tensors with more rows than the base make a larger `vocab_size`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from slipway.errors import AdapterError
from slipway.weights.adapter_config import REFIT, RETRAIN
from slipway.weights.adapter_tensors import AdapterTensors
from slipway.weights.base_names import BaseNames
from slipway.weights.updates import Dora, Product, Replacement, TokenRows, Update

_CHUNK = 1 << 24  # bytes of two tensors that are compared at a time


@dataclass(frozen=True)
class Vocabulary:
    """`updates`: those of the whole merge; `untied`: head that is a tensor of its own from now on -> the embedding it
    was; `rows`: of embedding and head, where they are not the base's; `tied`: None where nothing changes."""

    updates: dict[str, Update]
    untied: dict[str, str] = field(default_factory=dict)
    rows: int | None = None

    def changed(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The base's config as it is right for the merge."""
        changes: dict[str, Any] = {"tie_word_embeddings": False} if self.untied else {}
        nested = config.get("text_config")
        text = {**changes, **({"vocab_size": self.rows} if self.rows else {})}
        if not isinstance(nested, dict):
            return {**config, **text}
        return {**config, **changes, **({"text_config": {**nested, **text}} if text else {})}


def settle(base: BaseNames, updates: Mapping[str, Update], tensors: AdapterTensors) -> Vocabulary:
    """What becomes of embedding and head. Raises AdapterError where their rows do not fit together."""
    updates, untied, rows = dict(updates), {}, None
    for embedding, head, tied in base.vocabulary():
        stored = base.tensor(head) is not None
        if tied and (embedding in updates or head in updates):
            if shared := _shared(updates.get(embedding), updates.get(head), tensors):
                updates[embedding] = shared
                updates.pop(head, None)
                if stored:
                    updates[head] = shared
            else:
                untied[head] = embedding
        rows = _rows(base, updates, tensors, embedding, head if stored or head in untied else embedding) or rows
    return Vocabulary(updates, untied, rows)


def _shared(embedding: Update | None, head: Update | None, tensors: AdapterTensors) -> Update | None:
    """The one update that both have, None where they differ."""
    match embedding, head:
        case TokenRows(), None:
            return embedding
        case TokenRows(name=one, tokens=tokens), TokenRows(name=other, tokens=others):
            return embedding if tokens == others and equal(tensors, one, other) else None
        case Replacement(name=one), Replacement(name=other):
            return embedding if equal(tensors, one, other) else None
        case Product(), Product():
            return embedding if _are_transposes(embedding, head, tensors) else None
        case None, TokenRows(name=name):
            value = "trained tokens of a head that is the embedding"
            raise AdapterError(f"adapter tensor {name}", value, "trained tokens of the embedding", RETRAIN)
    return None


def _are_transposes(embedding: Product, head: Product, tensors: AdapterTensors) -> bool:
    if embedding.scaling != head.scaling or not embedding.embedding:
        return False
    shapes = tensors.info(embedding.b).shape[::-1], tensors.info(head.a).shape
    if shapes[0] != shapes[1] or bool(embedding.replacement) != bool(head.replacement):
        return False
    pairs = ((embedding.b, head.a), (embedding.a, head.b))
    return all(torch.equal(tensors.read(one).T, tensors.read(other)) for one, other in pairs)


def _rows(base: BaseNames, updates: Mapping[str, Update], tensors: AdapterTensors, one: str, other: str) -> int | None:
    """Rows of the two tensors, None where they are the base's."""
    counts = {name: _count(base, updates.get(name), tensors, name) for name in (one, other)}
    if counts[one] != counts[other]:
        value = f"{counts[one]} rows, and {counts[other]} in {other}"
        raise AdapterError(f"{one} of the merge", value, "as many rows in the embedding as in the head", REFIT)
    return counts[one] if counts[one] != base.base.info(one).shape[0] else None


def _count(base: BaseNames, update: Update | None, tensors: AdapterTensors, name: str) -> int:
    whole = replaced(update)
    stored = base.tensor(name) or base.tied_embedding(name) or name
    return (tensors.info(whole) if whole else base.base.info(stored)).shape[0]


def replaced(update: Update | None) -> str | None:
    """The adapter's tensor that stands for the base's own, if an update has one."""
    if isinstance(update, Replacement):
        return update.name
    if isinstance(update, Dora):
        update = update.product
    return update.replacement if isinstance(update, Product) else None


def equal(tensors: AdapterTensors, one: str, other: str) -> bool:
    """Whether two tensors of an adapter have the same bytes; read in pieces, for they may be embeddings."""
    info = tensors.info(one)
    if info != tensors.info(other):
        return False
    for start in range(0, info.nbytes, _CHUNK):
        pieces = [torch.empty(min(_CHUNK, info.nbytes - start), dtype=torch.uint8) for _ in range(2)]
        for name, piece in zip((one, other), pieces, strict=True):
            tensors.fetch(name, piece, start)
        if not torch.equal(*pieces):
            return False
    return True

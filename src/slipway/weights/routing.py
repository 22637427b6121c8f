"""Which experts a router chose for every token, recorded in one forward and replayed in another.

A router takes the k largest of its scores. Where two are near, rounding of the weights before it decides: the token
goes to another expert, and its output jumps, as do those of tokens that attend to it, though every weight is right to
its last bit. With the recorded choices in the place of its own a model computes a continuous function of its weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from slipway.errors import CheckpointError

_TOP_K = (torch.topk, torch.Tensor.topk)


class Routing(TorchFunctionMode):
    """While active, records what `topk` chooses for each of `tokens` tokens of one row; with `replayed` it puts those
    choices, made by a model of the same class, in their place, and measures how far its own scores are off."""

    def __init__(self, tokens: int, replayed: Routing | None = None) -> None:
        super().__init__()
        self._tokens, self._replayed = tokens, replayed
        self.choices: list[torch.Tensor] = []  # int64 [tokens, k] of every router, in the order of computation
        self.scores: list[torch.Tensor] = []  # [tokens, experts]
        self.changed: list[torch.Tensor] = []  # bool [tokens]: where its own choice is another than the replayed one
        self.errors: list[float] = []  # |scores - replayed scores| over the latter's spread, a number a router

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func not in _TOP_K or result.indices.numel() != self._tokens * result.indices.shape[-1]:
            return result  # scores of groups, a sampler: not one choice for each token
        given = args[0] if args else kwargs["input"]
        own, scores = result.indices.reshape(self._tokens, -1), given.reshape(self._tokens, -1)
        if self._replayed is None:
            self.choices.append(own)
            self.scores.append(scores.detach().clone())
            return result
        router = len(self.changed)
        if router >= len(self._replayed.choices) or self._replayed.scores[router].shape != scores.shape:
            raise CheckpointError(
                f"merge proof: router {router}",
                f"scores {list(scores.shape)}, which base + adapter did not compute there",
                "the same routers in both",
                "report this with the versions of torch, transformers and peft",
            )
        chosen = self._replayed.choices[router]
        self.changed.append((own.sort(-1).values != chosen.sort(-1).values).any(-1))
        self.errors.append(_error(self._replayed.scores[router], scores))
        chosen = chosen.reshape(result.indices.shape)
        return torch.return_types.topk((given.gather(-1, chosen), chosen))


def _error(expected: torch.Tensor, actual: torch.Tensor) -> float:
    """|actual - expected| / |expected - mean of each token's|, over the finite scores [tokens, experts]."""
    finite = expected.isfinite() & actual.isfinite()
    expected, actual = expected.where(finite, 0.0).double(), actual.where(finite, 0.0).double()
    mean = expected.sum(-1, keepdim=True) / finite.sum(-1, keepdim=True).clamp(min=1)
    spread = (expected - mean).where(finite, 0.0).norm()
    return float((actual - expected).norm() / spread) if spread > 0 else 0.0

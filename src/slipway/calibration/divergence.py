"""How far one stream of hidden states has moved from another, measured at the logits.

    KL(p || q) = sum_v p_v (log p_v - log q_v)      p of the reference, q of the other; mean over predictions, in nats
    perplexity = exp(mean of -log p(next token))

A row of T tokens makes T - 1 predictions. Softmax in fp32, sums in fp64. A few positions at a time: logits of 128k
tokens are 0.5 MB a position in fp32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from slipway.calibration.layer_walk import Head, HiddenStates

_BYTES = 1 << 28  # of fp32 logits of one stream made at a time; about five times that is held


@dataclass(frozen=True)
class Divergence:
    """`agreement` is the share of predictions whose most likely token is the same."""

    predictions: int
    kl: float
    reference_perplexity: float
    perplexity: float
    agreement: float


def divergence(head: Head, reference: HiddenStates, other: HiddenStates, tokens: torch.Tensor) -> Divergence:
    """Compare two streams after the last layer. `tokens` int64 [N, T] are those that both were embedded from."""
    sums, rows = torch.zeros(4, dtype=torch.float64), 0
    for a, b in zip(reference.values, other.values, strict=True):
        following = tokens[rows : rows + len(a), 1:]
        step = max(1, _BYTES // (4 * len(a) * head(a[:1, :1]).shape[-1]))
        for start in range(0, following.shape[1], step):
            part = slice(start, min(start + step, following.shape[1]))
            sums += _sums(head(a[:, part]), head(b[:, part]), following[:, part]).cpu()
        rows += len(a)
    count = rows * (tokens.shape[1] - 1)
    kl, surprise, other_surprise, agreed = (sums / count).tolist()
    return Divergence(count, kl, math.exp(surprise), math.exp(other_surprise), agreed)


def _sums(a: torch.Tensor, b: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Logits [rows, positions, vocabulary] -> sums of KL, of both surprises, and of equal choices: fp64 [4]."""
    p, q, index = a.float().log_softmax(-1), b.float().log_softmax(-1), following.to(a.device)[..., None]
    terms = ((p.exp() * (p - q)).sum(-1), -p.gather(-1, index), -q.gather(-1, index), p.argmax(-1) == q.argmax(-1))
    return torch.stack([term.sum(dtype=torch.float64) for term in terms])

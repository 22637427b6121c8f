"""What two models think of a reference answer, from their hidden states after the last layer.

For the answer's tokens y_1 ... y_n after everything before them (teacher forcing), p of the reference model, q of the
other:

    log-likelihood   sum_t log p(y_t | y_<t)                             nats; divided by n: nats a token
    KL(p || q)       mean_t sum_v p_v (log p_v - log q_v)                nats; 0 when both predict alike
    agreement        share of t where argmax p = argmax q                greedy choices, each after the reference tokens

Logits of a chunk of positions exist at a time and never a tensor of rows x length x vocabulary: hidden states of the
answers' positions alone are gathered, and `CHUNK_BYTES` of fp32 logits of each model are made of them. Softmax in fp32,
sums over tokens in fp64. A model's head is called alone: two heads of 128k x 8192 need not be in modules at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from slipway.calibration.answers import Answer, Batch
from slipway.calibration.layer_walk import Head, HiddenStates

CHUNK_BYTES = 1 << 26  # of fp32 logits of one model; some five times that is held

OpenHead = Callable[[], AbstractContextManager[Head]]


@dataclass(frozen=True)
class AnswerScore:
    """Of one answer: its tokens, its log-likelihood under both models (sums, nats), KL and agreement (means a
    token)."""

    id: str
    tokens: int
    reference: float
    other: float
    kl: float
    agreement: float


def score_batch(
    batch: Batch, states: tuple[torch.Tensor, torch.Tensor], heads: tuple[OpenHead, OpenHead], vocabulary: int
) -> list[AnswerScore]:
    """Scores of the answers of one micro-batch, in its order. `states`: hidden states [rows, T, H] of both models."""
    return _by_answer(batch.answers, token_terms(batch, states, heads, vocabulary))


def token_terms(
    batch: Batch, states: tuple[torch.Tensor, torch.Tensor], heads: tuple[OpenHead, OpenHead], vocabulary: int
) -> torch.Tensor:
    """Of every token of the answers of one micro-batch, one answer after another: fp64 [5, tokens] of its
    log-probability under both models, KL, agreement of the models, and whether it is the second one's own choice."""
    where = [(row, at - 1) for row, one in enumerate(batch.answers) for at in range(one.start, len(one.tokens))]
    following = torch.tensor([token for one in batch.answers for token in one.tokens[one.start :]])
    rows, columns = torch.tensor(where).T
    step, parts = max(1, CHUNK_BYTES // (4 * vocabulary)), []
    for begin in range(0, len(where), step):
        part = slice(begin, begin + step)
        p, q = (
            _log_probabilities(open_head, hidden[rows[part].to(hidden.device), columns[part].to(hidden.device)])
            for open_head, hidden in zip(heads, states, strict=True)
        )
        parts.append(_terms(p, q, following[part]).cpu())
    return torch.cat(parts, 1)


def score(
    batches: Sequence[Batch],
    reference: HiddenStates,
    other: HiddenStates,
    heads: tuple[OpenHead, OpenHead],
    vocabulary: int,
) -> list[AnswerScore]:
    """Scores of every answer of `batches`, whose hidden states the two streams hold in the same order."""
    scores: list[AnswerScore] = []
    for batch, *states in zip(batches, reference.values, other.values, strict=True):
        scores += score_batch(batch, (states[0], states[1]), heads, vocabulary)
    return scores


def _log_probabilities(open_head: OpenHead, hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states [P, H] -> fp32 log-probabilities [P, vocabulary]."""
    with open_head() as head:
        return head(hidden[None])[0].float().log_softmax(-1)


def _terms(p: torch.Tensor, q: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [P, vocabulary] and tokens [P] -> fp64 [5, P]: log p and log q of the token, KL, agreement, and
    whether the token is q's own choice."""
    index = following.to(p.device)[:, None]
    choices, chosen = p.argmax(-1) == q.argmax(-1), q.argmax(-1) == index[:, 0]
    terms = (p.gather(-1, index)[:, 0], q.gather(-1, index)[:, 0], (p.exp() * (p - q)).sum(-1), choices, chosen)
    return torch.stack([term.double() for term in terms])


def _by_answer(answers: Sequence[Answer], terms: torch.Tensor) -> list[AnswerScore]:
    """Terms fp64 [5, P] of all answers one after another -> a score an answer."""
    sizes = [len(answer.tokens) - answer.start for answer in answers]
    scores = []
    for answer, part in zip(answers, torch.split(terms, sizes, 1), strict=True):
        sums, means = part.sum(1).tolist(), part.mean(1).tolist()
        scores.append(AnswerScore(answer.id, part.shape[1], sums[0], sums[1], means[2], means[3]))
    return scores

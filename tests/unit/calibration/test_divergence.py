"""Divergence of two streams, against the definition on whole logits."""

import math

import pytest
import torch
from torch.nn import functional

from slipway.calibration import divergence as module
from slipway.calibration.divergence import divergence
from slipway.calibration.layer_walk import HiddenStates

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn((32, 8), generator=GENERATOR)
TOKENS = torch.randint(0, 32, (3, 6), generator=GENERATOR)
HIDDEN = torch.randn((3, 6, 8), generator=GENERATOR)


def head(hidden):
    return functional.linear(hidden, WEIGHT)


def states(hidden):
    return HiddenStates(list(hidden.split(2)), [])


# Log-probabilities of size L have an fp32 error of about L * 2^-24 each; a mean of p (log p - log q) carries it in
# absolute terms, whatever the size of the mean itself, and so does the logarithm of a perplexity. Here L < 32, and a
# logit is a sum of 8 products whose order differs by processor and number of rows.
ERROR = 32 * 8 * 2.0**-24


def test_definition(monkeypatch):
    other = HIDDEN + 0.1 * torch.randn(HIDDEN.shape, generator=GENERATOR)
    a, b, following = (
        t[:, :-1].flatten(0, 1) if t.dim() == 3 else t[:, 1:].flatten() for t in (head(HIDDEN), head(other), TOKENS)
    )
    kl = functional.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="batchmean").item()
    whole = divergence(head, states(HIDDEN), states(other), TOKENS)
    assert whole.predictions == 15 and 0 < whole.agreement == (a.argmax(-1) == b.argmax(-1)).float().mean() < 1
    assert whole.kl == pytest.approx(kl, abs=ERROR) and whole.kl > 0.01
    assert whole.reference_perplexity == pytest.approx(
        math.exp(functional.cross_entropy(a, following).item()), rel=ERROR
    )
    assert whole.perplexity == pytest.approx(math.exp(functional.cross_entropy(b, following).item()), rel=ERROR)
    monkeypatch.setattr(module, "_BYTES", 4 * 32 * 2 * 2)  # two positions at a time
    parts = divergence(head, states(HIDDEN), states(other), TOKENS)
    assert parts.kl == pytest.approx(whole.kl, abs=ERROR) and parts.perplexity == pytest.approx(
        whole.perplexity, rel=ERROR
    )


def test_a_stream_does_not_diverge_from_itself():
    result = divergence(head, states(HIDDEN), states(HIDDEN), TOKENS)
    assert result.kl == 0 and result.agreement == 1 and result.perplexity == result.reference_perplexity

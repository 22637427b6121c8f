"""Scores of answers, against their definition on whole logits."""

from contextlib import contextmanager

import pytest
import torch
from torch.nn import functional

from slipway.calibration import answer_scores
from slipway.calibration.answer_scores import score
from slipway.calibration.answers import Answer, batches
from slipway.calibration.layer_walk import HiddenStates

VOCABULARY, HIDDEN = 37, 8
DRAW = torch.Generator().manual_seed(0)
WEIGHTS = [torch.randn(VOCABULARY, HIDDEN, generator=DRAW) for _ in range(2)]
ROWS = [Answer(f"r{i}", tuple(range(1, n + 1)), start) for i, (n, start) in enumerate([(9, 2), (20, 19), (6, 1)])]


class Heads:
    """Two heads that count the positions of each call."""

    def __init__(self):
        self.positions = []

    def open(self, weight):
        @contextmanager
        def opened():
            def head(hidden):
                self.positions.append(hidden.shape[1])
                return functional.linear(hidden, weight)

            yield head

        return opened


def scored(monkeypatch, positions, weights=WEIGHTS):
    monkeypatch.setattr(answer_scores, "CHUNK_BYTES", 4 * VOCABULARY * positions)
    made = batches(ROWS, 40, by_length=False)
    values = [
        [torch.randn(*batch.tokens.shape, HIDDEN, generator=torch.Generator().manual_seed(s)) for batch in made]
        for s in (1, 2 if weights is WEIGHTS else 1)
    ]
    heads = Heads()
    pair = tuple(heads.open(weight) for weight in weights)
    streams = [HiddenStates(value, []) for value in values]
    return made, values, heads, score(made, *streams, pair, VOCABULARY)


def test_definition_whatever_the_chunk(monkeypatch):
    for positions in (1, 4, 1000):
        made, values, heads, scores = scored(monkeypatch, positions)
        assert max(heads.positions) <= positions
        by_id = {one.id: one for one in scores}
        assert sorted(by_id) == ["r0", "r1", "r2"]
        for at, batch in enumerate(made):
            for line, row in enumerate(batch.answers):
                span = slice(row.start - 1, len(row.tokens) - 1)
                p, q = (
                    functional.linear(value[at][line, span], weight).double().log_softmax(-1)
                    for value, weight in zip(values, WEIGHTS, strict=True)
                )
                follow = torch.tensor(row.tokens[row.start :])[:, None]
                one = by_id[row.id]
                assert one.tokens == len(follow)
                assert one.reference == pytest.approx(p.gather(1, follow).sum().item(), rel=1e-5)
                assert one.other == pytest.approx(q.gather(1, follow).sum().item(), rel=1e-5)
                assert one.kl == pytest.approx(
                    functional.kl_div(q, p, reduction="batchmean", log_target=True).item(), rel=1e-4
                )
                assert one.agreement == (p.argmax(-1) == q.argmax(-1)).double().mean().item()


def test_a_model_against_itself_differs_in_nothing(monkeypatch):
    *_, scores = scored(monkeypatch, 4, [WEIGHTS[0]] * 2)
    assert [(one.kl, one.agreement, one.other - one.reference) for one in scores] == [(0.0, 1.0, 0.0)] * 3

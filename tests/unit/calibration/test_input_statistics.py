"""What calibration keeps of a layer: maxima over what shares an input, second moments by weight, inputs on request."""

import pytest
import torch

from slipway.calibration.input_statistics import InputStatistics

Q, K, OUT = (f"l.self_attn.{m}_proj.weight" for m in "qko")
EXPERTS = [f"l.mlp.experts.{i}.{m}_proj.weight" for i in range(2) for m in ("gate", "up", "down")]


def test_maxima_are_over_everything_that_shares_an_input():
    statistics = InputStatistics([Q, K, OUT])
    statistics.linear((Q,), torch.tensor([[1.0, -3.0]]), None)
    statistics.linear((K,), torch.tensor([[2.0, 0.0]], dtype=torch.bfloat16), None)
    statistics.linear((OUT,), torch.tensor([[0.5, 0.25]]), None)
    assert float(statistics.amax(Q)) == float(statistics.amax(K)) == 3 and float(statistics.amax(OUT)) == 0.5
    assert statistics.amax(Q).dtype == torch.float32 and statistics.amax(Q).shape == ()


def test_all_experts_share_the_maximum_of_a_projection():
    statistics = InputStatistics(EXPERTS)
    statistics.linear((EXPERTS[0], EXPERTS[1]), torch.tensor([[4.0]]), 0)
    statistics.linear((EXPERTS[3], EXPERTS[4]), torch.zeros(0, 1), 1)
    statistics.linear((EXPERTS[5],), torch.tensor([[-2.0]]), 1)
    assert (
        float(statistics.amax(EXPERTS[3])) == float(statistics.amax(EXPERTS[4])) == 4
        and float(statistics.amax(EXPERTS[2])) == 2
    )
    assert statistics.importance([EXPERTS[3]]) is None and statistics.importance([EXPERTS[0]]).tolist() == [16]


def test_importance_is_the_mean_square_over_all_tokens_of_all_batches():
    statistics, batches = (
        InputStatistics([Q, K]),
        [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (2, 5)],
    )
    for x in batches:
        statistics.linear((Q,), x, None)
        statistics.linear((K,), x, None)
    assert torch.allclose(statistics.importance([Q, K]), torch.cat(batches).square().mean(0), rtol=1e-6)
    assert statistics.importance([OUT]) is None


def test_keys_and_values_and_what_was_never_statistics():
    statistics = InputStatistics([Q])
    statistics.attention(None, torch.tensor([1.0, -7.0]), torch.tensor([0.5]))
    statistics.attention(None, torch.tensor([2.0]), torch.tensor([-0.75], dtype=torch.bfloat16))
    assert (float(statistics.keys), float(statistics.values)) == (7, 0.75)
    assert statistics.amax(Q) is None and statistics.amax("l.other.weight") is None


@pytest.mark.parametrize("keep, expected", [(frozenset(), []), (frozenset([Q]), [Q])])
def test_inputs_are_kept_only_when_asked(keep, expected):
    statistics = InputStatistics([Q, K], keep)
    x = torch.ones(2, 3)
    statistics.linear((Q,), x, None)
    statistics.linear((K,), x, None)
    assert list(statistics.inputs) == expected and all(statistics.inputs[name] is x for name in expected)

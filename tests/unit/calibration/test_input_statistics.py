"""What calibration keeps of a layer: maxima over what shares an input, second moments by weight, inputs on request."""

import pytest
import torch

from slipway.calibration.input_statistics import LayerInputs

Q, K, OUT = (f"l.self_attn.{m}_proj.weight" for m in "qko")
EXPERTS = [f"l.mlp.experts.{i}.{m}_proj.weight" for i in range(2) for m in ("gate", "up", "down")]


def test_maxima_are_over_everything_that_shares_an_input():
    seen = LayerInputs([Q, K, OUT])
    seen.linear((Q,), torch.tensor([[1.0, -3.0]]), None)
    seen.linear((K,), torch.tensor([[2.0, 0.0]], dtype=torch.bfloat16), None)
    seen.linear((OUT,), torch.tensor([[0.5, 0.25]]), None)
    assert float(seen.amax(Q)) == float(seen.amax(K)) == 3 and float(seen.amax(OUT)) == 0.5
    assert seen.amax(Q).dtype == torch.float32 and seen.amax(Q).shape == ()


def test_all_experts_share_the_maximum_of_a_projection():
    seen = LayerInputs(EXPERTS)
    seen.linear((EXPERTS[0], EXPERTS[1]), torch.tensor([[4.0]]), 0)
    seen.linear((EXPERTS[3], EXPERTS[4]), torch.zeros(0, 1), 1)
    seen.linear((EXPERTS[5],), torch.tensor([[-2.0]]), 1)
    assert float(seen.amax(EXPERTS[3])) == float(seen.amax(EXPERTS[4])) == 4 and float(seen.amax(EXPERTS[2])) == 2
    assert seen.importance([EXPERTS[3]]) is None and seen.importance([EXPERTS[0]]).tolist() == [16]


def test_importance_is_the_mean_square_over_all_tokens_of_all_batches():
    seen, batches = LayerInputs([Q, K]), [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (2, 5)]
    for x in batches:
        seen.linear((Q,), x, None)
        seen.linear((K,), x, None)
    assert torch.allclose(seen.importance([Q, K]), torch.cat(batches).square().mean(0), rtol=1e-6)
    assert seen.importance([OUT]) is None


def test_keys_and_values_and_what_was_never_seen():
    seen = LayerInputs([Q])
    seen.attention(None, torch.tensor([1.0, -7.0]), torch.tensor([0.5]))
    seen.attention(None, torch.tensor([2.0]), torch.tensor([-0.75], dtype=torch.bfloat16))
    assert (float(seen.keys), float(seen.values)) == (7, 0.75)
    assert seen.amax(Q) is None and seen.amax("l.other.weight") is None


@pytest.mark.parametrize("keep, kept", [(frozenset(), []), (frozenset([Q]), [Q])])
def test_inputs_are_kept_only_when_asked(keep, kept):
    seen = LayerInputs([Q, K], keep)
    x = torch.ones(2, 3)
    seen.linear((Q,), x, None)
    seen.linear((K,), x, None)
    assert list(seen.kept) == kept and all(seen.kept[name] is x for name in kept)

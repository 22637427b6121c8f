"""Block-scale search: never worse than the rule it starts from, and as good as trying every scale there is."""

import pytest
import torch

from slipway.quantization import fp4
from slipway.quantization.scale_search import search

G = torch.tensor(2.0**-9)
EVERY_SCALE = torch.arange(1, 0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float()  # 2^-9 to 448


def weights(rows=24, columns=64, seed=0):
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=random) / 8).to(torch.bfloat16)


def curvature(columns=64, seed=1):
    """Diagonal blocks [I/16, 16, 16] of H for inputs that are correlated and of unequal size."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(200, columns, generator=random) @ torch.randn(columns, columns, generator=random)
    x *= torch.logspace(-1, 1, columns)
    return torch.stack([x[:, i : i + 16].T @ x[:, i : i + 16] for i in range(0, columns, 16)]) / 200


def errors(weight, scales, metric):
    """e^T M e of every block, float64, by the table of E2M1 values alone."""
    unit = (scales.double() * G.double()).repeat_interleave(16, 1)
    table = torch.tensor([*fp4.E2M1, *(-v for v in fp4.E2M1)], dtype=torch.float64)
    distance = ((weight.double() / unit).unsqueeze(-1) - table).abs()
    e = (weight.double() - table[distance.argmin(-1)] * unit).reshape(len(weight), -1, 16)
    return torch.einsum("obi,bij,obj->ob", e, metric.double(), e)


@pytest.mark.parametrize("kind", ["plain", "diagonal", "blocks"])
def test_as_good_as_trying_every_scale(kind):
    weight, blocks = weights(), curvature()
    diagonal = blocks.diagonal(dim1=1, dim2=2).flatten()
    importance = {"plain": None, "diagonal": diagonal, "blocks": blocks}[kind]
    metric = {
        "plain": torch.eye(16).expand(4, 16, 16),
        "diagonal": torch.diag_embed(diagonal.reshape(4, 16)),
        "blocks": blocks,
    }[kind]
    actual = errors(weight, search(weight, G, importance), metric)
    every = torch.stack([errors(weight, s.expand(24, 4), metric) for s in EVERY_SCALE])
    rule = errors(weight, fp4.block_scales(weight, G), metric)
    assert (actual <= rule * (1 + 1e-5)).all() and actual.sum() < 0.9 * rule.sum()
    if kind == "plain":
        assert torch.allclose(actual, every.amin(0), rtol=1e-4, atol=0)
    else:  # a few blocks of very unequal inputs would take a scale still further away
        assert ((actual - every.amin(0)) <= 1e-4 * actual).double().mean() > 0.9 and actual.sum() < 1.02 * every.amin(
            0
        ).sum()


def test_a_block_whose_largest_value_belongs_on_four():
    row = torch.tensor(
        [4.0, 3, 3, 3, 3, 3, 3, 3, -3, -3, -3, -3, 2, 2, 1, 0.5]
    )  # exact when s * g = 1, not when it is 4/6
    weight = (row * 64 * G).to(torch.bfloat16).unsqueeze(0)
    s = search(weight, G)
    assert s.float().item() == 64 and fp4.block_scales(weight, G).float().item() == 44
    assert torch.equal(fp4.dequantize(fp4.round_to(weight, s, G), s, G), weight.float())


def test_importance_decides_which_value_is_clipped():
    row = torch.full((1, 16), 1.0)
    row[0, 0] = 7.5
    weight, small, large = (row * 64 * G).to(torch.bfloat16), torch.ones(16), torch.ones(16)
    small[0], large[0] = 1e-6, 1e6

    def values(importance):
        s = search(weight, G, importance)
        return fp4.dequantize(fp4.round_to(weight, s, G), s, G)[0] / (64 * G)

    assert (values(small)[1:] == 1).all()  # s at the ones' service
    assert abs(values(large)[0] - 7.5) < 0.3 < abs(values(small)[0] - 7.5)


def test_ties_keep_the_scale_of_the_rule_and_zeros_have_one():
    weight = torch.zeros(2, 32, dtype=torch.bfloat16)
    weight[0, 0] = 6 * 64 * G  # alone in its block: many scales are exact
    assert search(weight, G).float().tolist() == [[64, 1], [1, 1]]
    assert (search(torch.zeros_like(weight), torch.tensor(0.0)).float() == 1).all()


def test_rows_are_independent_and_the_bytes_repeat():
    weight, blocks = weights(), curvature()
    whole = search(weight, G, blocks).view(torch.uint8)
    bands = torch.cat([search(rows, G, blocks).view(torch.uint8) for rows in weight.split(5)])
    assert torch.equal(whole, bands) and torch.equal(whole, search(weight, G, blocks).view(torch.uint8))

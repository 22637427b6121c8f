"""Each kind of change by hand, on small tensors: what comes out, and whether it changes anything."""

import pytest
import torch

from slipway.weights.computed import InMemory
from slipway.weights.rounded_merge import merge
from slipway.weights.shards import LowRank, MergeRecipe
from slipway.weights.updates import BiasSum, Dora, Product, Replacement, Stacked, TokenRows, _column_norms

RANDOM = torch.Generator().manual_seed(2)
E, R, I, O = 3, 2, 4, 6  # noqa: E741 - experts, rank, inputs, outputs


def draw(*shape):
    return torch.randn(shape, generator=RANDOM)


BASE = {"w": draw(O, I), "turned": draw(I, O), "bias": draw(O), "experts": draw(E, O, I), "inputs": draw(E, I, O)}
ADAPTER = {
    "a": draw(R, I), "b": draw(O, R), "zero": torch.zeros(O, R), "whole": draw(O, I), "rows": draw(2, I),
    "added": draw(O), "none": torch.zeros(O), "length": draw(O).abs() + 1, "as": draw(E * R, I), "bs": draw(O, R * E),
    "embed_a": draw(R, O), "embed_b": draw(I, R),
}  # fmt: skip
base, tensors = InMemory(BASE, "base"), InMemory(ADAPTER, "adapter")


def made(update, name="w"):
    """The new tensor in bf16."""
    recipe = update.recipe(MergeRecipe(base, name, ()), tensors)
    weight = recipe.stored.read(recipe.name)
    for product in recipe.updates:
        weight = merge(weight, product)
    return weight.to(torch.bfloat16)


def test_a_product_is_added_as_the_base_stores_its_weight():
    a, b = ADAPTER["a"], ADAPTER["b"]
    assert torch.equal(made(Product("m", "a", "b", 0.5)), merge(BASE["w"], LowRank(a, b, 0.5)))
    turned = made(Product("m", "a", "b", 0.5, turned=True), "turned")
    assert torch.equal(turned, merge(BASE["turned"].T.contiguous(), LowRank(a, b, 0.5)).T)


def test_a_product_on_an_embedding_has_a_row_for_every_token():
    expected = BASE["w"].double() + 0.5 * (ADAPTER["embed_b"].double() @ ADAPTER["embed_a"].double()).T
    update = Product("m", "embed_a", "embed_b", 0.5, embedding=True)
    assert torch.equal(made(update), expected.to(torch.bfloat16))


def test_a_product_on_a_replacement_starts_from_that():
    expected = merge(ADAPTER["whole"], LowRank(ADAPTER["a"], ADAPTER["b"], 0.5))
    assert torch.equal(made(Product("m", "a", "b", 0.5, replacement="whole")), expected)
    assert torch.equal(made(Replacement("whole")), ADAPTER["whole"].to(torch.bfloat16))


def expert_delta(expert):
    """PEFT's: A reshaped to [E, r, I], B to [O, r, E] (ParamWrapper.get_delta_weight)."""
    a, b = ADAPTER["as"].reshape(E, R, I).double(), ADAPTER["bs"].reshape(O, R, E).double()
    return 0.5 * torch.einsum("ore,eri->eoi", b, a)[expert]


def test_every_expert_gets_its_own_product():
    stacked = made(Stacked("m", "as", "bs", 0.5, E, turned=False), "experts")
    turned = made(Stacked("m", "as", "bs", 0.5, E, turned=True), "inputs")
    for e in range(E):
        assert torch.equal(stacked[e], (BASE["experts"][e].double() + expert_delta(e)).to(torch.bfloat16))
        assert torch.equal(turned[e], (BASE["inputs"][e].double() + expert_delta(e).T).to(torch.bfloat16))


def test_an_expert_that_is_stored_apart_gets_its_rows_of_the_stacked_product():
    half = {"half": BASE["w"][:3]}
    update = Product("m", "as", "bs", 0.5, experts=E, expert=2, rows=(3, 6))
    recipe = update.recipe(MergeRecipe(InMemory(half, "base"), "half", ()), tensors)
    expected = (half["half"].double() + expert_delta(2)[3:6]).to(torch.bfloat16)
    assert torch.equal(merge(recipe.stored.read("half"), recipe.updates[0]), expected)


def test_rows_of_tokens_are_put_over_the_base_in_their_order():
    expected = BASE["w"].to(torch.bfloat16)
    expected[4], expected[1] = ADAPTER["rows"].to(torch.bfloat16)
    assert torch.equal(made(TokenRows("rows", (4, 1))), expected)


def test_a_bias_gets_the_scaled_bias_of_lora_b():
    expected = (BASE["bias"].double() + 0.5 * ADAPTER["added"].double()).to(torch.bfloat16)
    assert torch.equal(made(BiasSum("added", 0.5), "bias"), expected)


@pytest.mark.parametrize("turned", [False, True])
def test_dora_gives_every_output_its_length(turned):
    delta = 0.5 * ADAPTER["b"].double() @ ADAPTER["a"].double()
    moved = (BASE["turned"].T if turned else BASE["w"]).double() + delta
    expected = ADAPTER["length"].double()[:, None] * moved / moved.norm(dim=1, keepdim=True)
    result = made(Dora(Product("m", "a", "b", 0.5, turned=turned), "length"), "turned" if turned else "w")
    assert torch.equal(result.T if turned else result, expected.to(torch.bfloat16))


def test_norms_of_columns_do_not_depend_on_the_blocks_that_are_read():
    weight = torch.randn(13, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for step in (1, 5, 13, 40):
        norms = _column_norms(lambda begin, end: weight[begin:end], 13, step)
        torch.testing.assert_close(norms, weight.norm(dim=0), rtol=1e-12, atol=0)


def test_what_multiplies_to_zero_changes_nothing():
    assert Product("m", "a", "b", 0.5).changes(tensors) and not Product("m", "a", "zero", 0.5).changes(tensors)
    assert not Product("m", "a", "b", 0.0).changes(tensors) and not BiasSum("none", 0.5).changes(tensors)
    assert not Stacked("m", "as", "bs", 0.0, E, turned=False).changes(tensors)
    for update in (Replacement("whole"), TokenRows("rows", (4, 1)), BiasSum("added", 1.0)):
        assert update.changes(tensors)
    assert Dora(Product("m", "a", "zero", 1.0), "length").changes(tensors)


def test_an_expert_with_a_factor_of_zeros_is_unchanged():
    a, b = ADAPTER["as"].clone(), ADAPTER["bs"].clone()
    a[R : 2 * R], b[:, 2::E] = 0, 0
    kept = InMemory({"a": a, "b": b}, "adapter")
    assert Stacked("m", "a", "b", 0.5, E, turned=False).unchanged(kept) == [1, 2]
    assert Stacked("m", "as", "bs", 0.5, E, turned=False).unchanged(tensors) == []
    assert Stacked("m", "as", "bs", 0.0, E, turned=False).unchanged(tensors) == [0, 1, 2]


def test_parts_are_the_adapters_tensors():
    assert Product("m", "a", "b", 1.0, replacement="whole").parts == ("a", "b", "whole")
    assert Dora(Product("m", "a", "b", 1.0), "length").parts == ("a", "b", "length")
    assert (Stacked("m", "as", "bs", 1.0, E, turned=True).parts, TokenRows("rows", ()).parts) == (
        ("as", "bs"),
        ("rows",),
    )

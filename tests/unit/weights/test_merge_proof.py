"""The proof of a merge: it passes for ours, fails for others by name, and its figures are right by hand."""

from types import SimpleNamespace

import pytest
import torch

from slipway.errors import CheckpointError
from slipway.weights import merge_proof
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import Shards, TensorInfo
from tests.support.pico import pico_adapter, pico_model

Q0 = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("model") / "base", shards=3)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return pico_adapter(tmp_path_factory.mktemp("model") / "adapter")


def test_our_merge_passes_with_the_share_that_really_differs(base, adapter):
    source, lora = Shards.open(base), LoraAdapter(adapter)
    merged = MergedSource(source, lora)
    shares = merge_proof.prove_layers(source, merged, lora, 5)
    assert list(shares) == merge_proof.sample(list(merged.updates), 5) and len(shares) == 5
    theirs = merge_proof.peft_merge(source, merged, lora, list(shares))
    for name, share in shares.items():
        assert share == float((merged.read(name) != theirs[name]).double().mean()) < 1e-3


def test_pefts_merge_is_the_definitions_and_leaves_the_base_alone(base, adapter):
    source, lora = Shards.open(base), LoraAdapter(adapter)
    before, merged = source.read(Q0), MergedSource(source, lora)
    actual = merge_proof.peft_merge(source, merged, lora, [Q0])
    a, b = (lora.read(f"base_model.model.{Q0.removesuffix('.weight')}.lora_{side}.weight").double() for side in "AB")
    expected = (before.double() + 8 / 4 * b @ a).to(torch.bfloat16)  # alpha / rank
    assert set(actual) == {Q0} and actual[Q0].dtype == torch.bfloat16
    assert (merge_proof.bf16_steps(actual[Q0], expected) <= 1).all() and (actual[Q0] != expected).sum() <= 8
    assert not torch.equal(actual[Q0], before) and torch.equal(source.read(Q0), before)


class Unmerged(MergedSource):
    """The base as it is, passed off as the merge."""

    def read(self, name):
        return self._base.read(name)


class Changed(MergedSource):
    """The merge, with the first `count` elements of every updated tensor moved by `steps` bf16 values."""

    count, steps = 0, 0

    def read(self, name):
        weight = super().read(name)
        if name in self.updates:
            raw = weight.view(torch.int16).reshape(-1)
            raw[: self.count] += self.steps
        return weight


@pytest.mark.parametrize(
    "count, steps, message",  # PEFT's own sum puts a few values more or less on another side, by the machine's BLAS
    [
        (1, 40, r"\d of 8192 .*, 1 of them by more than one bf16 step"),
        (100, 1, r"(9\d|10\d) of 8192 .*, \d of them by more"),
    ],
)
def test_one_value_far_away_or_many_by_one_step_are_refused(base, adapter, count, steps, message):
    source, lora = Shards.open(base), LoraAdapter(adapter)
    merged = Changed(source, lora)
    merged.count, merged.steps = count, steps
    first = next(iter(merged.updates))
    assert source.info(first).numel == 8192
    with pytest.raises(
        CheckpointError, match=rf"merge proof of {first}: {message}.*expected at most 0\.1%, each by one"
    ):
        merge_proof.prove_layers(source, merged, lora, 1)


def test_steps_count_bf16_values_across_zero_and_binades():
    one = torch.tensor([1.0, 0.0, -0.0, 2.0**-133, 1.0, -3.0], dtype=torch.bfloat16)
    other = torch.tensor([1.0078125, -0.0, 2.0**-133, -(2.0**-133), 0.99609375, 3.0], dtype=torch.bfloat16)
    # 3.0 is 0x4040 = 16448 values above zero
    assert merge_proof.bf16_steps(one, other).tolist() == [1, 0, 1, 2, 1, 2 * 0x4040]
    assert merge_proof.bf16_steps(other, one).tolist() == [1, 0, 1, 2, 1, 2 * 0x4040]


def test_logits_of_the_merge_are_those_of_base_and_adapter(base, adapter):
    merged = MergedSource(Shards.open(base), LoraAdapter(adapter))
    figures = merge_proof.prove_logits(base, adapter, merged, 12)
    assert figures["tokens"] == 12 and 0 < figures["mean_abs"] < 0.05 and figures["kl"] < 1e-3
    unmerged = merge_proof.prove_logits(base, adapter, Unmerged(Shards.open(base), LoraAdapter(adapter)), 12)
    assert unmerged["mean_abs"] > 10 * figures["mean_abs"]
    assert merge_proof.prove_logits(base, adapter, merged, 12) == figures  # the tokens are fixed


def test_the_proof_fails_on_another_merge(base, adapter):
    class Doubled(MergedSource):
        def read(self, name):
            return super().read(name) * 2

    source, lora = Shards.open(base), LoraAdapter(adapter)
    with pytest.raises(CheckpointError, match=r"merge proof of .*values differ from PEFT's merge"):
        merge_proof.prove_layers(source, Doubled(source, lora), lora, 1)
    assert merge_proof.prove_logits(base, adapter, Doubled(source, lora), 8)["mean_abs"] > 0.35


def test_sampling_is_even():
    names = [str(i) for i in range(10)]
    assert merge_proof.sample(names, 3) == ["0", "4", "9"]
    assert merge_proof.sample(names, 1) == ["0"]
    assert merge_proof.sample(names[:2], 3) == ["0", "1"]


def test_compare_by_hand():
    want, got = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, torch.log(torch.tensor(3.0))]])
    figures = merge_proof.compare(want, got)  # p = (1/2, 1/2), q = (1/4, 3/4)
    assert figures["kl"] == pytest.approx(
        0.5 * (torch.log(torch.tensor(2.0)) + torch.log(torch.tensor(2 / 3))).item(), abs=1e-6
    )
    assert figures["max_abs"] == pytest.approx(1.0986, abs=1e-4) and figures["top1_agreement"] == 0.0


def test_equal_logits_differ_in_nothing():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert merge_proof.compare(logits, logits) == {
        "mean_abs": 0.0,
        "max_abs": 0.0,
        "kl": 0.0,
        "top1_agreement": 1.0,
        "tokens": 5.0,
    }


@pytest.mark.parametrize(
    "parameters, free, virtual, reason",
    [
        (1_000_000_000, 6_000_000_000, False, None),
        (1_000_000_000, 5_999_999_999, False, "needs 6.0 GB of memory, 6.0 GB are free"),
        (2_000_000_000, 4e9, False, "needs 12.0 GB of memory, 4.0 GB are free"),
        (3_100_000_000, 1e12, False, "3.1B parameters, more than 3B"),
        (3_100_000_000, 0, True, "the base is itself virtual"),
    ],
)
def test_why_logits_are_not_compared(monkeypatch, parameters, free, virtual, reason):
    monkeypatch.setattr(merge_proof.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    halves = TensorInfo(torch.bfloat16, (parameters // 2,))
    source = SimpleNamespace(names=lambda: ["a", "b"], info=lambda _: halves)
    assert merge_proof.why_no_logits(source, base_is_virtual=virtual) == reason

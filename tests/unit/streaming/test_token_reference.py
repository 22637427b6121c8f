"""Tokens scored one by one: exactly as transformers does it, and with rounding that is put in by hand."""

import pytest
import torch

from slipway.calibration.answers import Answer
from slipway.calibration.kernel_rounding import rounded
from slipway.calibration.rounding_kinds import KernelRounding
from slipway.errors import DataError
from slipway.streaming.streamed_reference import Machine
from slipway.streaming.token_reference import TokenReference
from slipway.system.progress import Progress
from slipway.weights.shards import Shards
from tests.support.families import load_family, write_family
from tests.support.streaming import calibration_rows, decoded, ordinary, quantized

DRAW = torch.Generator().manual_seed(3)
ROWS = [Answer(f"r{n}", tuple(torch.randint(8, 360, (n,), generator=DRAW).tolist()), n // 2) for n in (9, 20, 14)]


def machine(budget=1e9):
    return Machine(torch.device("cpu"), torch.float32, budget)


@torch.no_grad()
def by_transformers(model, row):
    logits = model(torch.tensor([row.tokens]), use_cache=False).logits[0, row.start - 1 : -1].float().log_softmax(-1)
    following = torch.tensor(row.tokens[row.start :])
    return logits.gather(1, following[:, None])[:, 0].tolist(), (logits.argmax(-1) == following).tolist()


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gemma2", "qwen3_moe"])
def test_without_rounding_both_are_what_transformers_says(tmp_path, name):
    model = write_family(name, tmp_path / "model")
    reference = TokenReference(model, Shards.open(model), KernelRounding(), machine())
    whole = load_family(name, model)
    for row, one in zip(ROWS, reference.score(ROWS, Progress()), strict=True):
        expected, greedy = by_transformers(whole, row)
        assert one.id == row.id
        assert one.exact == one.rounded == pytest.approx(expected, abs=2e-4)
        assert list(one.greedy) == greedy


@pytest.mark.parametrize(
    ("fmt", "layout"), [("nvfp4a16", "modelopt"), ("fp8", "compressed-tensors"), ("nvfp4", "compressed-tensors")]
)
def test_a_quantized_directory_is_scored_with_the_values_of_its_codes(tmp_path, fmt, layout):
    model = write_family("llama", tmp_path / "model")
    rows = calibration_rows(tmp_path / "rows.jsonl")
    made = quantized(model, tmp_path / "made", format=fmt, layout=layout, calibration=rows)
    reference = TokenReference(made, None, KernelRounding(quantized="nvfp4"), machine(1))  # a pass for each row
    whole = ordinary(model, decoded(model, made, fmt, layout))
    for row, one in zip(ROWS, reference.score(ROWS, Progress()), strict=True):
        assert one.exact == pytest.approx(by_transformers(whole, row)[0], abs=1e-3)
        assert one.rounded != one.exact
    scales = reference._scales.values()
    assert all((scale is None) == (fmt == "nvfp4a16") for scale in scales)
    assert all(0 < scale < 1 for scale in scales if scale is not None)  # the reciprocal would be above 1


def test_weights_are_rounded_in_both_streams_and_results_in_one(tmp_path):
    model = write_family("llama", tmp_path / "model")
    source = Shards.open(model)
    (one,) = TokenReference(model, source, KernelRounding(weights="fp8-token"), machine()).score(ROWS[:1], Progress())
    weights = {name: source.read(name).float() for name in source.names()}
    weights |= {name: rounded(value, "fp8-token") for name, value in weights.items() if value.dim() > 1}
    assert one.exact == one.rounded
    assert one.exact == pytest.approx(by_transformers(ordinary(model, weights), ROWS[0])[0], abs=2e-3)
    (other,) = TokenReference(model, source, KernelRounding(results="bf16"), machine()).score(ROWS[:1], Progress())
    assert other.exact != other.rounded == pytest.approx(other.exact, abs=0.2)


def test_a_row_longer_than_the_model_reads_is_named(tmp_path):
    model = write_family("llama", tmp_path / "model")
    reference = TokenReference(model, Shards.open(model), KernelRounding(), machine())
    with pytest.raises(DataError, match="row long"):
        reference.score([Answer("long", tuple([9] * 5000), 3)], Progress())

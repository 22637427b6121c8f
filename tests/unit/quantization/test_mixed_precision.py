"""Climbing under a budget: within it, never worse than standing still, and close to the best of all choices."""

import itertools
import random

import pytest

from slipway.errors import ConfigError
from slipway.quantization.mixed_precision import Ladder, Rung, assign_formats, table


def ladder(name, parameters, *errors):
    fmts = (("nvfp4a16", 4.5), ("fp8", 8.0), ("bf16", 16.0))
    return Ladder(
        (name,), parameters, tuple(Rung(fmt, bits, error) for (fmt, bits), error in zip(fmts, errors, strict=True))
    )


def bits_and_error(ladders, chosen):
    rungs = [next(rung for rung in one.rungs if rung.fmt == chosen[one.modules[0]]) for one in ladders]
    total = sum(one.parameters for one in ladders)
    return sum(one.parameters * rung.bits for one, rung in zip(ladders, rungs, strict=True)) / total, sum(
        rung.error for rung in rungs
    )


def test_the_worst_goes_up_first_and_only_as_far_as_the_budget_reaches():
    ladders = [
        ladder("a", 100, 0.009, 0.0007, 0.0),
        ladder("b", 100, 0.09, 0.0007, 0.0),
        ladder("c", 100, 0.009, 0.0007, 0.0),
    ]
    assert assign_formats(ladders, 5.7) == {"a": "nvfp4a16", "b": "fp8", "c": "nvfp4a16"}
    assert assign_formats(ladders, 4.5) == dict.fromkeys("abc", "nvfp4a16")
    assert assign_formats(ladders, 16.0) == dict.fromkeys("abc", "bf16")


def test_a_small_unit_still_fits_where_a_large_one_does_not():
    ladders = [ladder("large", 1000, 0.9, 0.1, 0.0), ladder("small", 10, 0.001, 0.0001, 0.0)]
    assert assign_formats(ladders, 4.6) == {"large": "nvfp4a16", "small": "fp8"}


def test_modules_of_a_unit_have_one_format():
    unit = Ladder(("q", "k", "v"), 30, (Rung("nvfp4a16", 4.5, 0.1), Rung("bf16", 16.0, 0.0)))
    assert assign_formats([unit, ladder("o", 300, 0.001, 0.0001, 0.0)], 6.0) == {
        "q": "bf16",
        "k": "bf16",
        "v": "bf16",
        "o": "nvfp4a16",
    }


def test_a_rung_that_is_no_better_is_passed_over():
    assert assign_formats([ladder("a", 10, 0.01, 0.02, 0.0)], 9.0) == {"a": "nvfp4a16"}
    assert assign_formats([ladder("a", 10, 0.01, 0.02, 0.0)], 16.0) == {"a": "bf16"}


@pytest.mark.parametrize("seed", range(20))
def test_against_every_choice(seed):
    """Greedy by error per bit: no choice within the budget is better by more than the one step that did not fit."""
    draw = random.Random(seed)
    ladders = [
        ladder(str(i), draw.choice((16, 64, 256)), e := draw.uniform(0.001, 0.1), e * draw.uniform(0.01, 0.3), 0.0)
        for i in range(6)
    ]
    budget = draw.uniform(4.6, 10)
    bits, error = bits_and_error(ladders, assign_formats(ladders, budget))
    fmts = ("nvfp4a16", "fp8", "bf16")
    every = [
        bits_and_error(ladders, dict(zip("012345", choice, strict=True)))
        for choice in itertools.product(fmts, repeat=6)
    ]
    best = min(e for b, e in every if b <= budget + 1e-9)
    largest_step = max(one.rungs[0].error for one in ladders)
    assert bits <= budget + 1e-9 and best <= error + 1e-12 and error <= best + largest_step


def test_a_budget_below_the_format_is_refused():
    with pytest.raises(ConfigError, match=r"quantize\.max_bits: 4\.2; expected at least 4\.500, what nvfp4a16 takes"):
        assign_formats([ladder("a", 10, 0.1, 0.01, 0.0)], 4.2)


def test_the_record():
    ladders = [ladder("a", 10, 0.1, 0.01, 0.0)]
    assert table(ladders, {"a": "fp8"}) == [
        {"modules": ["a"], "parameters": 10, "chosen": "fp8", "errors": {"nvfp4a16": 0.1, "fp8": 0.01, "bf16": 0.0}}
    ]

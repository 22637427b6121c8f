"""Speed and memory of settings: fits that recover what made the data, and what an unseen setting is expected to do."""

import math
import random

import pytest

from slipway.training.tuning.cost_model import MemoryModel, SpeedModel, filled_share, non_negative
from slipway.training.tuning.setting import Result, Setting

BASE = Setting(2048, 1, "full")


def timed(setting, tokens_per_s):
    return Result(setting, "ok", tokens_per_s, tokens_per_s, tokens_per_s, 3)


def model(filled=1.0):
    return SpeedModel(16e9, 4 * 4096 * 32, lambda _: filled)


def test_fit_recovers_what_made_the_data() -> None:
    rows = [
        ([t, 1.0, t * s], 3e-5 * t + 0.2 + 4e-9 * t * s)
        for t, s in [(2048.0, 2048), (4096.0, 4096), (8192.0, 2048), (1024.0, 1024)]
    ]
    assert non_negative(rows, 20000) == pytest.approx((3e-5, 0.2, 4e-9), rel=0.02)


def test_share_of_padding_is_that_of_neat_packing() -> None:
    assert filled_share([3, 3, 2], 4) == pytest.approx(8 / 12)
    assert filled_share([4, 4], 4) == 1.0
    assert filled_share([9], 4) == 0.0


def test_share_of_padding_against_packing_by_hand():
    source = random.Random(3)
    lengths = [source.randint(1, 50) for _ in range(40)]
    packs: list[int] = []
    for length in sorted(lengths, reverse=True):  # longest first, into the emptiest pack with room
        emptiest = min(range(len(packs)), key=packs.__getitem__, default=None)
        if emptiest is not None and packs[emptiest] + length <= 64:
            packs[emptiest] += length
        else:
            packs.append(length)
    assert filled_share([*lengths, 65], 64) == pytest.approx(sum(lengths) / (64 * len(packs)))


def test_a_solution_is_never_negative():
    assert non_negative([([1.0, 0.0, 0.0], -5.0), ([0.0, 1.0, 0.0], 2.0)]) == (0.0, pytest.approx(2.0), 0.0)


def test_after_one_probe_the_model_returns_what_was_measured():
    speed = model(filled=0.8)
    speed.learn([timed(BASE, 3000.0)])
    assert speed.expected(BASE) == pytest.approx(3000.0, rel=0.01)


def test_larger_micro_batches_and_no_recomputation_are_expected_to_be_faster():
    speed = model()
    speed.learn([timed(BASE, 3000.0)])
    assert speed.expected(Setting(2048, 4, "full")) > 3000.0 < speed.expected(Setting(2048, 1, "none"))
    assert speed.expected(Setting(2048, 1, "none")) == pytest.approx(1.5 * 3000.0, rel=0.01), "two passes, not three"


def test_a_factor_of_an_attention_is_the_assumed_one_until_it_is_measured():
    eager, flash = Setting(2048, 1, "full", "eager"), Setting(2048, 1, "full", "flash_attention_2")
    speed = model()
    speed.learn([timed(BASE, 3000.0)])
    assert speed.expected(eager) == pytest.approx(0.7 * 3000.0, rel=0.01)
    assert speed.expected(flash) == pytest.approx(1.3 * 3000.0, rel=0.01)
    speed.learn([timed(BASE, 3000.0), timed(eager, 1500.0)])
    assert speed.expected(eager) == pytest.approx(1500.0, rel=0.01)


def test_results_without_a_rate_teach_nothing():
    one, two = model(), model()
    one.learn([timed(BASE, 3000.0)])
    two.learn([timed(BASE, 3000.0), Result(Setting(8192, 8, "none"), "oom")])
    assert one.expected(Setting(4096, 2, "none")) == two.expected(Setting(4096, 2, "none"))


def test_memory_is_resident_plus_the_planned_activations_until_a_peak_is_measured():
    memory = MemoryModel(100.0, lambda s: s.tokens / 1024)
    assert memory.expected(BASE) == 102.0
    memory.learn_peak(BASE, 108.0)  # four times the planned
    assert memory.expected(Setting(4096, 1, "full")) == 100.0 + 4 * 4
    other = Setting(4096, 1, "none")
    assert memory.expected(other) == pytest.approx(100.0 + 4 * math.sqrt(4)), "another mode: half way, on a log scale"


def test_what_did_not_fit_is_expected_not_to_fit_again():
    memory = MemoryModel(100.0, lambda s: s.tokens / 1024)
    big = Setting(8192, 4, "none")
    assert memory.expected(big) == 132.0
    memory.learn_excess(big, 150.0)
    assert memory.expected(big) == pytest.approx(100.0 + 1.02 * 50.0)
    memory.learn_excess(big, 120.0)
    assert memory.expected(big) == pytest.approx(151.0), "a lower limit proves nothing new"

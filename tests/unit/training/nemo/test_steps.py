"""Steps counted as NeMo counts them; the lab compares with NeMo itself."""

import pytest

from slipway.training.nemo.steps import count_packs, steps_per_epoch, total_steps


def test_packs_follow_the_greedy_knapsack():
    assert count_packs([], 10) == 0
    assert count_packs([10, 10], 10) == 2
    assert count_packs([6, 4, 4, 3], 10) == 2
    # 7 opens a bin, 6 another, 4 goes to the emptier (6+4); 3 fits neither the fullest first (7) ... it does: 7+3
    assert count_packs([3, 4, 6, 7], 10) == 2
    assert count_packs([5, 5, 5], 9) == 3


def test_only_the_emptiest_bin_is_asked():
    # 8, 5, 5 -> bins 8 | 5 -> 10 | then 2: the emptiest has 8, and takes it
    assert count_packs([8, 5, 5, 2], 10) == 2


@pytest.mark.parametrize(
    ("sequences", "batch", "micro", "ranks", "steps"),
    [
        (6, 2, 1, 1, 3),
        (7, 2, 1, 1, 4),
        (7, 4, 2, 1, 2),
        (9, 8, 1, 8, 1),
        (17, 16, 1, 8, 1),
        (24, 16, 1, 8, 2),
        (7, 8, 1, 8, 0),
    ],
)
def test_steps_of_an_epoch(sequences, batch, micro, ranks, steps):
    assert steps_per_epoch(sequences, global_batch=batch, micro_batch=micro, ranks=ranks) == steps


def test_the_run_ends_by_epochs_or_earlier():
    assert total_steps(10, 2.0, None) == 20
    assert total_steps(10, 0.25, None) == 2
    assert total_steps(10, 2.0, 7) == 7
    assert total_steps(1, 0.1, None) == 1

"""Micro-batches side by side: the gradients of one after the other, bit for bit, for any number of lanes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from slipway.config.train import TrainConfig
from slipway.training.lanes import Lanes, drawing, drawn_seed
from slipway.training.lora_model import load_model
from tests.support.pico import pico_model


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def pico(folder: Path, checkpointing: str = "none") -> torch.nn.Module:
    """A pico model with adapters that are not zero, and dropout."""
    params = TrainConfig.model_validate(
        {
            "method": "lora",
            "rank": 4,
            "alpha": 8,
            "upper_layers": 2,
            "dropout": 0.2,
            "activation_checkpointing": checkpointing,
        }
    )
    model = load_model(str(pico_model(folder)), params)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.1, generator=generator)
    return model.train()


def loss_of(model: torch.nn.Module, first: int) -> torch.Tensor:
    ids = torch.arange(first, first + 24)[None]
    return model(input_ids=ids, labels=ids, use_cache=False).loss  # type: ignore[no-any-return]


def gradients(model: torch.nn.Module, lanes: int, seed: int = 5) -> tuple[float, list[torch.Tensor]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    with Lanes(lanes) as side_by_side:
        total = side_by_side.gradients([partial(loss_of, model, 3 + 7 * i) for i in range(5)], trained, seed)
    return total, [p.grad.clone() for p in trained if p.grad is not None]


def test_any_number_of_lanes_gives_the_same_bits(tmp_path: Path, threads: Callable[[int], None]) -> None:
    model = pico(tmp_path)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(gradients(model, count))
        assert torch.get_num_threads() == count
    assert len(results[0][1]) == len([p for p in model.parameters() if p.requires_grad])
    for total, summed in results[1:]:
        assert total == results[0][0]
        assert all(torch.equal(a, b) for a, b in zip(summed, results[0][1], strict=True))
    threads(1)
    _, other = gradients(model, 1, seed=6)
    assert not all(torch.equal(a, b) for a, b in zip(other, results[0][1], strict=True)), "other masks"


def test_what_is_computed_again_draws_the_same_masks(tmp_path: Path, threads: Callable[[int], None]) -> None:
    threads(2)
    kept, again = gradients(pico(tmp_path / "a"), 2), gradients(pico(tmp_path / "b", "full"), 2)
    assert kept[0] == again[0]
    for one, other in zip(kept[1], again[1], strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_are_the_sums_and_unused_parameters_have_none(threads: Callable[[int], None]) -> None:
    threads(2)
    used, unused = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    unused.grad = torch.ones(3)  # of a step before
    with Lanes(2) as lanes:
        total = lanes.gradients([partial(lambda i: i * used.sum(), i) for i in (1.0, 2.0, 3.0)], [used, unused], 0)
    assert total == 18 and used.grad is not None and used.grad.tolist() == [6, 6, 6] and unused.grad is None


def test_lanes_run_at_the_same_time(threads: Callable[[int], None]) -> None:
    threads(2)
    weight, both = torch.nn.Parameter(torch.ones(1)), threading.Barrier(2, timeout=60)

    def loss() -> torch.Tensor:
        both.wait()
        assert torch.get_num_threads() == 1
        return weight.sum()

    with Lanes(7) as lanes:
        assert lanes.count == 2
        assert lanes.gradients([loss, loss], [weight], 0) == 2


def test_an_error_of_a_lane_is_raised_and_the_threads_come_back(threads: Callable[[int], None]) -> None:
    threads(2)

    def failing() -> torch.Tensor:
        raise ArithmeticError("no loss")

    with pytest.raises(ArithmeticError, match="no loss"), Lanes(2) as lanes:
        lanes.gradients([failing, failing], [torch.nn.Parameter(torch.ones(1))], 0)
    assert torch.get_num_threads() == 2 and drawn_seed() is None


def test_a_seed_holds_for_its_thread_alone() -> None:
    seen: list[int | None] = []
    with drawing(4):
        thread = threading.Thread(target=lambda: seen.append(drawn_seed()))
        thread.start()
        thread.join()
        assert drawn_seed() == 4
    assert seen == [None] and drawn_seed() is None

"""The optimizer loop: schedule, learning rate, checkpoints, and losses against a calculation without packing."""

import json
import math

import pytest
import torch

from slipway.config.train import TrainConfig
from slipway.data.labels import LabelledRow, learnable_rows
from slipway.data.tokens import chat_template
from slipway.errors import ConfigError, DataError
from slipway.system.progress import Progress
from slipway.training.loop import Checkpoints, Loop, Schedule, learning_rate, mean_loss, summed_loss
from slipway.training.lora_model import load_model
from slipway.training.packing import collate
from tests.support.pico import pico_model

PARAMS = TrainConfig(
    method="lora", rank=2, alpha=4, upper_layers=2, pack_length=128, threads=1, epochs=1, accumulate=2, lanes=1
)


def examples(*lengths):
    """Examples that begin each with another token, so that a pack of them shares nothing."""
    return [LabelledRow(list(range(i, i + n)), ((n // 2, n),)) for i, n in enumerate(lengths, start=3)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A pico model with fresh adapters, and eight rows as examples."""
    directory = pico_model(tmp_path_factory.mktemp("pico"))
    rows = [
        {
            "id": str(i),
            "messages": [
                {"role": "user", "content": f"lamp {i}"},
                {"role": "assistant", "content": "on" * (1 + i % 3)},
            ],
        }
        for i in range(8)
    ]
    return load_model(str(directory), PARAMS), learnable_rows(
        rows, chat_template(directory), "last", PARAMS.pack_length
    )


def reference_loss(model, example):
    """Cross entropies of one document alone, by log-sum-exp in float64 over the logits of every position."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([example.tokens]), use_cache=False).logits[0].double()
    picked = range(*example.spans[0])
    return sum((torch.logsumexp(logits[i - 1], 0) - logits[i - 1][example.tokens[i]]).item() for i in picked)


def test_the_schedule_holds_every_row_of_every_epoch_once():
    rows = examples(*([40] * 9))
    schedule = Schedule.plan(rows, PARAMS.model_copy(update={"epochs": 3}))
    indices = [i for step in schedule.micros for micro in step for documents in micro for i in documents]
    assert sorted(indices) == sorted([*range(9)] * 3)
    assert (schedule.tokens, schedule.packed) == (3 * 9 * 40, 3 * 9 * 39)
    assert schedule.steps == 5, "three packs of three an epoch, two packs a step: nine packs, the last step holds one"


def test_epochs_are_shuffled_anew_and_the_seed_decides():
    rows = examples(*([60] * 12))
    one, same, other = (
        Schedule.plan(rows, PARAMS.model_copy(update={"epochs": 2, "seed": seed})) for seed in (1, 1, 2)
    )
    assert one == same != other
    half = len(one.micros) // 2
    assert one.micros[:half] != one.micros[half:]


def test_a_fraction_of_an_epoch_takes_its_share_of_packs():
    packs = Schedule.packs(examples(*([100] * 8)), PARAMS.model_copy(update={"epochs": 1.5}))
    assert len(packs) == 12, "one row a pack: eight, and half of eight"


def test_lanes_split_packs_and_no_step():
    rows = examples(*([40] * 9))
    one, two, many = (Schedule.plan(rows, PARAMS.model_copy(update={"lanes": n})) for n in (1, 2, 9))
    assert [len(step) for step in one.micros] == [2, 1] and [len(step) for step in two.micros] == [4, 2]
    for split in (two, many):
        for whole, parts in zip(one.micros, split.micros, strict=True):
            assert sorted(i for micro in parts for p in micro for i in p) == sorted(
                i for micro in whole for p in micro for i in p
            )
    assert Schedule.plan(rows, PARAMS.model_copy(update={"lanes": 2, "method": "sft"})) == one
    wide = Schedule.plan(rows, PARAMS.model_copy(update={"lanes": 2, "micro_batch": 3}))
    assert [[len(p) for p in micro] for micro in wide.micros[0]] == [[2, 2, 2], [1, 1, 1]]


def test_max_steps_cuts_the_schedule_and_its_tokens():
    rows = examples(*([100] * 8))
    assert Schedule.plan(rows, PARAMS.model_copy(update={"max_steps": 3})).tokens == 3 * 2 * 100
    with pytest.raises(ConfigError, match=r"train\.max_steps: 5; expected at most 4"):
        Schedule.plan(rows, PARAMS.model_copy(update={"max_steps": 5}))


def test_no_rows_is_one_error():
    with pytest.raises(DataError, match=r"training split: 0 rows"):
        Schedule.plan([], PARAMS)


def test_the_learning_rate_warms_up_then_falls_to_zero():
    params = TrainConfig(lr=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, params) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5), "half way from step 10 to step 100"
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_without_warm_up_the_first_step_has_the_peak():
    assert learning_rate(0, 10, TrainConfig(lr=0.3, warmup=0.0)) == 0.3


def test_only_the_newest_checkpoints_stay_and_the_newest_is_the_latest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest() is None
    for step in (1, 2, 3):
        checkpoints.save(step, {"step": step})
    assert [p.name for p in checkpoints.complete()] == ["step_000002", "step_000003"]
    assert checkpoints.latest() == {"step": 3}
    assert (tmp_path / "LATEST").read_text() == "step_000003\n"


def test_a_checkpoint_that_was_not_renamed_is_none(tmp_path):
    (tmp_path / ".tmp_7").mkdir(parents=True)
    (tmp_path / ".tmp_7" / "state.pt").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest() is None
    checkpoints.save(7, {"step": 7})
    assert checkpoints.latest() == {"step": 7} and not (tmp_path / ".tmp_7").exists()


def test_the_loss_of_packed_documents_is_the_sum_of_each_alone(trained):
    model, rows = trained
    model.eval()
    batch = collate([rows[:3], rows[3:8]], pad=0)
    with torch.no_grad():
        packed = summed_loss(model, batch).item()
    assert packed == pytest.approx(sum(reference_loss(model, row) for row in rows), rel=1e-5)


def gradients(model, batches):
    model.zero_grad(set_to_none=True)
    for batch in batches:
        summed_loss(model, batch).backward()
    grads = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    model.zero_grad(set_to_none=True)
    return grads


def test_the_gradient_of_packed_documents_is_the_sum_of_each_alone(trained):
    """Rows begin alike, so the pack holds those tokens once, and their gradients come from all rows."""
    model, rows = trained
    model.eval()
    batch = collate([rows], pad=0)
    assert batch.input_ids.shape[1] < sum(len(row.inputs) for row in rows)
    alone = gradients(model, [collate([[row]], pad=0) for row in rows])
    for packed, summed in zip(gradients(model, [batch]), alone, strict=True):
        torch.testing.assert_close(packed, summed, atol=1e-5, rtol=1e-3)
    assert any(grad.abs().max() > 1e-3 for grad in alone)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_lanes_and_threads_change_no_step(trained, tmp_path, dropout):
    """One pack, its two halves, and two threads for them: the same gradients, and of the halves the same bits."""
    _, rows = trained
    directory = pico_model(tmp_path / "pico")
    params = PARAMS.model_copy(update={"accumulate": 1, "dropout": dropout, "pack_length": 1024, "lr": 1e-2})

    def losses(lanes, threads):
        torch.manual_seed(0)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            chosen = params.model_copy(update={"lanes": lanes, "epochs": 3})
            loop = Loop(load_model(str(directory), chosen), rows, Schedule.plan(rows, chosen), chosen, pad=0)
            loop.run(Checkpoints(tmp_path / f"{lanes}-{threads}", 2), Progress())
        finally:
            torch.set_num_threads(before)
        return [entry["loss"] for entry in loop.history], [p.detach() for p in loop.trainable]

    alone, side_by_side = losses(2, 1), losses(2, 2)
    assert alone[0] == side_by_side[0] and len(alone[0]) == 3
    assert all(torch.equal(a, b) for a, b in zip(alone[1], side_by_side[1], strict=True))
    if not dropout:  # a half draws other masks than the whole
        assert losses(1, 1)[0] == pytest.approx(alone[0], rel=1e-5)


def test_the_mean_loss_is_per_completion_token(trained):
    model, rows = trained
    tokens = sum(row.label_tokens for row in rows)
    expected = sum(reference_loss(model, row) for row in rows) / tokens
    assert mean_loss(model, rows, PARAMS.pack_length, 0) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_finite_ends_before_the_weights_change(trained, tmp_path):
    model, rows = trained
    loop = Loop(model, rows, Schedule.plan(rows, PARAMS), PARAMS, pad=0)
    weights = [p.detach().clone() for p in loop.trainable]
    scale = model.get_base_model().get_decoder().norm.weight
    before = scale.detach().clone()
    scale.data.fill_(math.inf)
    try:
        with pytest.raises(ConfigError, match=r"loss at step 1: .*expected a finite number\. Next: lower train\.lr"):
            loop.run(Checkpoints(tmp_path, 2), Progress())
    finally:
        scale.data.copy_(before)
    assert all(torch.equal(a, b) for a, b in zip(weights, loop.trainable, strict=True))
    assert loop.history == [] and not list(tmp_path.iterdir())


def test_a_step_logs_its_figures_and_checkpoints_hold_the_history(trained, tmp_path):
    model, rows = trained
    params = PARAMS.model_copy(update={"pack_length": 64, "accumulate": 1, "checkpoint_every": 1})
    loop = Loop(model, rows, Schedule.plan(rows, params), params, pad=0)
    loop.run(Checkpoints(tmp_path, 10), Progress())
    assert [entry["step"] for entry in loop.history] == list(range(1, loop.schedule.steps + 1))
    assert sum(entry["tokens"] for entry in loop.history) == loop.schedule.tokens
    assert sum(entry["label_tokens"] for entry in loop.history) == sum(row.label_tokens for row in rows)
    names = [p.name for p in Checkpoints(tmp_path, 10).complete()]
    assert names == [f"step_{n:06d}" for n in range(1, loop.schedule.steps)], "none after the last step"
    state = Checkpoints(tmp_path, 10).latest()
    assert json.loads(state["history"]) == loop.history[:-1]

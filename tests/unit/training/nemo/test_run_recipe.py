"""The recipe of one run: its steps are counted on the data before it is rendered."""

import pytest
import yaml

from slipway.config.target import TargetConfig
from slipway.data.labels import learnable_rows
from slipway.data.rows import read_rows
from slipway.data.tokens import chat_template
from slipway.errors import ConfigError, DataError
from slipway.training.nemo.job import JobFiles
from slipway.training.nemo.labelled_rows import LabelledRows
from slipway.training.nemo.run_recipe import count_sequences, run_recipe, run_steps
from tests.support.nemo import pico_params


def test_the_plan_counts_packs_steps_and_the_schedule_of_the_whole_run(files):
    recipe = run_recipe(files(epochs=2.5))
    assert (recipe.rows, recipe.steps) == (40, 8), "six packs, two a step: 2.5 x 3"
    assert "lr_decay_steps: 8" in recipe.text and "max_steps: 8" in recipe.text
    scheduler = yaml.safe_load(recipe.text)["step_scheduler"]
    assert (scheduler["max_steps"], scheduler["num_epochs"], scheduler["global_batch_size"]) == (8, 3, 2)


def test_the_job_reads_the_rows_with_the_embedded_trainers_labels(files):
    one = files()
    document = yaml.safe_load(run_recipe(one).text)
    rows = learnable_rows(read_rows(one.data.path / "train.jsonl"), chat_template(one.base.path), "last", 512)
    samples = LabelledRows(document["dataset"]["folder"])
    assert document["dataset"]["_target_"] == f"{one.job}/labelled_rows.py:LabelledRows"
    assert [sample["input_ids"] for sample in samples] == [row.tokens[:-1] for row in rows]
    assert [sample["labels"] for sample in samples] == [row.labels(-100)[1:] for row in rows]


def test_a_row_longer_than_a_pack_is_refused_before_the_job_and_cut_where_that_is_allowed(files):
    with pytest.raises(DataError, match=r"row .*: .*more tokens than the trainer's sequence.* train.pack_length=40"):
        run_recipe(files(pack_length=40))
    one = files(pack_length=60, truncate=True)
    run_recipe(one)
    assert max(len(sample["input_ids"]) for sample in LabelledRows(one.paths().train)) == 59


def test_samples_lose_a_token_when_inputs_and_labels_are_shifted():
    params = pico_params().train.model_copy(update={"pack_length": 20})
    assert count_sequences(params, [21, 11, 11]) == 2, "20, and 10 + 10"
    assert count_sequences(params, [11, 12]) == 2, "10 + 11 are too many"
    assert count_sequences(params, [50, 11]) == 2, "a cut sample takes pack_length less the shift"
    assert count_sequences(pico_params(packing="none").train, [10, 20]) == 2


def test_steps_of_a_run_over_its_epochs_and_its_limit():
    assert run_steps(pico_params(epochs=3), 10) == 15
    assert run_steps(pico_params(epochs=0.5), 10) == 2
    assert run_steps(pico_params(epochs=3, max_steps=4), 10) == 4


def test_a_sequence_for_every_gpu_is_the_least():
    params = pico_params(global_batch=4).model_copy(update={"target": TargetConfig(gpus=4, gpu_memory_gb=80)})
    assert run_steps(params, 4) == 3, "one step an epoch"
    with pytest.raises(DataError, match=r"3 sequences of up to 512 tokens for 4 data-parallel GPUs"):
        run_steps(params, 3)


def test_a_model_row_of_another_shape_is_refused(files):
    one = files()
    other = one.params.model_copy(update={"model": one.params.model.model_copy(update={"hidden": 4096})})
    with pytest.raises(ConfigError, match=r"model\.hidden: 4096; expected 64, as .*config\.json"):
        run_recipe(JobFiles(one.base, one.data, one.work, other))

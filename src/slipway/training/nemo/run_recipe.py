"""The recipe of one run: its rules checked, its steps counted on the data, rendered, its keys checked.

The learning rate's schedule is the full run's from the first attempt on: its steps stand in the recipe, which an
attempt that resumes reads again unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipway.config.train import TrainConfig
from slipway.data.chat_template import ChatTemplate
from slipway.data.labels import LabelledRow, learnable_rows
from slipway.data.rows import read_rows
from slipway.data.tokens import chat_template
from slipway.errors import DataError
from slipway.planning.model_shape import check_shape
from slipway.planning.parallelism import parallelism
from slipway.training.nemo.job import ROWS, JobFiles
from slipway.training.nemo.labelled_rows import IGNORED, write_labelled
from slipway.training.nemo.params import NemoTrainParams
from slipway.training.nemo.recipe import render, to_yaml
from slipway.training.nemo.rules import DataFacts, check_rules
from slipway.training.nemo.schema import check_recipe
from slipway.training.nemo.steps import count_packs, steps_per_epoch, total_steps


@dataclass(frozen=True)
class RunRecipe:
    """A recipe as text, and what it will do: rows and tokens of an epoch, optimizer steps of the whole run."""

    text: str
    rows: int
    tokens: int
    steps: int


def run_recipe(files: JobFiles) -> RunRecipe:
    """Label the training and validation rows into the job's folder, count the run's steps on them, and render the
    recipe that makes exactly these.

    Raises ConfigError for a recipe that cannot run or would train wrongly, DataError for a row that cannot be learnt or
    is longer than a pack, and when the rows make less than one sequence for every data-parallel GPU.
    """
    params = files.params
    check_shape(params.model, files.base.path)
    check_rules(params.model, params.train, params.target, None)
    template = chat_template(files.base.path)
    rows = _labelled(files, "train", template)
    _labelled(files, "val", template)
    lengths = [len(row.tokens) for row in rows]
    sequences = count_sequences(params.train, lengths)
    learnt = sum(row.label_tokens for row in rows)
    facts = DataFacts(len(lengths), max(lengths, default=0), sum(lengths), learnt, sequences)
    check_rules(params.model, params.train, params.target, facts)
    steps = run_steps(params, sequences)
    document = render(params.model, params.train, params.target, files.paths(), steps=steps)
    check_recipe(document)
    return RunRecipe(to_yaml(document), len(lengths), sum(lengths), steps)


def _labelled(files: JobFiles, name: str, template: ChatTemplate) -> list[LabelledRow]:
    """The rows of a split with their labels, written where the job reads them; no file, no rows."""
    file, train = files.data.path / f"{name}.jsonl", files.params.train
    source = read_rows(file, empty_ok=True) if file.exists() else []
    rows = learnable_rows(source, template, train.learn, train.pack_length, truncate=train.truncate)
    write_labelled(files.job / ROWS / name, ((row.tokens, row.labels(IGNORED)) for row in rows))
    return rows


def count_sequences(params: TrainConfig, lengths: list[int]) -> int:
    """Sequences that samples of these lengths (tokens, chat template included) make: packs, or one each."""
    # NeMo shifts inputs and labels by one before it packs: a sample takes one token less than it has
    shifted = [min(n, params.pack_length) - 1 for n in lengths]
    return len(shifted) if params.packing == "none" else count_packs(shifted, params.pack_length)


def run_steps(params: NemoTrainParams, sequences: int) -> int:
    """Optimizer steps of the whole run over `sequences` sequences an epoch. Raises DataError when there is not one for
    every data-parallel GPU."""
    train, ranks = params.train, parallelism(params.train, params.target).data
    per_epoch = steps_per_epoch(sequences, global_batch=train.global_batch, micro_batch=train.micro_batch, ranks=ranks)
    if not per_epoch:
        raise DataError(
            "training split",
            f"{sequences} sequences of up to {train.pack_length} tokens for {ranks} data-parallel GPUs",
            "at least one for each",
            "add data, lower train.pack_length, or use fewer GPUs",
        )
    return total_steps(per_epoch, train.epochs, train.max_steps)

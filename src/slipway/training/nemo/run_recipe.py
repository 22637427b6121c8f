"""The recipe of one run: refused early, counted out on the data, rendered and checked.

The learning rate's schedule is the full run's from the first attempt on: its steps stand in the recipe, which an
attempt that resumes reads again unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipway.config.train import TrainConfig
from slipway.data.rows import read_rows
from slipway.data.tokens import token_lengths
from slipway.errors import DataError
from slipway.planning.model_shape import check_shape
from slipway.planning.parallelism import parallelism
from slipway.training.nemo import recipe
from slipway.training.nemo.job import Layout
from slipway.training.nemo.params import FinetuneConfig
from slipway.training.nemo.rules import DataFacts, refuse
from slipway.training.nemo.steps import packs, steps_per_epoch, total_steps


@dataclass(frozen=True)
class Planned:
    """A recipe as text, and what it will do: rows and tokens of an epoch, optimizer steps of the whole run."""

    text: str
    rows: int
    tokens: int
    steps: int


def plan(layout: Layout) -> Planned:
    """Raises ConfigError for what is refused and DataError when there is less than one sequence for every rank."""
    params = layout.params
    check_shape(params.model, layout.base.path)
    lengths = token_lengths(read_rows(layout.data.path / "train.jsonl"), layout.base.path)
    found = sequences(params.train, lengths)
    refuse(
        params.model, params.train, params.target, DataFacts(len(lengths), max(lengths), sum(lengths), sequences=found)
    )
    steps = run_steps(params, found)
    doc = recipe.render(params.model, params.train, params.target, layout.paths(), steps=steps)
    recipe.check(doc)
    return Planned(recipe.to_yaml(doc), len(lengths), sum(lengths), steps)


def sequences(params: TrainConfig, lengths: list[int]) -> int:
    """Sequences that samples of these lengths (tokens, chat template included) make: packs, or one each."""
    seen = [min(n, params.pack_length) - 1 for n in lengths]  # inputs and labels are shifted by one: a token less
    return len(seen) if params.packing == "none" else packs(seen, params.pack_length)


def run_steps(params: FinetuneConfig, found: int) -> int:
    """Optimizer steps that NeMo will make of `found` sequences. Raises DataError when there is not one for every GPU's
    share."""
    train, ranks = params.train, parallelism(params.train, params.target).data
    per_epoch = steps_per_epoch(found, global_batch=train.global_batch, micro_batch=train.micro_batch, ranks=ranks)
    if not per_epoch:
        raise DataError(
            "training split",
            f"{found} sequences of up to {train.pack_length} tokens for {ranks} data-parallel GPUs",
            "at least one for each",
            "add data, lower train.pack_length, or use fewer GPUs",
        )
    return total_steps(per_epoch, train.epochs, train.max_steps)

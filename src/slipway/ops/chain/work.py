"""How much each stage of the chain has to do, known before it runs: the amount that its time grows with.

A pass over weights costs by parameters; training by parameters x tokens (a constant number of floating-point operations
for each: Kaplan et al. 2020, arXiv:2001.08361, section 2.1); an evaluation by parameters x items, as decoding reads
every weight for each token. What else changes a stage's speed is in the group, whose members alone are compared.
"""

from __future__ import annotations

from pathlib import Path

from slipway.config.load import Config
from slipway.config.model import ModelConfig
from slipway.errors import CheckpointError
from slipway.pipeline.stage import Work
from slipway.planning.serving_memory import parameters
from slipway.store.artifacts import Artifact, Dataset
from slipway.store.lineage import lineage


def parameters_of(model: Artifact) -> int:
    """Parameters of the base model that this artifact was made from; 0 when nothing in its history says."""
    for ancestor in lineage(model):
        if ancestor.stage == "fetch":
            base = type(model)(uri=ancestor.uri, digest=ancestor.digest)
            return int(base.summary.get("parameters", 0)) if base.path.is_dir() else 0
    return 0


def parameters_before(model: ModelConfig) -> float:
    """Parameters of the base model before it is fetched: by the files of its directory, else by its row."""
    directory = Path(model.directory or "").expanduser()
    if model.source == "directory":
        try:
            return float(parameters(directory))
        except CheckpointError:  # it is not there, or `fetch` says what is wrong with it
            pass
    return model.parameters_b * 1e9


def of_fetch(config: Config) -> Work:
    """One model, whatever its size: a download's speed is the network's."""
    return Work(f"fetch {config.model.name}", 1, "models")


def of_prepare(source: Path) -> Work:
    """Bytes of the rows."""
    files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    return Work("prepare", sum(file.stat().st_size for file in files), "bytes of rows")


def of_train(config: Config, base: Artifact, data: Dataset) -> Work | None:
    """Parameters x tokens that are trained on; None for data of before tokens were counted."""
    train, tokens = config.train, data.summary.get("train_tokens")
    if not tokens:
        return None
    total = tokens * train.epochs
    if train.max_steps:
        total = min(total, train.max_steps * train.micro_batch * train.accumulate * train.pack_length)
    how = (train.method, train.activation_checkpointing, f"upper {train.upper_layers}", f"x{train.pack_length}")
    return Work(f"train {train.backend} {' '.join(map(str, how))}", parameters_of(base) * total, "parameters x tokens")


def of_pass(kind: str, model: Artifact) -> Work:
    """A pass over weights."""
    return Work(kind, parameters_of(model), "parameters")


def of_items(kind: str, model: Artifact | None, data: Dataset, most: int | None) -> Work | None:
    """Parameters x items of the test split; None where they are not known."""
    rows = data.summary.get("test_rows")
    if not rows or model is None:
        return None
    return Work(kind, parameters_of(model) * min(rows, most or rows), "parameters x items")

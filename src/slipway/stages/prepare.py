"""Prepare: data -> splits that the base model can read, with a data card.

The default corpus comes as the splits that DVC made (`dvc.yaml`: raw -> prepared -> splits), checked against
`dvc.lock`. Any other data, or other parameters than DVC used, is cleaned and split here, by the same two functions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from slipway.config.base import Section, born
from slipway.config.data import DataConfig
from slipway.config.evaluate import EvaluateConfig
from slipway.data.card import card, summarise
from slipway.data.clean import clean
from slipway.data.dvc_lock import digest_now, locked_digest, locked_stage
from slipway.data.row_checks import Needs, RowChecks
from slipway.data.rows import Rejected, Row, check_file, read_rows, refuse, write_rows
from slipway.data.split import NAMES, Splits, prove, split
from slipway.errors import DataError
from slipway.evaluation.task import answer_limit, look, task_of
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Dataset

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Dataset
SPLITS = "data/splits"
CORPUS_LICENSE = "Apache-2.0"  # home-assistant-intents and hassil
NOT_DATA = {"name", "raw", "max_tokens", "license"}  # fields that do not change the splits


class PrepareParams(Section):
    """What the stage reads. The digest is here so that the stage's key changes with the data."""

    config: DataConfig = Field(description="Section `data` of the run's config.")
    source: str = Field(description="Absolute path: a directory of splits, or one raw JSONL file.")
    digest: str = Field(description="Digest of the source as DVC writes it: md5, or md5.dir for a directory.")
    revision: str | None = Field(description="DVC's digest of the source; null when DVC does not know these bytes.")
    license: str = Field(description="SPDX licence of the data, for the card.")
    needs: Annotated[Needs, born({})] = Field(
        default_factory=Needs, description="What trainer and quantization want of the rows, checked here."
    )

    def key_document(self) -> dict[str, Any]:
        """The source by its name and digest, not by its path: a clone may move."""
        document = super().key_document()
        config = {name: value for name, value in document["config"].items() if name != "raw"}
        return {**document, "config": config, "source": Path(self.source).name}


def params_of(config: Config, root: Path) -> PrepareParams:
    """This stage's params in a run of the project in `root`. Raises what `prepare_params` raises."""
    return prepare_params(config.data, root).model_copy(update={"needs": needs_of(config)})


def needs_of(config: Config) -> Needs:
    """What this run's trainer and quantization want of the rows."""
    train, quantize = config.train, config.quantize
    formats = {quantize.format, *quantize.rules.values()}
    calibrated = formats & {"nvfp4", "fp8"} or quantize.method == "gptq" or quantize.kv_cache == "fp8"
    sequences = (quantize.calibration.samples, quantize.calibration.length)
    return Needs(
        learn=train.learn,
        longest=train.pack_length,
        truncate=train.truncate,
        calibration=sequences if calibrated else None,
    )


def prepare_params(config: DataConfig, root: Path) -> PrepareParams:
    """Find the data of `config` under the project `root` and digest it. Cheap, and needs no torch.

    Raises DataError when the file is missing, or when the tracked splits are missing or differ from `dvc.lock`.
    """
    raw, splits = (root / Path(config.raw).expanduser()).resolve(), (root / SPLITS).resolve()
    default = locked_stage(root, raw) is not None
    if default and _made_with(root, splits, config):
        source, digest = splits, _tracked(splits, root)
    elif raw.is_file():
        source, digest = raw, digest_now(raw)
    else:
        hint = "run `dvc repro`" if default else "point data.raw at a chat JSONL file"
        raise DataError("data.raw", raw, "an existing file", hint)
    revision = digest if digest == locked_digest(root, source) else None
    licence = config.license or (CORPUS_LICENSE if default else "not stated")
    return PrepareParams(config=config, source=str(source), digest=digest, revision=revision, license=licence)


def prepare(base: Checkpoint, params: PrepareParams, space: Workspace) -> None:
    """Write `train.jsonl`, `val.jsonl`, `test.jsonl`, `card.md` and `summary.json`.

    Bad rows end the stage with a DataError that names them; all of them are listed in `rejected.jsonl` of the work
    folder.
    """
    from slipway.data.tokens import (  # transformers takes a second to import; planning does without
        chat_template,
        longest_answer_tokens,
    )

    source, config = Path(params.source), params.config
    if (now := digest_now(source)) != params.digest:
        raise DataError(
            f"data {source}",
            f"digest {now[:12]}",
            f"{params.digest[:12]} as planned",
            "the data changed meanwhile: run again",
        )
    parts, counts = _read_splits(source, config) if source.is_dir() else _make_splits(source, config, space.work)
    checks = RowChecks(chat_template(base.path), params.needs)
    lengths = {name: checks.lengths(name, rows) for name, rows in parts.items()}
    for warning in checks.finish(space.work / "rejected.jsonl"):
        space.progress.note(f"warning: {warning}")
    _refuse_long(parts, lengths, config, space.work)
    if over := counts.get("over_per_label", 0):
        space.progress.note(
            f"{over} rows left out to balance labels (data.per_label, data.val_per_label, data.test_per_label)"
        )
    for name, rows in parts.items():
        write_rows(space.out / f"{name}.jsonl", rows)
        space.progress.note(f"{name}: {len(rows)} rows, {sum(lengths[name])} tokens")
    longest = longest_answer_tokens(chain.from_iterable(parts.values()), base.path)
    task = look(parts["train"] or parts["test"], config.label_key)
    space.progress.note(f"{task_of(EvaluateConfig(), task, config.label_key)}")
    space.progress.note(
        f"longest reference answer: {longest} tokens; evaluate.max_new_tokens=auto is {answer_limit(longest)}"
    )
    _describe(parts, lengths, counts, params, space.out, longest_answer_tokens=longest, task=task)


def _made_with(root: Path, splits: Path, config: DataConfig) -> bool:
    """Whether DVC made the splits with this config."""
    stage = locked_stage(root, splits)
    if stage is None:
        return False
    recorded = {
        key: value
        for doc in stage.get("params", {}).values()
        for key, value in doc.items()
        if key in DataConfig.model_fields
    }
    return DataConfig.model_validate(recorded).model_dump(exclude=NOT_DATA) == config.model_dump(exclude=NOT_DATA)


def _tracked(splits: Path, root: Path) -> str:
    if not splits.is_dir():
        raise DataError(
            "data splits",
            f"{splits} is missing",
            "the splits of dvc.lock",
            "run `dvc repro` (or `dvc pull` from your remote)",
        )
    now, locked = digest_now(splits), locked_digest(root, splits)
    if now != locked:
        raise DataError(
            f"data splits {splits}", f"digest {now}", f"{locked} as in dvc.lock", "run `dvc repro`, and commit dvc.lock"
        )
    return now


def _read_splits(folder: Path, config: DataConfig) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """DVC's splits, proved again: they may have come from a remote."""
    parts = {name: read_rows(folder / f"{name}.jsonl", config.label_key, empty_ok=name == "val") for name in NAMES}
    counts: dict[str, int] = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    prove(Splits(**parts, counts=counts), config.near_duplicate)
    return parts, counts


def _make_splits(raw: Path, config: DataConfig, work: Path) -> tuple[dict[str, list[Row]], dict[str, int]]:
    lines, bad = check_file(raw, config.label_key)
    _refuse(bad, len(lines), work)
    cleaned = clean(lines, config)
    splits = split(cleaned.rows, config)
    return {name: splits[name] for name in NAMES}, {**cleaned.counts, **splits.counts}


def _refuse_long(
    parts: Mapping[str, Sequence[Row]], lengths: Mapping[str, Sequence[int]], config: DataConfig, work: Path
) -> None:
    longest = config.max_tokens
    if longest is None:
        return
    bad = [
        Rejected(f"{name}.jsonl", i, f"row {row['id']!r} has {n} tokens, more than data.max_tokens={longest}")
        for name, rows in parts.items()
        for i, (row, n) in enumerate(zip(rows, lengths[name], strict=True), start=1)
        if n > longest
    ]
    _refuse(bad, sum(map(len, parts.values())) - len(bad), work)


def _refuse(bad: Sequence[Rejected], good: int, work: Path) -> None:
    if bad:
        listed = work / "rejected.jsonl"
        listed.write_text("".join(json.dumps(vars(line)) + "\n" for line in bad), encoding="utf-8")
        refuse(bad, good, listed)


def _describe(
    parts: Mapping[str, Sequence[Row]],
    lengths: Mapping[str, Sequence[int]],
    counts: Mapping[str, int],
    params: PrepareParams,
    out: Path,
    **answers: object,
) -> None:
    tracked = "not tracked by DVC" if params.revision is None else params.revision
    about = {
        "source": Path(params.source).name,
        "digest": params.digest,
        "DVC revision": tracked,
        "licence": params.license,
    }
    (out / "card.md").write_text(card(parts, lengths, counts, about), encoding="utf-8")
    figures = {
        **summarise(parts, lengths),
        **counts,
        **answers,
        "label_key": params.config.label_key,
        "license": params.license,
        "source_digest": params.digest,
        "source_revision": tracked,
    }
    (out / "summary.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")

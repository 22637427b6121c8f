"""Prepare: data -> splits that the base model can read, with a data card.

The default corpus comes as the splits that DVC made (`dvc.yaml`: raw -> prepared -> splits), checked against
`dvc.lock`. Any other data, or other parameters than DVC used, is cleaned and split here, by the same two functions.
Where there is an earlier version of the data, that of the champion, its test rows stay test rows (`earlier_rows`), and
`test_rows.json` names those that are new.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from slipway.config.base import Section, born
from slipway.config.data import DataConfig, EarlierData
from slipway.config.evaluate import EvaluateConfig
from slipway.data.dvc_lock import digest_now, locked_digest, locked_stage
from slipway.data.row_checks import Needs, RowChecks
from slipway.data.rows import SHOWN, Rejected, Row, refusal
from slipway.data.strict_json import shown
from slipway.errors import DataError
from slipway.evaluation.task import answer_limit, look, task_of
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Dataset

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.data.earlier_rows import EarlierRows
    from slipway.data.row_table import I64
    from slipway.data.split import Splits

OUTPUT = Dataset
SPLITS = "data/splits"
BATCH = 2000  # rows tokenized at a time
SAMPLE = 20_000  # training rows, in their shuffled order, whose answers say what the task is
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
    earlier: Annotated[EarlierData | None, born(None)] = Field(
        None, description="Data of the champion, whose test rows stay test rows; null: the split is drawn."
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
    """Write `train.jsonl`, `val.jsonl`, `test.jsonl`, `card.md` and `summary.json`; with earlier data `test_rows.json`.

    Bad rows end the stage with a DataError that names them; all of them are listed in `rejected.jsonl` of the work
    folder.
    """
    from slipway.data import earlier_rows
    from slipway.data.earlier_rows import mark_tests, read_earlier
    from slipway.data.funnel import sentence
    from slipway.data.split import NAMES  # numpy and transformers take a second to import; planning does without
    from slipway.data.tokens import longest_answer_tokens

    source, config = Path(params.source), params.config
    if (now := digest_now(source)) != params.digest:
        raise DataError(
            f"data {source}",
            f"digest {now[:12]}",
            f"{params.digest[:12]} as planned",
            "the data changed meanwhile: run again",
        )
    earlier = read_earlier(params.earlier, config.system) if params.earlier else None
    splits, about = _splits(source, config, space, earlier)
    lengths = _lengths(splits, base, params, space)
    for name in NAMES:
        splits.table.write(space.out / f"{name}.jsonl", splits[name])
    funnel = _funnel(splits, lengths)
    space.progress.note(sentence(funnel["steps"], funnel["shares"]))
    longest = longest_answer_tokens(chain.from_iterable(_rows(splits, name) for name in NAMES), base.path)
    task = look(list(_rows(splits, "train", SAMPLE)), config.label_key)
    space.progress.note(f"{task_of(EvaluateConfig(), task, config.label_key)}")
    space.progress.note(
        f"longest reference answer: {longest} tokens; evaluate.max_new_tokens=auto is {answer_limit(longest)}"
    )
    answers = {"longest_answer_tokens": longest, "task": task}
    since = mark_tests(splits, earlier, space.out) if earlier else {}
    if since:
        space.progress.note(earlier_rows.sentence(since))
    _describe(splits, lengths, funnel, {**about, **answers, **since}, params, space.out)


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


def _splits(
    source: Path, config: DataConfig, space: Workspace, earlier: EarlierRows | None
) -> tuple[Splits, Mapping[str, str]]:
    """The splits of a folder that DVC made, or of a raw file; and what the file is and how rows are grouped."""
    import numpy as np

    from slipway.data.preparation import prepare_rows, read_splits
    from slipway.data.split import split

    if source.is_dir():
        splits, about = read_splits(source, config, space.work)
        if earlier is None:
            return splits, about
        table, rows, steps = splits.table, np.arange(len(splits.table)), splits.steps
    else:
        prepared = prepare_rows(source, config, space.work, space.progress, earlier)
        table, rows, steps, about = prepared.table, prepared.rows, prepared.steps, prepared.about
    splits = split(table, rows, config, earlier.sides(table) if earlier else None)
    return dataclasses.replace(splits, steps=[*steps, *splits.steps]), about


def _rows(splits: Splits, name: str, most: int | None = None) -> Iterator[Row]:
    """Rows of a split, one by one."""
    return (splits.table.row(i) for i in splits[name][:most].tolist())


def _lengths(splits: Splits, base: Checkpoint, params: PrepareParams, space: Workspace) -> dict[str, I64]:
    """Tokens of each row of each split, all rows checked against the model on the way. Raises DataError for rows that
    cannot be learnt, and for rows longer than `data.max_tokens`."""
    import numpy as np

    from slipway.data.split import NAMES
    from slipway.data.tokens import chat_template

    checks, total, done = RowChecks(chat_template(base.path), params.needs), sum(len(splits[n]) for n in NAMES), 0
    lengths = {}
    for name in NAMES:
        counted: list[int] = []
        for at in range(0, len(splits[name]), BATCH):
            counted += checks.lengths(name, (splits.table.row(i) for i in splits[name][at : at + BATCH].tolist()))
            space.progress.update("check", done + len(counted), total, "rows")
        lengths[name] = np.array(counted, np.int64)
        done += len(counted)
    for warning in checks.finish(space.work / "rejected.jsonl"):
        space.progress.note(f"warning: {warning}")
    _refuse_long(splits, lengths, params.config, space.work)
    return lengths


def _refuse_long(splits: Splits, lengths: Mapping[str, I64], config: DataConfig, work: Path) -> None:
    longest = config.max_tokens
    if longest is None:
        return
    beyond = f", more than data.max_tokens={longest}"
    bad = [
        Rejected(f"{name}.jsonl", at + 1, f"row {_id(splits, name, at)} has {n} tokens{beyond}")
        for name, counted in lengths.items()
        for at, n in enumerate(counted.tolist())
        if n > longest
    ]
    if bad:
        listed = work / "rejected.jsonl"
        listed.write_text("".join(json.dumps(vars(line)) + "\n" for line in bad), encoding="utf-8")
        raise refusal(bad[:SHOWN], len(bad), sum(map(len, lengths.values())) - len(bad), listed)


def _id(splits: Splits, name: str, at: int) -> str:
    return shown(splits.table.row(int(splits[name][at]))["id"])


def _funnel(splits: Splits, lengths: Mapping[str, I64]) -> dict[str, Any]:
    """Steps and shares as JSON values, with the tokens of each split."""
    shares = [{**share.to_json(), "tokens": int(lengths[share.split].sum())} for share in splits.shares]
    return {"steps": [step.to_json() for step in splits.steps], "shares": shares}


def _describe(
    splits: Splits,
    lengths: Mapping[str, I64],
    funnel: Mapping[str, Any],
    about: Mapping[str, Any],
    params: PrepareParams,
    out: Path,
) -> None:
    from slipway.data.card import card, summarise
    from slipway.data.preparation import flat_counts

    tracked = "not tracked by DVC" if params.revision is None else params.revision
    origin = {
        "file": about["source"],
        "digest": params.digest,
        "DVC revision": tracked,
        "licence": params.license,
        "held out together": about["groups"],
    }
    (out / "card.md").write_text(card(splits, lengths, funnel, origin), encoding="utf-8")
    figures = {
        **summarise(splits, lengths),
        **flat_counts(splits),
        "label_key": params.config.label_key,
        "license": params.license,
        "source_digest": params.digest,
        "source_revision": tracked,
        "funnel": funnel,
        **about,
    }
    (out / "summary.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

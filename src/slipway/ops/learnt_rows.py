"""What a model learns of rows, for a person to look at: their text in runs that are learnt or not.

The rows are those of the run's own training split: the stages `fetch` and `prepare` are made, or reused, as the run
would. A file of canonical rows and a model directory may be given instead; then no stage runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.errors import DataError

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.data.chat_template import ChatTemplate
    from slipway.data.labels import LabelledRow
    from slipway.data.rows import Row

SHOWN = 3


def learnt_rows(
    config: Config,
    root: Path,
    *,
    rows_file: Path | None = None,
    model: Path | None = None,
    number: int | None = None,
    on_event: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Row `number` (from 1), or `SHOWN` rows spread over the split, with their labels, as JSON values: `learn`, `rows`
    and for each row `row`, `id`, `tokens`, `learnt`, `segments` (`text`, `tokens`, `learnt`), `warnings`, and `problem`
    where it cannot be learnt.

    Raises DataError when there is no such row, and what the stages raise.
    """
    from slipway.data.labels import label_rows
    from slipway.data.rows import read_rows
    from slipway.data.tokens import chat_template

    if rows_file is None or model is None:
        base, split = _made(config, root, on_event, with_data=rows_file is None)
        rows_file, model = rows_file or split, model or base
    assert rows_file
    rows, template = read_rows(rows_file), chat_template(model)
    chosen = _chosen(len(rows), number, rows_file)
    results = label_rows([rows[i] for i in chosen], template, config.train.learn)
    documents = [_document(i + 1, rows[i], result, template) for i, result in zip(chosen, results, strict=True)]
    return {"learn": config.train.learn, "file": rows_file.name, "of": len(rows), "rows": documents}


def _made(
    config: Config, root: Path, on_event: Callable[[dict[str, Any]], None], *, with_data: bool
) -> tuple[Path, Path | None]:
    """The base model's directory, and the training split of this config."""
    from slipway.ops.chain import calls
    from slipway.pipeline.ensure import ensure
    from slipway.runners.local import LocalRunner
    from slipway.store.artifacts import Checkpoint
    from slipway.store.store import Store

    store, cache, runner = Store(Path(config.store.root)), Path(config.store.cache), LocalRunner()
    base = ensure(calls.fetch(config), store, cache, runner, on_event).artifact
    assert isinstance(base, Checkpoint)
    if not with_data:
        return base.path, None
    made = ensure(calls.prepare(config, root, base), store, cache, runner, on_event)
    return base.path, made.artifact.path / "train.jsonl"


def _chosen(total: int, number: int | None, file: Path) -> list[int]:
    """Indices of the rows to show: the one asked for, else the first, the last and those between, evenly spread."""
    if number is None:
        last = total - 1
        return sorted({round(i * last / (SHOWN - 1)) for i in range(SHOWN)})
    if not 1 <= number <= total:
        raise DataError("--row", number, f"a row from 1 to {total} of {file.name}", "choose one of them")
    return [number - 1]


def _document(number: int, row: Row, result: Any, template: ChatTemplate) -> dict[str, Any]:
    from slipway.data.problems import RULES, RowProblem

    about = {"row": number, "id": row.get("id")}
    if isinstance(result, RowProblem):
        return {**about, "problem": str(result), "way_out": RULES[result.kind].way_out}
    return {
        **about,
        "tokens": len(result.tokens),
        "learnt": result.label_tokens,
        "segments": list(_segments(result, template.tokenizer.decode)),
        "warnings": [str(warning) for warning in result.warnings],
    }


def _segments(row: LabelledRow, decode: Callable[[Sequence[int]], str]) -> list[dict[str, Any]]:
    """The row's tokens as runs of text, learnt ones and others in turn."""
    edges = [0, *(edge for span in row.spans for edge in span), len(row.tokens)]
    return [
        {"text": decode(row.tokens[start:end]), "tokens": end - start, "learnt": bool(i % 2)}
        for i, (start, end) in enumerate(itertools.pairwise(edges))
        if end > start
    ]

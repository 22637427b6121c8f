"""The command `slipway tune`: options to a request, probes to a table, the result to a file."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from slipway.cli.tune_view import summary, table
from slipway.config.load import Config
from slipway.errors import ConfigError
from slipway.planning.parallelism import parallelism
from slipway.system.files import write_atomic
from slipway.training.tuning.tune import TuneRequest, search_report, train_row, tune

OURS = ".slipway-tune"


@dataclass(frozen=True)
class TuneOptions:
    """As given on the command line."""

    budget_s: float
    model_dir: Path | None
    data: Path | None
    here: bool
    python: str
    out: Path | None
    work: Path


def run_tune(config: Config, options: TuneOptions, *, as_json: bool) -> dict[str, Any]:
    """Tune, show each probe on stderr, write the row; returns what a program reads."""
    console = Console(stderr=True)
    model = _model(config, options)
    request = TuneRequest(
        config, model, _emptied(options.work), options.data, options.budget_s, options.here, options.python
    )
    with table(console) as look:
        found = tune(request, look)
    ranks = max(1, parallelism(config.train, config.target).data)
    text = train_row(found, config, ranks)
    console.print(summary(found), highlight=False, markup=False, soft_wrap=True)
    if options.out:
        write_atomic(options.out, text)
        console.print(f"written: {options.out}", highlight=False)
    elif not as_json:
        Console().print(text, highlight=False, markup=False, soft_wrap=True, end="")
    return search_report(found) | {"row": text}


def _emptied(work: Path) -> Path:
    """A new folder, or one that a search used before; never another one's files."""
    if work.exists() and any(work.iterdir()) and not (work / OURS).exists():
        raise ConfigError(
            "--work", f"{work} is not empty", "a new folder, or one of a former `slipway tune`", "choose another"
        )
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    (work / OURS).touch()
    return work.resolve()


def _model(config: Config, options: TuneOptions) -> Path:
    given = options.model_dir or (Path(config.model.directory) if config.model.directory else None)
    if given is None or not (given / "config.json").is_file():
        raise ConfigError(
            "--model-dir", given, "a Hugging Face model directory", "download the model, or make one of random weights"
        )
    return given.resolve()

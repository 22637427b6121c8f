"""The command `slipway tune`: options to a request, one row a probe while it works, the result to a file.

The rows are a live table on a terminal, and a line each elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from slipway.cli.output import console
from slipway.cli.tables import make_table
from slipway.config.load import Config
from slipway.errors import ConfigError
from slipway.planning.parallelism import parallelism
from slipway.runners.lease import Priority, Wish, lease_folder, leased
from slipway.system.files import write_atomic
from slipway.training.tuning.search import SearchResult
from slipway.training.tuning.setting import Result
from slipway.training.tuning.tune import TuneRequest, search_report, train_row, tune

OURS = ".slipway-tune"
COLUMNS = ("packs", "recompute", "attention", "loss", "tokens/s", "+-", "GiB reserved", "steps", "seconds", "")
STYLES = {"ok": "", "slower": "dim", "oom": "yellow", "too_big": "yellow", "error": "red"}
WORDS = {
    "ok": "",
    "slower": "given up: slower",
    "oom": "does not fit",
    "too_big": "above the target's memory",
    "error": "died",
}


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
    shown = console(stderr=True)
    model = _model(config, options)
    request = TuneRequest(
        config, model, _emptied(options.work), options.data, options.budget_s, options.here, options.python
    )
    with live_table(shown) as show:
        wish = Wish(f"tune of {model.name}", Priority.TUNING)
        with leased(lease_folder(Path(config.store.cache)), wish, partial(shown.print, markup=False)):
            search = tune(request, show)
    ranks = max(1, parallelism(config.train, config.target).data)
    text = train_row(search, config, ranks)
    shown.print(summary(search), highlight=False, markup=False, soft_wrap=True)
    if options.out:
        write_atomic(options.out, text)
        shown.print(f"written: {options.out}", highlight=False)
    elif not as_json:
        console().print(text, highlight=False, markup=False, soft_wrap=True, end="")
    return search_report(search) | {"row": text}


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


@contextmanager
def live_table(shown: Console) -> Iterator[Callable[[Result], None]]:
    """For the time of the block: a function that shows each result as it comes."""
    results: list[Result] = []
    if not shown.is_terminal:
        yield lambda result: shown.print(line(result), highlight=False, markup=False, soft_wrap=True)
        return
    with Live(table(results), console=shown) as live:

        def show(result: Result) -> None:
            results.append(result)
            live.update(table(results))

        yield show


def table(results: list[Result]) -> Table:
    """One row a probe; the fastest that fits is bold."""
    shown = make_table(*COLUMNS)
    best = max((r.tokens_per_s for r in results if r.status == "ok"), default=0.0)
    for r in results:
        bold = "bold green" if r.status == "ok" and r.tokens_per_s == best else STYLES[r.status]
        shown.add_row(*cells(r), style=bold)
    return shown


def cells(r: Result) -> tuple[str, ...]:
    """What the columns of COLUMNS show of one probe."""
    s = r.setting
    speed = (f"{r.tokens_per_s:,.0f}", f"{(r.high - r.low) / 2:,.0f}") if r.tokens_per_s else ("", "")
    memory = f"{r.reserved / 2**30:.1f}" if r.reserved else ""
    remark = ": ".join(part for part in (WORDS[r.status], r.reason if r.status == "error" else "") if part)
    return (
        f"{s.micro_batch} x {s.pack_length}",
        s.checkpointing,
        s.attention,
        s.loss,
        *speed,
        memory,
        str(r.steps),
        f"{r.seconds:.0f}",
        remark,
    )


def line(r: Result) -> str:
    """`2 x 4096, none, sdpa, masked: 7,190 tokens/s +- 90, 31.8 GiB, 3 steps in 6 s`."""
    _, _, _, _, speed, spread, memory, steps, seconds, remark = cells(r)
    measured = (
        f"{speed} tokens/s +- {spread}, {memory or '?'} GiB, {steps} steps in {seconds} s"
        if speed
        else f"after {seconds} s"
    )
    return f"{r.setting}: {', '.join(part for part in (measured, remark) if part)}"


def summary(search: SearchResult) -> str:
    """The result in one paragraph: best setting, gain over the baseline, what it took, what was never probed."""
    best, base = search.best, search.baseline
    never = ", ".join(f"{n} {why}" for why, n in search.skipped.items())
    absent = f" Not installed there: {', '.join(search.machine.absent)}." if search.machine.absent else ""
    return (
        f"best: {best.setting}: {best.tokens_per_s:,.0f} tokens/s, {best.reserved / 2**30:.1f} GiB reserved, "
        f"{search.gain:.2f} times {base.setting} ({base.tokens_per_s:,.0f}). "
        f"{len(search.results)} probes in {search.seconds:.0f} s, {search.machine.seconds:.0f} of them until the model "
        f"was loaded; {search.ended}. Never probed: {never}.{absent}"
    )

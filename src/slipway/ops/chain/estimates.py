"""What a stage will take, by what stages like it took on this machine.

    time     median of seconds / amount over earlier stages of the same group x this amount
    memory   median of the peaks of those whose amount is within a factor of two: it does not grow with the data
    disk     as time where the amount is in parameters, else as memory
    bound    split conformal (Vovk et al.; Lei et al. 2018, arXiv:1604.04173): figure x (1 + r), r the
             ceil(0.95 (n + 1))-th smallest of the relative residuals measured / predicted - 1 of n runs whose
             predictions were made beforehand; below 19 runs there is none

Without an earlier run of its group on this machine the figures are those of `ops/chain/first_run.py`, by formula, or
none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from slipway.config.load import Config
from slipway.ops.chain.first_run import first_figures
from slipway.pipeline.measurements import Figures, Measurement, this_machine
from slipway.pipeline.stage import Work
from slipway.store.artifacts import Artifact

COVERAGE = 0.95
FEWEST = 19  # with fewer, the largest residual covers less than 95%
FORMULA = "formula"
LATEST = 20  # runs looked at: machines and versions change
QUANTITIES = ("seconds", "peak_bytes", "disk_bytes")
WHOLE_RUN = "whole run"
Pair = tuple[float, float]  # predicted, measured


@dataclass(frozen=True)
class Estimate:
    """Figures of a stage, 0 where there are none; the same as upper bounds of 95% coverage where enough runs allow it;
    how many earlier runs say so; `by`: `formula` where none does."""

    figures: Figures
    bound: Figures | None
    runs: int
    by: str = ""


def estimate(work: Work | None, rows: Sequence[Measurement], machine: str = "") -> Estimate | None:
    """What this work takes on `machine` (empty: this one); None where no stage of its group was made there."""
    if work is None or work.amount <= 0:
        return None
    where = machine or this_machine()
    like = [row for row in rows if row.group == work.group and row.machine == where and row.amount > 0]
    if not like:
        return None
    like = like[-LATEST:]
    seconds = median(row.measured.seconds / row.amount for row in like) * work.amount
    near = [row for row in like if 0.5 <= row.amount / work.amount <= 2]
    peaks = [row.measured.peak_bytes for row in near if row.measured.peak_bytes]
    disk = (
        median(row.measured.disk_bytes / row.amount for row in like) * work.amount
        if work.unit == "parameters"
        else median(row.measured.disk_bytes for row in like)
    )
    figures = Figures(seconds=seconds, peak_bytes=median(peaks) if peaks else 0, disk_bytes=disk)
    return Estimate(figures, _bound(figures, like), len(like))


def estimate_call(
    stage: str,
    work: Work | None,
    inputs: Mapping[str, Artifact | None],
    config: Config,
    rows: Sequence[Measurement],
    machine: str = "",
) -> Estimate | None:
    """As `estimate` for a stage with these inputs (none: not made yet); by formula where no earlier run tells."""
    learned = estimate(work, rows, machine)
    if learned:
        return learned
    figures = first_figures(stage, work, inputs, config, machine)
    return Estimate(figures, None, 0, FORMULA) if figures else None


@dataclass(frozen=True)
class Error:
    """Relative errors |predicted / measured - 1| of one quantity of one kind of stage on one machine, over `runs`.

    `predicted`, `measured`: the latest pair. `bound`: how far above the prediction the measured one lies at most, at
    95% coverage, as a share of it; None below 19 runs. `by`: `formula` for predictions before anything was learned,
    `both` for a whole run whose stages had either. `stages`: of a whole run, those summed and those made."""

    title: str
    machine: str
    quantity: str
    runs: int
    p50: float
    p95: float
    by: str = ""
    predicted: float = 0.0
    measured: float = 0.0
    bound: float | None = None
    stages: tuple[int, int] | None = None


def errors(rows: Sequence[Measurement]) -> list[Error]:
    """The errors of predictions that were made before their stages ran, by title, machine and quantity; then those of
    whole runs, in seconds and bytes written: the sums over the stages of a run that had a prediction."""
    pairs: dict[tuple[str, str, str, str], list[Pair]] = {}
    for row in rows:
        for quantity in QUANTITIES:
            if pair := _pair(row, quantity):
                pairs.setdefault((row.title, row.machine, quantity, row.by), []).append(pair)
    stages = [_error(title, machine, quantity, by, each) for (title, machine, quantity, by), each in pairs.items()]
    return [*stages, *_of_runs(rows)]


def _of_runs(rows: Sequence[Measurement]) -> Iterator[Error]:
    """Stages of one run on several machines are apart: each has its own errors."""
    runs: dict[tuple[str, str], list[Measurement]] = {}
    for row in rows:
        if row.run:
            runs.setdefault((row.machine, row.run), []).append(row)
    for quantity in ("seconds", "disk_bytes"):  # peaks of memory do not add up
        sums: dict[tuple[str, str], list[Pair]] = {}
        latest: dict[tuple[str, str], tuple[int, int]] = {}
        for (machine, _), made in runs.items():
            known = [(row, pair) for row in made if (pair := _pair(row, quantity))]
            if not known:
                continue
            by = {row.by for row, _ in known}
            key = machine, by.pop() if len(by) == 1 else "both"
            sums.setdefault(key, []).append((sum(p for _, (p, _) in known), sum(m for _, (_, m) in known)))
            latest[key] = len(known), len(made)
        for (machine, how), each in sums.items():
            yield replace(_error(WHOLE_RUN, machine, quantity, how, each), stages=latest[machine, how])


def _pair(row: Measurement, quantity: str) -> Pair | None:
    """Predicted and measured; None where one of them is missing."""
    predicted = getattr(row.predicted, quantity) if row.predicted else 0
    measured = getattr(row.measured, quantity)
    return (predicted, measured) if predicted and measured else None


def _error(title: str, machine: str, quantity: str, by: str, pairs: Sequence[Pair]) -> Error:
    off = [abs(predicted / measured - 1) for predicted, measured in pairs]
    above = None if by else residual_bound(pairs)
    p50, p95 = _quantile(off, 0.5), _quantile(off, COVERAGE)
    return Error(title, machine, quantity, len(pairs), p50, p95, by, *pairs[-1], above)


def residual_bound(pairs: Sequence[Pair]) -> float | None:
    """The share by which a measured value exceeds its prediction at most, at 95% coverage, by split conformal over
    pairs of both; None below 19 of them."""
    residuals = sorted(measured / predicted - 1 for predicted, measured in pairs)
    rank = math.ceil(COVERAGE * (len(residuals) + 1))
    if len(residuals) < FEWEST or rank > len(residuals):
        return None
    return max(0.0, residuals[rank - 1])


def _bound(figures: Figures, like: Sequence[Measurement]) -> Figures | None:
    bounds = {}
    for quantity in QUANTITIES:
        above = residual_bound([pair for row in like if not row.by and (pair := _pair(row, quantity))])
        if above is None:
            return None
        bounds[quantity] = getattr(figures, quantity) * (1 + above)
    return Figures(**bounds)


def _quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

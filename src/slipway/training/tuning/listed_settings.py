"""Probe a list of settings, each to its end: what they take is what a planner is held to. Short because searching is
`tune`'s."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from slipway.training.tuning.setting import Result, Setting
from slipway.training.tuning.tune import TuneRequest, prober_for, write_rows


def probe_settings(
    request: TuneRequest,
    settings: Sequence[Setting],
    limit: float,
    deadline: float,
    on_result: Callable[[Result], None],
    limits: Sequence[float] = (),
) -> None:
    """Probe these settings one after the other, each to its end, until `deadline` (time.monotonic()'s clock); what
    memory they take is what a planner is held to. `limits`: bytes that each may take, where `limit` is not that of
    all. Raises as `tune`."""
    write_rows(request)
    with prober_for(request, limit, deadline) as prober:
        prober.start()
        for setting, most in zip(settings, limits or [limit] * len(settings), strict=True):
            if time.monotonic() >= deadline:
                return
            on_result(prober.probe(setting, 0.0, most))

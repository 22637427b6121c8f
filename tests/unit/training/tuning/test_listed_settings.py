"""A list of settings, probed in its order."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slipway.config.load import load_config
from slipway.training.tuning.listed_settings import probe_settings
from slipway.training.tuning.setting import Result, Setting
from slipway.training.tuning.tune import TuneRequest


def test_settings_are_probed_in_their_order_until_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Setting] = []

    class Slow:
        """A prober whose second probe ends after the deadline."""

        def start(self) -> None:
            pass

        def probe(self, setting: Setting, best_low: float) -> Result:
            asked.append(setting)
            return Result(setting, "ok", reserved=len(asked))

    @contextmanager
    def prober(*_: object) -> Iterator[Slow]:
        yield Slow()

    monkeypatch.setattr("slipway.training.tuning.listed_settings.prober_for", prober)
    monkeypatch.setattr("slipway.training.tuning.listed_settings.write_rows", lambda _: None)
    request = TuneRequest(load_config(), tmp_path, tmp_path)
    wanted = [Setting(512, 1, "full"), Setting(1024, 1, "full"), Setting(2048, 1, "full")]
    results: list[Result] = []

    def keep(result: Result) -> None:
        results.append(result)
        if len(results) == 2:
            monkeypatch.setattr("slipway.training.tuning.listed_settings.time.monotonic", lambda: math.inf)

    probe_settings(request, wanted, 1e9, time.monotonic() + 60, keep)
    assert [result.setting for result in results] == wanted[:2] == asked

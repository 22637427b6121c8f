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
    limits: list[float] = []

    class Slow:
        """A prober whose second probe ends after the deadline."""

        def start(self) -> None:
            pass

        def probe(self, setting: Setting, best_low: float, limit: float) -> Result:
            asked.append(setting)
            limits.append(limit)
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
    assert limits == [1e9, 1e9]


def test_each_setting_may_have_a_limit_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    class Prober:
        def start(self) -> None:
            pass

        def probe(self, setting: Setting, best_low: float, limit: float) -> Result:
            limits.append(limit)
            return Result(setting, "ok")

    @contextmanager
    def prober(*_: object) -> Iterator[Prober]:
        yield Prober()

    monkeypatch.setattr("slipway.training.tuning.listed_settings.prober_for", prober)
    monkeypatch.setattr("slipway.training.tuning.listed_settings.write_rows", lambda _: None)
    request = TuneRequest(load_config(), tmp_path, tmp_path)
    wanted = [Setting(512, 1, "full"), Setting(1024, 1, "full")]
    probe_settings(request, wanted, 1e9, math.inf, lambda _: None, [2e9, 3e9])
    assert limits == [2e9, 3e9]

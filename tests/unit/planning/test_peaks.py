"""The peaks of the GPUs that rows of conf/targets name."""

from __future__ import annotations

from slipway.config.load import load_config
from slipway.planning.peaks import PEAKS


def test_every_row_with_a_gpu_has_a_peak() -> None:
    for row in ("spark", "spark-pair", "dgx-h100", "dgx-b200"):
        assert load_config(overrides=[f"layers.target=targets/{row}"]).target.compute_capability in PEAKS

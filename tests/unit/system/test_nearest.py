from __future__ import annotations

from slipway.system.nearest import did_you_mean, nearest

NAMES = ["quantize", "merge", "train"]


def test_the_nearest_name():
    assert nearest("quantise", NAMES) == "quantize"
    assert nearest("q", NAMES) is None
    assert nearest("x", []) is None


def test_the_next_step_of_an_unknown_name():
    assert did_you_mean("trian", NAMES, "remove it") == "did you mean train?"
    assert did_you_mean("zzz", NAMES, "remove it") == "remove it"

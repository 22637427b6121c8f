"""Kernel agreement in its own process: its limit, its errors. With a real engine: tests/lab/deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.engine import AgreementConfig
from slipway.errors import StateError
from slipway.evaluation.agreement_process import check_at
from slipway.store.artifacts import Checkpoint
from tests.support.shippable import PLAN


def check(folder: Path, **more: Any) -> dict[str, Any]:
    """Of a checkpoint that is not there, by an engine that is not there."""
    arguments = {"long_tokens": 24, "limit_s": 120.0, "on_gpu": False, "note": lambda _: None, **more}
    weights = Checkpoint(uri=str(folder / "gone"), digest="0" * 64)
    return check_at("http://127.0.0.1:1/v1", weights, folder, PLAN, AgreementConfig(), **arguments)


def test_an_error_of_the_process_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="gone: no manifest"):
        check(tmp_path)


def test_a_check_over_its_limit_is_ended_and_counts_as_not_checked(tmp_path: Path) -> None:
    assert check(tmp_path, limit_s=0.0) == {"refused": "not done within 0 s"}

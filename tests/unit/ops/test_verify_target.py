"""`slipway verify TARGET` is tried whole in tests/unit/cli/test_verify_command.py; here what a cluster answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import SlipwayError
from slipway.ops.verify_target import verify_target


def test_a_row_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("{}\n")
    with pytest.raises(SlipwayError, match="sparkle"):
        verify_target("sparkle", tmp_path, [])

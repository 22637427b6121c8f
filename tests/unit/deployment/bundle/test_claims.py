"""Claims on blobs: held until they are released, or their lease is over."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slipway.deployment.bundle.claims import LEASE_S, Claims
from slipway.errors import BundleError


def test_a_claim_holds_until_its_lease_is_over(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "bundles")
    assert claims.held() == set()
    claims.add("a" * 32, "1" * 64)
    claims.add("a" * 32, "2" * 64)
    claims.add("b" * 32, "3" * 64)
    assert claims.held() == {"1" * 64, "2" * 64, "3" * 64}
    then = time.time() - LEASE_S - 1
    os.utime(tmp_path / "bundles.claims" / ("a" * 32), (then, then))
    assert claims.held() == {"3" * 64}
    claims.release("b" * 32)
    claims.release("b" * 32)
    assert list((tmp_path / "bundles.claims").iterdir()) == []


@pytest.mark.parametrize("claim", ["", "../bundles/index.json", "x" * 32, None, 7])
def test_what_is_no_claim_removes_nothing(tmp_path: Path, claim: object) -> None:
    with pytest.raises(BundleError, match="no claim"):
        Claims(tmp_path / "bundles").release(claim)  # type: ignore[arg-type]

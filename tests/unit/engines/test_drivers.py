from __future__ import annotations

import pytest

from slipway.engines.drivers import KINDS, driver_for
from slipway.errors import ConfigError


@pytest.mark.parametrize("kind", KINDS)
def test_a_driver_is_of_the_kind_that_names_it(kind: str) -> None:
    assert driver_for(kind).kind == kind


def test_another_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="sglang"):
        driver_for("sglang")

"""A served release for the tests of a look, and the end of its engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slipway.config.load import Config
from slipway.deployment.releases import Release
from slipway.deployment.state import stop
from tests.support.watched import Asked, released

Serve = Callable[..., tuple[Config, Release]]


@pytest.fixture
def serve(tmp_path: Any) -> Iterator[Serve]:
    """`released` in this test's folder; its engine ends with the test."""
    served: list[Config] = []

    def go(asked: list[Asked], **more: Any) -> tuple[Config, Release]:
        config, release = released(tmp_path, asked, **more)
        served.append(config)
        return config, release

    yield go
    for config in served:
        stop(config.deploy)

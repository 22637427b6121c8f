"""What the environment in an image's config states."""

from __future__ import annotations

import pytest

from slipway.agent.image_environment import cuda_version


@pytest.mark.parametrize(
    ("environment", "version"),
    [
        (["PATH=/bin", "CUDA_VERSION=13.0.1.012"], "13.0.1.012"),
        (["CUDA_VERSION=12.8"], "12.8"),
        (["CUDA_VERSION="], ""),
        (["CUDA_VERSION"], ""),
        (["CUDA_VERSION=latest"], ""),
        ([], ""),
        (None, ""),
        ({"CUDA_VERSION": "12"}, ""),
    ],
)
def test_the_cuda_version_of_an_image_is_what_its_environment_states(environment: object, version: str) -> None:
    assert cuda_version(environment) == version

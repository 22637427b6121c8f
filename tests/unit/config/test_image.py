"""A row of images.yaml: digests are per architecture, as registries call them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.image import ImageConfig


def test_an_image_without_digests_is_one_that_was_not_pinned_yet():
    assert ImageConfig(repository="nvcr.io/nvidia/nemo", tag="1").digests == {}


def test_a_digest_is_of_a_known_architecture():
    row = {"repository": "r", "tag": "1"}
    assert ImageConfig(**row, digests={"arm64": "sha256:0"}).digests["arm64"] == "sha256:0"
    with pytest.raises(ValidationError, match="'amd64' or 'arm64'"):
        ImageConfig(**row, digests={"aarch64": "sha256:0"})
    with pytest.raises(ValidationError, match="tag"):
        ImageConfig(repository="r")

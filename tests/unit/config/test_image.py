"""A row of images.yaml: digests are per architecture, as registries call them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.image import ImageConfig
from slipway.errors import ConfigError
from tests.support.sections import refusal


def test_an_image_without_digests_is_one_that_was_not_pinned_yet():
    assert ImageConfig(repository="nvcr.io/nvidia/nemo", tag="1").digests == {}


def test_a_digest_is_of_a_known_architecture():
    row = {"repository": "r", "tag": "1"}
    assert ImageConfig(**row, digests={"arm64": "sha256:0"}).digests["arm64"] == "sha256:0"
    with pytest.raises(ValidationError, match="'amd64' or 'arm64'"):
        ImageConfig(**row, digests={"aarch64": "sha256:0"})
    with pytest.raises(ValidationError, match="tag"):
        ImageConfig(repository="r")


def test_a_row_without_an_engine_is_keyed_as_before():
    assert set(ImageConfig(repository="r", tag="1").key_document()) == {"repository", "tag", "digests"}


def test_an_unknown_key_of_a_row_is_refused_with_the_near_one():
    row = {"repository": "r", "tag": "1", "digest": {}}
    message = refusal("images", "nemo", row)
    assert message.startswith("config key images.nemo.digest: unknown"), message
    names = "contract, digests, driver, entrypoint, repository, tag"
    assert message.endswith(f"expected one of {names}. Next: did you mean digests?"), message


def test_an_architecture_of_another_name_is_refused_by_its_row():
    row = {"repository": "r", "tag": "1", "digests": {"x86_64": "sha256:0"}}
    assert refusal("images", "nemo", row).startswith("config key images.nemo.digests.x86_64")


def test_a_row_is_named_or_the_rows_there_are() -> None:
    row = ImageConfig(repository="reg.io/a", tag="v1")
    assert ImageConfig.row({"a": row}, "engine.image", "a") is row
    with pytest.raises(ConfigError, match=r"engine\.image: b; expected a row of conf/images\.yaml \(a\)"):
        ImageConfig.row({"a": row}, "engine.image", "b")
    with pytest.raises(ConfigError, match=r"\(none\)"):
        ImageConfig.row({}, "engine.image", "b")

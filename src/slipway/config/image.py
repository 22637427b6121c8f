"""A row of `conf/images.yaml`: a container image pinned by digest. Short because a section is one file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slipway.config.base import Section


class ImageConfig(Section):
    """A container image, pinned by digest per architecture."""

    repository: str = Field(description="Registry and repository.")
    tag: str = Field(description="Tag the digests were read from.")
    digests: dict[Literal["amd64", "arm64"], str] = Field(
        default_factory=dict,
        description="Architecture -> `sha256:...` of that image's manifest; `slipway pin` reads them.",
    )

"""A row of `conf/images.yaml`: a container image pinned by digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from slipway.config.base import Section, born
from slipway.errors import ConfigError


class ImageConfig(Section):
    """A container image, pinned by digest per architecture."""

    repository: str = Field(description="Registry and repository.")
    tag: str = Field(description="Tag the digests were read from.")
    digests: dict[Literal["amd64", "arm64"], str] = Field(
        default_factory=dict,
        description="Architecture -> `sha256:...` of that image's manifest; `slipway pin` reads them.",
    )
    contract: Annotated[str | None, born(None)] = Field(
        None, min_length=1, description="Version of the engine in it, whose options commands are checked against."
    )
    entrypoint: Annotated[list[str], born([])] = Field(
        default_factory=list,
        description="Program that its own entrypoint starts with the given arguments; []: it runs a whole command.",
    )

    driver: Annotated[str | None, born(None)] = Field(
        None,
        pattern=r"^\d+(\.\d+){0,2}$",
        description="Oldest NVIDIA driver that it runs on; null: by the CUDA version that the image states.",
    )

    @classmethod
    def row(cls, images: Mapping[str, ImageConfig], key: str, name: str) -> ImageConfig:
        """The row that the config's `key` names. Raises ConfigError when there is none of this name."""
        if name not in images:
            rows = ", ".join(images) or "none"
            raise ConfigError(key, name, f"a row of conf/images.yaml ({rows})", "name one of them, or add it")
        return images[name]

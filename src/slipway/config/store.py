"""Section `store`: where artifacts and caches lie."""

from __future__ import annotations

from pydantic import Field

from slipway.config.base import Section
from slipway.config.model import ModelConfig as ModelConfig
from slipway.config.train import TrainConfig as TrainConfig


class StoreConfig(Section):
    """Where bytes live."""

    root: str = Field(".slipway", description="Artifacts, work folders and service data.")
    cache: str = Field("~/.cache/slipway", description="Downloads and engine builds, shared between clones.")

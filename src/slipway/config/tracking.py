"""Section `tracking`: MLflow."""

from __future__ import annotations

from pydantic import Field

from slipway.config.base import Section
from slipway.config.model import ModelConfig as ModelConfig
from slipway.config.train import TrainConfig as TrainConfig


class TrackingConfig(Section):
    """MLflow."""

    uri: str = Field("http://127.0.0.1:5000", description="MLflow tracking server.")
    experiment: str = Field("finetune-and-ship", description="MLflow experiment.")

"""Params of the stage `train_nemo`, and which of them its key covers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.base import Section
from slipway.config.image import ImageConfig
from slipway.config.model import ModelConfig
from slipway.config.target import LocalRunConfig, TargetConfig
from slipway.config.train import TrainConfig

if TYPE_CHECKING:
    from slipway.config.load import Config

# Seconds between SIGTERM and SIGKILL of a training job: one optimizer step and one save, of a 70B on one slow GPU.
STOP_S = 600.0
# The stage process outlives the job that it stops.
STAGE_STOP_S = STOP_S + 60


class NemoTrainParams(Section):
    """Fine-tuning by NeMo AutoModel on a target."""

    train: TrainConfig = Field(description="The recipe's settings.")
    model: ModelConfig = Field(description="The base model and its shape.")
    target: TargetConfig = Field(description="The machine.")
    image: ImageConfig | None = Field(
        None, description="The container that trains; null: NeMo as installed on the target."
    )

    def key_document(self) -> dict[str, Any]:
        """What decides the adapter's bytes: recipe, model, the number and kind of GPUs, and the image's digest.

        How jobs reach the machine (host, partition, time limit) is left out: the same run goes on through another
        runner.
        """
        target = self.target
        return {
            "train": self.train.key_document(),
            "model": self.model.key_document(),
            "target": {
                "arch": target.arch,
                "nodes": target.nodes,
                "gpus": target.gpus,
                "compute_capability": target.compute_capability,
            },
            "image": image_digest(self),
        }


def image_digest(params: NemoTrainParams) -> str | None:
    """Digest (`sha256:...`) of the training image for the target's architecture; None without a container or before
    `slipway pin`."""
    return params.image.digests.get(params.target.arch) if params.image else None


def nemo_train_params(config: Config) -> NemoTrainParams:
    """The stage's params out of the whole config. Raises ConfigError when the target names an image that has no row in
    `conf/images.yaml`."""
    image = None
    if config.target.in_container:
        assert not isinstance(config.target.runner, LocalRunConfig)
        image = ImageConfig.row(config.images, "target.runner.image", config.target.runner.image)
    return NemoTrainParams(train=config.train, model=config.model, target=config.target, image=image)

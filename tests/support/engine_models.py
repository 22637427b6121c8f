"""Model directories for drivers: the pico model in every format that an engine may be given, and rows of targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from slipway.config.image import ImageConfig
from slipway.config.target import TargetConfig
from tests.support.pico import pico_model

DIGEST = "sha256:" + "ab" * 32
NVFP4_GROUP = {"type": "float", "num_bits": 4, "group_size": 16, "strategy": "tensor_group"}


def target(name: str) -> TargetConfig:
    """A row of conf/targets."""
    row = yaml.safe_load(Path(f"conf/targets/{name}.yaml").read_text())
    return TargetConfig.model_validate({key: value for key, value in row.items() if key != "description"})


def image(name: str) -> ImageConfig:
    """A row of conf/images.yaml as it is after `slipway pin`."""
    row = yaml.safe_load(Path("conf/images.yaml").read_text())[name]
    return ImageConfig.model_validate({**row, "digests": {"amd64": DIGEST, "arm64": DIGEST}})


def labelled_model(out: Path, quantization: Any = None, **config: Any) -> Path:
    """The pico model whose config.json says that it is quantized so; `config`: more of its keys."""
    model = pico_model(out)
    document = json.loads((model / "config.json").read_text())
    document |= config | ({"quantization_config": quantization} if quantization else {})
    (model / "config.json").write_text(json.dumps(document))
    return model


def modelopt(algorithm: str, **more: Any) -> dict[str, Any]:
    """The quantization section of ModelOpt's export."""
    return {"quant_method": "modelopt", "quant_algo": algorithm, **more}


def compressed(weights: dict[str, Any], inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """The quantization section of compressed-tensors with one group."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}

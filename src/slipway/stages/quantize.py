"""Stage `quantize`: a checkpoint, virtual or not -> a quantized model directory, in one pass."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slipway.config.quantize import QuantizeConfig
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Artifact, Checkpoint, Dataset, Quantized
from slipway.system.cuda_context import start_context

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT: type[Artifact] = Quantized


def params_of(config: Config) -> QuantizeConfig:
    """This stage's params in a run, `fused_scales` decided for the engine that will serve."""
    return config.quantize.for_engine(config.engine.kind)


def quantize(checkpoint: Checkpoint, data: Dataset | None, params: QuantizeConfig, space: Workspace) -> None:
    """Write the quantized model directory into `space.out`, calibrated on the training split where the format or method
    asks for it. A killed run goes on from `space.work`. Raises what `export` raises."""
    if params.device != "cpu":
        start_context()  # beside the next import, which is torch's
    from slipway.streaming.export import export
    from slipway.streaming.source_model import Model
    from slipway.weights.checkpoint import open_checkpoint

    unfinished = space.work / "model"
    identity = {"checkpoint": checkpoint.digest, "data": data.digest if data else ""}
    calibration = data.path / "train.jsonl" if data else None
    model = Model(open_checkpoint(checkpoint), checkpoint.path, identity, calibration)
    summary = export(model, unfinished, params, space.progress)
    for file in unfinished.iterdir():
        file.rename(space.out / file.name)
    (space.out / "summary.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")

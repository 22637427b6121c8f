"""Stage `quantize`: a checkpoint, virtual or not -> a quantized model directory, in one pass."""

from __future__ import annotations

import json

from slipway.artifacts import Artifact, Checkpoint, Quantized
from slipway.checkpoints import model_dir, open_checkpoint
from slipway.config import QuantizeConfig
from slipway.export import export
from slipway.jobs import Workspace

OUTPUT: type[Artifact] = Quantized


def quantize(checkpoint: Checkpoint, params: QuantizeConfig, space: Workspace) -> None:
    """Write the quantized model directory into `space.out`. A killed run goes on from `space.work`. Raises what `export` raises."""
    unfinished = space.work / "model"
    summary = export(
        open_checkpoint(checkpoint), model_dir(checkpoint), unfinished, params, {"checkpoint": checkpoint.digest}, space.progress
    )
    for file in unfinished.iterdir():
        file.rename(space.out / file.name)
    (space.out / "summary.json").write_text(json.dumps(summary) + "\n")

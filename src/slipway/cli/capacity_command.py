"""`slipway capacity`: the users that a target serves at once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Overrides

if TYPE_CHECKING:  # the help of a command builds no config
    from slipway.config.target import TargetConfig


def capacity(
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="A row of conf/models, or a model directory.")] = "smollm2-135m",
    weights: Annotated[
        str | None,
        typer.Option(help="bf16, fp8, mxfp4 or nvfp4.", show_default="as a directory stores them; nvfp4 for a row"),
    ] = None,
    target: Annotated[str, typer.Option(help="A row of conf/targets.")] = "spark",
    users: Annotated[int, typer.Option(help="Requests at once.")] = 8,
    context: Annotated[int, typer.Option(help="Tokens of a request, prompt and answer.")] = 8192,
    kv: Annotated[str, typer.Option(help="KV cache: bf16 or fp8.")] = "bf16",
    gpus: Annotated[int, typer.Option(help="GPUs that share every layer.")] = 1,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Say how many users a target serves at once, and the ways out when they are too few; exit 2 when nobody can
    tell."""
    from slipway.config.load import load_config
    from slipway.planning.serving_capacity import Wish, model_in, model_of_row, serving_capacity
    from slipway.system.memory import total_bytes

    def row(name: str) -> TargetConfig:
        return load_config(conf, [f"layers.target=targets/{name}", *(overrides or [])]).target

    asked = row(target)
    others = [row(file.stem) for file in sorted((conf / "targets").glob("*.yaml")) if file.stem != target]
    if Path(model).is_dir():
        served = model_in(Path(model), weights)
    else:
        served = model_of_row(load_config(conf, [f"layers.model=models/{model}"]).model, weights or "nvfp4")
    wish = Wish(users, context, kv, tensor_parallel=gpus)
    plan = serving_capacity(served, wish, asked, [one for one in others if one.gpus], memory=total_bytes())
    tables.show_json(asdict(plan)) if as_json else tables.show_rows(f"{served.name} on {asked.name}", plan.rows())

"""`slipway engine show`: everything about a server that is decided before it starts."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Overrides

if TYPE_CHECKING:  # the help of a command builds no plan
    from slipway.engines.driver import ServePlan


class Action(StrEnum):
    """What to do with the plan of a server."""

    show = "show"


def engine(
    action: Annotated[
        Action, typer.Argument(help="`show`: command, files, environment, memory and notes of a server.")
    ],
    model: Annotated[Path, typer.Argument(help="Hugging Face model directory, quantized or not.")],
    overrides: Overrides = None,
    kind: Annotated[
        str | None, typer.Option(help="A row of conf/engine; default: the config's engine.", show_default=False)
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="A row of conf/targets; default: the config's `serving`.", show_default=False)
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Show how a model would be served, checked against engine, GPU and memory; nothing is started. An image that is
    not pinned yet is named by its tag. Example: `slipway engine show MODEL --kind vllm --target dgx-h100
    engine.slots=32`."""
    from slipway.config.image import ImageConfig
    from slipway.config.load import load_config
    from slipway.engines.choose import resolved
    from slipway.engines.drivers import driver_for

    assert action is Action.show
    layers = [f"layers.engine=engine/{kind}"] if kind else []
    layers += [f"layers.serving=targets/{target}"] if target else []
    config = load_config(conf, [*layers, *(overrides or [])])
    params, _ = resolved(config.engine, config.model, config.quantize, config.serving)
    name = params.image
    image = ImageConfig.row(config.images, "engine.image", name) if name is not None else None
    plan = driver_for(params.kind).draft(model, params, config.serving, image)
    tables.show_json(plan.model_dump(mode="json")) if as_json else show_plan(plan)


def show_plan(plan: ServePlan) -> None:
    """The plan as tables, then its command and files as they are, to be copied."""
    limits = plan.limits
    gpus = limits.tensor_parallel * limits.pipeline_parallel
    memory = [(f"memory of a GPU: {name}", f"{value / 1e9:,.2f} GB") for name, value in plan.memory.items()]
    rows = [
        ("image", plan.image or "none: a program of the machine"),
        ("options checked against", plan.contract or "none"),
        ("weights, computed as", f"{plan.weights}, {plan.computes}"),
        ("requests together, tokens of each", f"{limits.slots} x {limits.context:,}"),
        ("tokens of a step", f"{limits.batched_tokens:,}" if limits.batched_tokens else "the engine's"),
        ("KV cache", limits.kv_dtype),
        ("GPUs", f"{gpus}"),
        *memory,
        ("longest cold start, stop", f"{plan.start_s:,.0f} s, {plan.stop_s:,.0f} s"),
        *(("note", note) for note in plan.notes),
    ]
    tables.show_rows(f"{plan.kind} on {plan.target}", rows)
    typer.echo("\ncommand\n  " + command_lines(plan.argv))
    typer.echo("\nenvironment\n" + "\n".join(f"  {name}={value}" for name, value in plan.environment.items()))
    for name, text in plan.files.items():
        typer.echo(f"\n{name}\n" + "\n".join(f"  {line}" for line in text.splitlines()))


def command_lines(argv: list[str]) -> str:
    """A command with an option and its values a line; places as `{model}` stay as they are."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(word if word.startswith("{") else shlex.quote(word))
    return " \\\n    ".join(" ".join(line) for line in lines)

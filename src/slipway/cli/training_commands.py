"""Commands about training on a target: its recipe, its fastest setting, its container images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import output, tables
from slipway.cli.options import AsJson, Conf, Overrides


def recipe(
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="A row of conf/models.")] = "smollm2-135m",
    method: Annotated[
        str | None, typer.Option(help="qlora, lora or sft.", show_default="qlora, or the method of --train")
    ] = None,
    target: Annotated[str, typer.Option(help="A row of conf/targets.")] = "spark",
    train: Annotated[
        str | None, typer.Option(help="A row of conf/train.", show_default="the one for method and target")
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Print the NeMo AutoModel recipe of a model, a method and a target; exit 2 with the reason when it is refused."""
    from slipway.training.nemo.recipe import to_yaml
    from slipway.training.nemo.request import resolve_recipe

    resolved = resolve_recipe(conf, model, method, target, train, overrides or [])
    tables.show_json(resolved.to_json()) if as_json else typer.echo(to_yaml(resolved.recipe), nl=False)
    output.console(stderr=True).print(resolved.summary(), highlight=False, soft_wrap=True)


def tune(
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="Row of conf/models/.")] = "llama-3.1-8b",
    method: Annotated[
        str, typer.Option(help="qlora or lora: conf/train/nemo-METHOD.yaml; what it says is the baseline.")
    ] = "qlora",
    target: Annotated[str, typer.Option(help="Row of conf/targets/: whose memory, and whose runner.")] = "dgx-h100",
    budget_s: Annotated[float, typer.Option(help="Seconds of everything, start-up included.")] = 300.0,
    model_dir: Annotated[
        Path | None, typer.Option(help="Model directory, instead of model.directory.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Training rows, for their lengths; default: synthetic ones.", show_default=False)
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Probe on this machine's GPU, within the target's memory.")
    ] = False,
    python: Annotated[
        Path | None, typer.Option(help="With --here: the Python that has NeMo.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the fastest setting as a train row.", show_default=False)
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Folder of the probes; on a container's or a cluster's machine too.")
    ] = Path(".slipway/tune"),
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Find the fastest packed length, micro-batch, recomputation, attention and loss that fit the target, by short
    probe runs.
    """
    from slipway.cli.tune import TuneOptions, run_tune
    from slipway.config.load import load_config

    layers = [f"layers.model=models/{model}", f"layers.train=train/nemo-{method}", f"layers.target=targets/{target}"]
    config = load_config(conf, [*layers, *(overrides or [])])
    options = TuneOptions(budget_s, model_dir, data, here, str(python or sys.executable), out, work)
    document = run_tune(config, options, as_json=as_json)
    if as_json:
        tables.show_json(document)


def pin(
    images: Annotated[
        list[str] | None, typer.Argument(help="Rows of conf/images.yaml; default: all.", show_default=False)
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="Move the row to this tag first; default: the tag it has.", show_default=False)
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Read the digest of every architecture of the training images from their registry into conf/images.yaml; commit
    the result.
    """
    from slipway.containers.images import pin as pin_images

    digests = pin_images(conf, images or [], tag)
    tables.show_json(digests) if as_json else tables.show_pins(digests)

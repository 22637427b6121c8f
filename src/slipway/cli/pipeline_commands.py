"""Commands that run the pipeline, and the config that they run with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Overrides


def run(overrides: Overrides = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Run the whole chain: data, fine-tune, merge, quantize, engine, evaluate, gate, promote.

    What is measured follows the data, and the run says why (evaluate.task, evaluate.metrics); what must be reached is
    the gate's (layers.gate, gate.floors). `slipway config` lists every key.
    """
    from slipway.cli.flows import run_flow
    from slipway.config.load import load_config

    load_config(conf, overrides or [])
    run_flow(conf, overrides or [], as_json)


def stage(
    name: Annotated[
        str,
        typer.Argument(
            help="fetch, prepare, train_cpu, train_nemo, merge, quantize, engine, reference, evaluate or gate."
        ),
    ],
    job: Annotated[Path, typer.Argument(help="stage.json: inputs, params, where the artifact goes.")],
) -> None:
    """Run one stage in this process from its job file; prints the artifact's directory."""
    from slipway.pipeline.execute import execute

    typer.echo(execute(name, job))


def config(overrides: Overrides = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Show the resolved config: every key, its value and what it means."""
    from slipway.config.load import load_config

    resolved = load_config(conf, overrides or [])
    tables.show_json(resolved.model_dump(mode="json")) if as_json else tables.show_config(resolved)

"""Commands on model directories: quantize and merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson


def quantize(
    model: Annotated[Path, typer.Argument(help="Hugging Face model directory (safetensors in bf16, fp16 or fp32).")],
    out: Annotated[Path, typer.Option(help="New directory; an unfinished one is gone on with.")],
    adapter: Annotated[
        Path | None, typer.Option(help="PEFT LoRA adapter, merged on the way.", show_default=False)
    ] = None,
    fmt: Annotated[str, typer.Option("--format", help="nvfp4, nvfp4a16, mxfp4, fp8 or fp8-dynamic.")] = "nvfp4a16",
    method: Annotated[str, typer.Option(help="max, mse or gptq.")] = "max",
    layout: Annotated[str, typer.Option(help="modelopt or compressed-tensors.")] = "modelopt",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="JSONL with `messages` or `text`: for nvfp4, fp8, mse, gptq, --set kv_cache=fp8.", show_default=False
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the quantize section, `key=value`.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Quantize a model, merging an adapter on the way: one pass, bounded memory, resumable. Exit 0 only when the index
    is written and checked.
    """
    from slipway.cli.progress import live
    from slipway.config.load import section
    from slipway.store.code_ahead import start_code_digest
    from slipway.system.cuda_context import start_context

    params = section("quantize", {"format": fmt, "method": method, "layout": layout}, settings or [])
    if params.device != "cpu" and start_context():  # both beside the next import, which is torch's
        start_code_digest("streaming.export")
    from slipway.streaming.directories import quantize_directory

    with live("quantize") as progress:
        figures = quantize_directory(model, adapter, calibration, out, params, progress)
    tables.show_json(figures) if as_json else tables.show_figures(out, figures)


def merge(
    model: Annotated[Path, typer.Argument(help="Hugging Face model directory.")],
    adapter: Annotated[Path, typer.Argument(help="PEFT LoRA adapter.")],
    out: Annotated[Path, typer.Option(help="New directory; an unfinished one is gone on with.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="memory_budget_gb, workers, device or max_shard_gb, `key=value`.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into a model in bf16: one pass, bounded memory, resumable, the same bytes on every machine."""
    from slipway.cli.progress import live
    from slipway.config.load import section
    from slipway.store.code_ahead import start_code_digest
    from slipway.system.cuda_context import start_context

    params = section("quantize", {}, settings or [])
    if params.device != "cpu" and start_context():  # both beside the next import, which is torch's
        start_code_digest("streaming.export")
    from slipway.streaming.directories import merge_directory

    with live("merge") as progress:
        figures = merge_directory(model, adapter, out, params, progress)
    tables.show_json(figures) if as_json else tables.show_figures(out, figures)

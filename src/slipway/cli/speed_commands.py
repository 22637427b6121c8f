"""Commands on endpoints: bench, which works without a pipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson
from slipway.errors import ConfigError


def bench(
    url: Annotated[str, typer.Argument(help="Base of an OpenAI-compatible API; /v1 is added to a bare host.")],
    model: Annotated[
        str | None, typer.Option(help="Its name there; left out where the endpoint serves one.", show_default=False)
    ] = None,
    concurrency: Annotated[str, typer.Option(help="Callers at the same time, one run each.")] = "1,8",
    requests: Annotated[
        int, typer.Option(min=4, help="Requests counted per run: a p95 is shown from 100 on, a p99 from 300.")
    ] = 100,
    output_tokens: Annotated[
        str, typer.Option(help="Tokens of an answer, from-to; equal lengths can lock callers in step.")
    ] = "48-64",
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="JSONL with `messages`, `prompt` or `text`; else 512 texts of 96 words without a common beginning.",
            show_default=False,
        ),
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Longest wait for one answer, seconds.")] = 120,
    key_variable: Annotated[
        str | None, typer.Option(help="Environment variable that holds the API key.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast an endpoint is: time to first token, inter-token latency, throughput, errors. Greedy answers
    under a steady load; tokens are those that the server counts."""
    from slipway.cli.progress import live
    from slipway.evaluation.bench import bench as measured
    from slipway.evaluation.bench import own_prompts, parse_lengths, parse_levels, read_prompts

    levels, lengths, key = parse_levels(concurrency), parse_lengths(output_tokens), _key(key_variable)
    texts = read_prompts(prompts) if prompts else own_prompts()
    with live("bench") as progress:
        document = measured(url, model, levels, requests, lengths, texts, timeout_s, key, progress)
    tables.show_json(document) if as_json else _show_bench(document)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not (key := os.environ.get(variable)):
        raise ConfigError(f"environment variable {variable}", "not set", "an API key", f"export {variable}=...")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"environment variable {variable}", "not printable ASCII", "an API key", "set it again")
    return key


def _show_bench(document: dict[str, Any]) -> None:
    from rich.markup import escape

    from slipway.cli.output import console
    from slipway.report.markdown import SPEED_COLUMNS, speed_cells

    out, runs = console(), document["runs"]
    table = tables.make_table(*SPEED_COLUMNS)
    for run in runs:
        table.add_row(*map(escape, speed_cells(run)))
    out.print(f"{document['model']} at {document['url']}, by {document['client']}", highlight=False, markup=False)
    out.print(table)
    for line in _remarks(runs):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _remarks(runs: list[dict[str, Any]]) -> list[str]:
    """What a reader must know of these figures."""
    lines = [
        f"{run['errors']} errors at {run['concurrency']}: {reason} ({count})"
        for run in runs
        for reason, count in run["error_reasons"].items()
    ]
    lines += [
        f"at {run['concurrency']}: {run['short']} answers ended before their length: the endpoint heeds its end token"
        for run in runs
        if run["short"]
    ]
    lines += [
        f"at {run['concurrency']}: this client used {run['client_cpu']:.0%} of a core: it may be what was measured"
        for run in runs
        if run["client_cpu"] > 0.8
    ]
    if any("p95" not in run["ttft_ms"] for run in runs):
        lines.append("-: too few requests; a p95 needs --requests 100, a p99 300")
    return lines

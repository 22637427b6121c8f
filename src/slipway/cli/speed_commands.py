"""Commands on endpoints and measurements: bench and compare. Both work without a pipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf
from slipway.errors import ConfigError, ResourceError
from slipway.system.files import write_atomic

if TYPE_CHECKING:
    from rich.table import Table

    from slipway.evaluation.comparison import Side


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
    model_dir: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the model that is served, for the roofline of --bandwidth.", show_default=False
        ),
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(min=0.1, help="Memory bandwidth of one GPU, or of the CPU, GB/s.", show_default=False),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that share the model.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Measure how fast an endpoint is: time to first token, inter-token latency, throughput, errors. Greedy answers
    under a steady load; tokens are those that the server counts. `slipway compare` reads what `--json` prints."""
    from slipway.cli.progress import live
    from slipway.evaluation.bench import ServedModel, own_prompts, parse_lengths, parse_levels, read_prompts
    from slipway.evaluation.bench import bench as measured
    from slipway.planning.roofline import roof

    levels, lengths, key = parse_levels(concurrency), parse_lengths(output_tokens), _key(key_variable)
    texts = read_prompts(prompts) if prompts else own_prompts()
    if (model_dir is None) != (bandwidth is None):
        raise ConfigError("roofline", "one of --model-dir and --bandwidth", "both or none", "give the other one too")
    served = ServedModel(model_dir, bandwidth, gpus) if model_dir and bandwidth else None
    if served:
        roof(served.directory, served.bandwidth_gb_s, 1, 1)  # refused before the endpoint is asked
    with live("bench") as progress:
        document = measured(url, model, levels, requests, lengths, texts, timeout_s, key, progress, served)
    tables.show_json(document) if as_json else _show_bench(document)


def compare(
    a: Annotated[
        str,
        typer.Argument(
            help="What `slipway bench --json` printed, the directory of an evaluation, or, of this store, digits of a "
            "version (`slipway history`) or of an evaluation, or the id of the run that a release came of."
        ),
    ],
    b: Annotated[str, typer.Argument(help="The same kind of measurement of the other version.")],
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")] = 0.95,
    page: Annotated[
        Path | None, typer.Option(help="Write it as one HTML page too, with plots of both.", show_default=False)
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Put two versions side by side: quality in pairs of the same items with intervals, speed as ratios. Settings that
    differ (prompts, lengths, sampling, client, test set, ...) are refused by name: exit code 2."""
    from slipway.evaluation.comparison import compare as compared
    from slipway.evaluation.comparison import read_side

    sides = read_side(_measurement(a, conf)), read_side(_measurement(b, conf))
    document = compared(*sides, confidence)
    if page is not None:
        _write_page(page, *sides, document)
    tables.show_json(document) if as_json else _show_comparison(document)


def _measurement(word: str, conf: Path) -> Path:
    """The place of a measurement. The config is read only for a word that is no path: files compare anywhere."""
    if Path(word).exists() or not (conf / "base.yaml").is_file():
        return Path(word)
    from slipway.config.load import load_config
    from slipway.ops.compared import measurement

    return measurement(word, load_config(conf))


def _write_page(file: Path, a: Side, b: Side, document: dict[str, Any]) -> None:
    try:
        from slipway.report.comparison_page import comparison_page
    except ImportError as err:
        raise ResourceError(
            "plots of --page", str(err), "matplotlib", "`pip install 'slipway[orchestrate]'`, or leave --page out"
        ) from err
    try:
        write_atomic(file, comparison_page(a, b, document))
    except OSError as err:
        raise ConfigError("--page", f"{file}: {err.strerror}", "a file that can be written", "choose another") from err


def _show_comparison(document: dict[str, Any]) -> None:
    from slipway.cli.output import console

    out = console()
    for name in ("a", "b"):
        out.print(f"{name.upper()}: {document[name]}", highlight=False, markup=False, soft_wrap=True)
    if document["quality"]:
        out.print("", _difference_table(document))
    if document["speed"]:
        out.print("", _ratio_table(document["speed"]))
    for line in document["left_out"]:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _difference_table(document: dict[str, Any]) -> Table:
    from rich.markup import escape

    from slipway.report.markdown import estimate

    level = f"{100 * document['confidence']:.4g}%"
    table = tables.make_table("metric", f"B better by ({level} interval)", "p", "n")
    for entry in document["quality"].values():
        table.add_row(escape(entry["title"]), estimate(entry, signed=True), f"{entry['p']:.3g}", str(entry["n"]))
    return table


def _ratio_table(rows: list[dict[str, Any]]) -> Table:
    table = tables.make_table("callers", "n of A, B", "figure", "A", "B", "B / A")
    for row in rows:
        for name, figure in row["figures"].items():
            ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.3f}"
            cells = (f"{figure['a']:.1f}", f"{figure['b']:.1f}", ratio)
            table.add_row(str(row["concurrency"]), ", ".join(map(str, row["n"])), name.replace("_", " "), *cells)
    return table


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
        f"at {run['concurrency']}: {run['of_roof']:.1%} of the roofline, {run['roof']['tokens_per_s']:,.0f} tokens/s"
        for run in runs
        if "of_roof" in run
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

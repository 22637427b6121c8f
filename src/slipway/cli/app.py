"""The command line. Each command parses, makes one library call and shows the result."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slipway import __version__, errors
from slipway.cli import views

EXIT_CODES = """Exit codes: 0 done; 1 a bug in Slipway; 2 bad input (config, data, checkpoint, adapter) or a damaged record;
3 the gate did not pass; 4 the machine lacks something (disk, memory, port, compiler, service); 5 a stage or an engine died;
129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM."""

app = typer.Typer(
    name="slipway", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help="Fine-tune a language model and ship it, as one tracked, resumable pipeline.", epilog=EXIT_CODES,
)  # fmt: skip

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Config overrides, `section.key=value`.", show_default=False)
]
Conf = Annotated[Path, typer.Option(help="Folder with base.yaml and its layers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command(epilog="Example: `slipway run train.epochs=2 layers.quantize=formats/fp8`")
def run(overrides: Overrides = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Run the whole chain: data, fine-tune, merge, quantize, engine, evaluate, gate, promote."""
    from slipway.cli.flows import run_flow
    from slipway.config.load import load_config

    load_config(conf, overrides or [])
    run_flow(conf, overrides or [], as_json)


@app.command(epilog="Example: `slipway stage merge .slipway/work/merge-1f3a/job.json`")
def stage(
    name: Annotated[str, typer.Argument(help="fetch, prepare, train, merge, quantize, engine, evaluate or gate.")],
    job: Annotated[Path, typer.Argument(help="job.json: inputs, params, where the artifact goes.")],
) -> None:
    """Run one stage in this process from its job file; prints the artifact's directory."""
    from slipway.pipeline.execute import execute

    typer.echo(execute(name, job))


@app.command(
    epilog="Example: `slipway quantize models/llama-8b --adapter adapters/support --format nvfp4a16 --out out/llama-8b-nvfp4`"
)
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
    """Quantize a model, merging an adapter on the way: one pass, bounded memory, resumable. Exit 0 only when the index is written and checked."""
    from slipway.cli.progress import live
    from slipway.config.load import section
    from slipway.streaming.directories import quantize_directory

    given = {"format": fmt, "method": method, "layout": layout}
    with live("quantize") as progress:
        figures = quantize_directory(
            model, adapter, calibration, out, section("quantize", given, settings or []), progress
        )
    views.show_json(figures) if as_json else views.show_figures(out, figures)


@app.command(epilog="Example: `slipway merge models/llama-8b adapters/support --out out/llama-8b-support`")
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
    """Merge an adapter into a model in bf16: one pass, bounded memory, resumable, bit-equal to PEFT's merge in fp32."""
    from slipway.cli.progress import live
    from slipway.config.load import section
    from slipway.streaming.directories import merge_directory

    with live("merge") as progress:
        figures = merge_directory(model, adapter, out, section("quantize", {}, settings or []), progress)
    views.show_json(figures) if as_json else views.show_figures(out, figures)


@app.command(
    epilog="Example: `slipway tune --model llama-3.1-8b --method qlora --target dgx-h100 --out conf/train/tuned.yaml`"
)
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
    """Find the fastest packed length, micro-batch, recomputation, attention and loss that fit the target, by short probe runs."""
    from slipway.cli.tune_command import TuneOptions, run_tune
    from slipway.config.load import load_config

    layers = [f"layers.model=models/{model}", f"layers.train=train/nemo-{method}", f"layers.target=targets/{target}"]
    config = load_config(conf, [*layers, *(overrides or [])])
    options = TuneOptions(budget_s, model_dir, data, here, str(python or sys.executable), out, work)
    found = run_tune(config, options, as_json=as_json)
    if as_json:
        views.show_json(found)


@app.command(epilog="Example: `slipway config train.epochs=2 --json`")
def config(overrides: Overrides = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Show the resolved config: every key, its value and what it means."""
    from slipway.config.load import load_config

    resolved = load_config(conf, overrides or [])
    views.show_json(resolved.model_dump(mode="json")) if as_json else views.show_config(resolved)


@app.command(epilog="Example: `slipway recipe --model llama-3.3-70b --method qlora --target spark train.max_steps=500`")
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
    views.show_json(resolved.to_json()) if as_json else typer.echo(to_yaml(resolved.recipe), nl=False)
    Console(stderr=True).print(resolved.summary(), highlight=False, soft_wrap=True)


@app.command(epilog="Example: `slipway status --json`")
def status(overrides: Overrides = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """What serves, which releases are kept, what the store holds, which training runs where, and anything left over."""
    from slipway.config.load import load_config
    from slipway.ops.status import overview

    found = overview(load_config(conf, overrides or []))
    views.show_json(found) if as_json else views.show_status(found)


@app.command(epilog="Example: `slipway promote` or `slipway promote .slipway/verdict/3f9c...`")
def promote(
    verdict: Annotated[
        Path | None, typer.Argument(help="Verdict artifact; default: the newest in the store.", show_default=False)
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Promote the candidate of a passed verdict to the target; the champion keeps serving if anything fails."""
    from slipway.cli.flows import run_promotion

    run_promotion("promote", conf, verdict, as_json)


@app.command(epilog="Example: `slipway rollback`")
def rollback(conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Bring the previous release back: started beside the champion, checked, then switched."""
    from slipway.cli.flows import run_promotion

    run_promotion("rollback", conf, None, as_json)


@app.command(epilog="Example: `slipway stop`")
def stop(conf: Conf = Path("conf")) -> None:
    """Stop the engine that serves on the target; its release stays and `slipway promote` or `rollback` starts one again."""
    from slipway.config.load import load_config
    from slipway.deployment.state import stop as stop_target

    stop_target(load_config(conf).deploy)


@app.command(epilog="Example: `slipway doctor --json`")
def doctor(
    conf: Conf = Path("conf"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only what needs attention.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check python, compiler, disk, memory, ports, GPU and packages, and say what to do. Exit 4 when something must be mended."""
    from slipway.config.load import load_config
    from slipway.ops.doctor import check

    checks = check(load_config(conf))
    views.show_json([c.to_json() for c in checks]) if as_json else views.show_checks(checks, quiet=quiet)
    if any(c.status == "fail" for c in checks):
        raise typer.Exit(errors.ResourceError.exit_code)


@app.command("build-engine", epilog="Example: `slipway build-engine`")
def build_engine(conf: Conf = Path("conf")) -> None:
    """Build the embedded engine now (once per machine, some minutes); runs and tests then find it in the cache."""
    from slipway.cli.prebuild import prebuild
    from slipway.config.load import load_config

    typer.echo(prebuild(load_config(conf)))


@app.command(epilog="Example: `slipway pin` or `slipway pin nemo-automodel --tag 26.10.00`")
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
    """Read the digest of every architecture of the training images from their registry into conf/images.yaml; commit the result."""
    from slipway.containers.images import pin as pin_images

    found = pin_images(conf, images or [], tag)
    views.show_json(found) if as_json else views.show_pins(found)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: errors raised on purpose become one message and their exit code; anything else is a bug, shown whole."""
    try:
        app(standalone_mode=True)
    except errors.SlipwayError as err:
        if "--json" in sys.argv:
            views.show_json({"error": err.to_json()})
        else:
            views.show_error(err, Console(stderr=True))
        sys.exit(err.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001 (the last place: report a bug whole)
        traceback.print_exc()
        sys.stderr.write("This is a bug in Slipway: please report it with the text above.\n")
        sys.exit(1)

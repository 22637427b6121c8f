"""Commands that run the pipeline, and the config that they run with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Assume, Conf, Overrides
from slipway.errors import ConfigError


def run(
    overrides: Overrides = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; on a terminal it shows the plan and asks.")] = False,
    assume: Assume = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Run the whole chain: data, fine-tune, merge, quantize, engine, evaluate, gate, promote.

    What is measured follows the data, and the run says why (evaluate.task, evaluate.metrics); what must be reached is
    the gate's (layers.gate, gate.floors). `slipway config` lists every key. In place of overrides it takes a plan that
    `slipway plan --out` saved, and refuses it where data, code, config or champion moved since. It begins only where no
    row of the plan's preflight fails.
    """
    from slipway.cli.confirm import confirm_run, is_person
    from slipway.cli.flows import run_flow
    from slipway.config.load import load_config

    words = [*(overrides or []), *([f"model.assume={assume}"] if assume else [])]
    asks = not yes and not as_json and is_person()
    if words and _is_plan(words[0]):
        conf, words = _of_plan(Path(words[0]), words[1:], asks=asks)
    elif asks:
        confirm_run(conf, words)
    load_config(conf, words)
    run_flow(conf, words, as_json)


def _is_plan(word: str) -> bool:
    """Whether a word names a saved plan: `key=value` does not, unless a folder stands before the `=`."""
    key, equals, _ = word.partition("=")
    return not equals or "/" in key


def _of_plan(file: Path, more: list[str], *, asks: bool) -> tuple[Path, list[str]]:
    """The conf folder and the overrides of a saved plan, after it was shown and somebody said yes where `asks`. Raises
    ConfigError for overrides beside it, and when what it was made for moved, and what `confirm` raises."""
    from slipway.cli.confirm import confirm
    from slipway.config.load import load_config
    from slipway.ops.chain import plan as planned

    if more:
        raise ConfigError(
            "overrides", " ".join(more), f"none beside the plan {file}, which holds its own", "plan again"
        )
    if not file.is_file():
        value = "is a folder" if file.is_dir() else "is no regular file" if file.exists() else "no such file"
        expected = "a file that `slipway plan --out` wrote, or overrides key=value"
        raise ConfigError(f"plan {file}", value, expected, "see `slipway run --help`")
    saved = planned.read_plan(file)
    conf, root = Path(saved.conf), Path.cwd()
    config, chosen = planned.as_run(load_config(conf, saved.overrides))
    now = planned.plan(config, root)
    planned.require_unmoved(saved, now.world(config, root), file)
    if asks:
        confirm(now, chosen)
    return conf, saved.overrides


def stage(
    name: Annotated[
        str,
        typer.Argument(
            help="fetch, prepare, train_cpu, train_nemo, merge, quantize, engine, reference, evaluate, agent_eval, "
            "answer_eval or gate; of retrieval corpus, chunk, embed, index, search_eval or choose."
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

"""Commands about the data of a run: what is learnt of its rows, and a version of them published."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from slipway.cli import output, tables
from slipway.cli.options import AsJson, Conf, Overrides

BEGIN, END = ">>>", "<<<"  # marks that show without colours, and when text is copied


class Action(StrEnum):
    """What to do with the data."""

    show = "show"
    publish = "publish"


def data(
    action: Annotated[
        Action,
        typer.Argument(
            help="`show`: rows as the trainer reads them, what is learnt marked. `publish`: push the version of "
            "`data.raw` that HEAD records to DVC's remote, and tell the deployment retrain-on-data of it."
        ),
    ],
    overrides: Overrides = None,
    row: Annotated[
        int | None, typer.Option(help="This row of the training split, from 1; default: three.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Rows in Slipway's own form, in place of the run's training split.", show_default=False),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Directory with tokenizer and chat template, in place of the run's model.", show_default=False
        ),
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Show rows as the trainer reads them: with the model's chat template around them, and the tokens that are learnt
    marked, `>>>like this<<<`. Both trainers learn exactly these (`train.learn`).

    Or publish a version of the data: `dvc add`, `git commit`, then `slipway data publish`.
    """
    if action is Action.publish:
        _refuse_beside_publish(row=row, file=file, model=model)
        _publish(conf, overrides or [], as_json)
        return
    from slipway.cli.progress import live
    from slipway.config.load import load_config
    from slipway.ops.learnt_rows import learnt_rows

    config = load_config(conf, overrides or [])
    with live("data") as progress:
        document = learnt_rows(
            config,
            Path.cwd(),
            rows_file=file,
            model=model,
            number=row,
            on_event=lambda event: progress.note(event["text"]) if event["event"] == "note" else None,
        )
    tables.show_json(document) if as_json else show_rows(document)


def _refuse_beside_publish(**options: object) -> None:
    """Raise ConfigError for an option that says which rows to show."""
    if given := [f"--{name}" for name, value in options.items() if value is not None]:
        from slipway.errors import ConfigError

        raise ConfigError(
            "slipway data publish", given[0], "none of show's options", "set data.raw=FILE to publish another"
        )


def _publish(conf: Path, overrides: list[str], as_json: bool) -> None:
    from slipway.cli.progress import live
    from slipway.config.load import load_config
    from slipway.ops.data_events import publish_and_announce
    from slipway.ops.services import Services

    config, services = load_config(conf, overrides), Services.here()
    with live("publish") as progress:
        progress.note(f"dvc push {config.data.raw}")
        version = publish_and_announce(config, services)
    if as_json:
        tables.show_json(version)
        return
    commit = f" of commit {version['revision'][:12]}" if version["revision"] else ""
    typer.echo(f"published {version['path']} {version['digest']}{commit}: retrain-on-data was told")


def show_rows(document: dict[str, Any]) -> None:
    """Rows as text: learnt runs between marks, in bold where there are colours."""
    from rich.text import Text

    out = output.console()
    for one in document["rows"]:
        title = f"row {one['row']} of {document['of']} ({one['id']})"
        if "problem" in one:
            out.print(Text(f"{title}: {one['problem']}. Way out: {one['way_out']}", style="red"), soft_wrap=True)
            continue
        learnt = f"{one['learnt']} of {one['tokens']} tokens are learnt (train.learn={document['learn']})"
        out.print(Text(f"{title}: {learnt}", style="bold"), soft_wrap=True)
        text = Text()
        for part in one["segments"]:
            shown = f"{BEGIN}{part['text']}{END}" if part["learnt"] else part["text"]
            text.append(shown, style="bold green" if part["learnt"] else "dim")
        out.print(text, soft_wrap=True)
        for warning in one["warnings"]:
            out.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
        out.print()

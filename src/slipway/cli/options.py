"""Arguments that most commands share. Short because every module of commands imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Config overrides, `section.key=value`; `layers=NAME` is a preset of conf/presets.", show_default=False
    ),
]
Conf = Annotated[Path, typer.Option(help="Folder with base.yaml and its layers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
VerdictName = Annotated[
    Path | None,
    typer.Argument(
        help="Verdict: a directory, or first digits of its digest; default: the newest of this line.",
        show_default=False,
    ),
]

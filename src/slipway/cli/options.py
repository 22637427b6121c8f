"""Arguments that most commands share. Under 30 lines: it is what every module of commands imports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Config overrides, `section.key=value`.", show_default=False)
]
Conf = Annotated[Path, typer.Option(help="Folder with base.yaml and its layers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

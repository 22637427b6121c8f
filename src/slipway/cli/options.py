"""Arguments that most commands share. Short because every module of commands imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Config overrides, `section.key=value`; `layers=NAME` is a preset of conf/presets.", show_default=False
    ),
]
Conf = Annotated[Path, typer.Option(help="Folder with base.yaml and its layers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Assume = Annotated[
    Literal["llama"] | None,
    typer.Option(help="Plan training memory of an unknown architecture as if it were this one.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Config override, `key=value` or `layers=NAME`.", show_default=False),
]
VerdictName = Annotated[
    Path | None,
    typer.Argument(
        help="Verdict: directory or first digits of its digest; or version or alias of this line's registered model; "
        "default: the newest verdict of this line.",
        show_default=False,
    ),
]
EndpointUrl = Annotated[
    str | None,
    typer.Option("--url", help="OpenAI-compatible endpoint.", show_default="what the local target serves"),
]
EndpointModel = Annotated[
    str | None,
    typer.Option("--model", help="Its name there; left out where the endpoint serves one.", show_default=False),
]
KeyVariable = Annotated[
    str | None,
    typer.Option("--key-variable", help="Environment variable that holds the API key.", show_default=False),
]
AnswerTimeout = Annotated[float, typer.Option("--timeout-s", min=0.1, help="Longest wait for one answer, seconds.")]

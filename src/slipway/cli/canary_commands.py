"""Commands of a candidate on real traffic, and of captured prompts."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, VerdictName
from slipway.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Action(StrEnum):
    """What to do about captured prompts."""

    on = "on"
    off = "off"
    show = "show"
    status = "status"


def canary(
    target: Annotated[str, typer.Argument(help="Row of conf/deploy/.")],
    verdict: VerdictName = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="The candidate gets a copy of each request; answers are judged in pairs.")
    ] = False,
    weight: Annotated[
        int | None,
        typer.Option("--weight", min=1, max=50, help="Percent of the requests go to it.", show_default=False),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Captured prompts, where memory holds one engine only.")
    ] = False,
    time: Annotated[str, typer.Option("--for", metavar="TIME", help="At most so long: 90s, 30m, 2h, 1d.")] = "2h",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Config override, `deploy.canary.judge.url=...`.", show_default=False),
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Promote a candidate by way of a canary: beside the champion for a time, then switched to, or undone.

    `--mirror` ends as soon as it has decided. Answers that differ need a judge (`deploy.canary.judge`). What decides
    against the candidate, or does not decide, ends with exit code 3, and the champion keeps serving.
    """
    from slipway.cli.flows import run_promotion

    ways = [name for name, chosen in (("mirror", mirror), ("weight", weight is not None), ("replay", replay)) if chosen]
    if len(ways) != 1:
        given = " and ".join(f"--{way}" for way in ways) or "none"
        raise ConfigError("way of the canary", given, "one of --mirror, --weight N, --replay", "choose one")
    chosen = [
        f"layers.deploy=deploy/{target}",
        f"deploy.canary.way={ways[0]}",
        f"deploy.canary.for_s={seconds_of(time)}",
    ]
    chosen += [f"deploy.canary.share={weight}"] if weight is not None else []
    run_promotion("promote", conf, [*chosen, *(settings or [])], verdict, as_json)


def capture(
    action: Annotated[Action, typer.Argument(help="`on`, `off`, `show` or `status`.")],
    target: Annotated[str, typer.Argument(help="Row of conf/deploy/.")],
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="With `show`: prompts, the newest.")] = 20,
    forget: Annotated[bool, typer.Option("--forget", help="With `off`: delete what was captured.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Config override, `key=value`.", show_default=False)
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Turn the capture of prompts on a target on or off, or show what was captured. It is off until somebody says `on`.

    Prompts are stored on the target only, for `deploy.capture.days` and in `deploy.capture.megabytes`, in files for
    their owner. Keys, mail addresses, telephone, card and account numbers are taken out first, as far as their form
    shows; names and whatever else a person writes stay.
    """
    from slipway.config.load import load_config
    from slipway.deployment.target import session, settings_of

    params = load_config(conf, [f"layers.deploy=deploy/{target}", *(settings or [])]).deploy
    document = {
        "do": action.value,
        "most": most,
        "forget": forget,
        "days": params.capture.days,
        "megabytes": params.capture.megabytes,
        "settings": settings_of(params),
    }
    with session(params) as agent:
        result = agent.call("capture", document, lambda _: None)
    if as_json:
        tables.show_json(result)
        return
    for row in result["prompts"]:
        typer.echo(f"{row['at']}  {row['request']}")
    typer.echo(sentence(target, result["status"]))


def sentence(target: str, status: dict[str, object]) -> str:
    """What a target captures and holds, for a person."""
    held = f"{status['files']} files, {int(str(status['bytes'])) / 1e6:.2f} MB"
    if not status["on"]:
        return f"{target}: capture is off; {held}"
    kept = f"kept {status['days']:g} days and {status['megabytes']:g} MB at most"
    return f"{target}: prompts are captured since {status['since']} (by {status['by']}), {kept}; {held}"


def seconds_of(text: str) -> float:
    """`90s`, `30m`, `2h`, `1d` in seconds. Raises ConfigError for anything else."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])", text)
    if match is None or float(match[1]) == 0:
        raise ConfigError("--for", text[:100], "a time: 90s, 30m, 2h, 1d", "give such a time")
    return float(match[1]) * _UNITS[match[2]]

"""`slipway agent`: an agent on a served model, in the simulated home. What stands on a target is called agent as well,
and has no command."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli import tables
from slipway.cli.options import AnswerTimeout, AsJson, Conf, EndpointModel, EndpointUrl, KeyVariable
from slipway.cli.served_endpoint import Endpoint, served_endpoint
from slipway.errors import ConfigError

if TYPE_CHECKING:
    from slipway.agents.turns import Turn
    from slipway.config.agent import AgentConfig
    from slipway.config.load import Config

LAYER = "layers.agent=agent/home"


class Action(StrEnum):
    """What to do with an agent."""

    run = "run"
    eval = "eval"
    tasks = "tasks"


def agent(
    action: Annotated[
        Action,
        typer.Argument(
            help="`run`: carry out requests; `eval`: tasks with their end states; `tasks`: make tasks of test rows."
        ),
    ],
    requests: Annotated[
        list[str] | None,
        typer.Argument(help="With `run`: requests, turns of one conversation.", show_default=False),
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="With `eval`: JSONL with a task a line.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With `tasks`: JSONL with the test rows.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With `tasks`: file to write; with `eval`: folder for items, traces and metrics.", show_default=False
        ),
    ] = None,
    url: EndpointUrl = None,
    model: EndpointModel = None,
    key_variable: KeyVariable = None,
    callers: Annotated[int, typer.Option(min=1, max=256, help="With `eval`: tasks at the same time.")] = 4,
    timeout_s: AnswerTimeout = 120,
    trace: Annotated[bool, typer.Option("--trace", help="With `run`: what the model wrote, step by step.")] = False,
    seed: Annotated[int, typer.Option(help="With `run`: the state that the home starts in.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Config override, `agent.kind=tools`.", show_default=False),
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Let an agent on a served model carry out requests in a simulated home, or evaluate it: a task is solved when the
    home's end state is exactly as expected and nothing else has changed. docs/agents.md.

    `slipway agent eval` ends with exit code 3 where something that must stay was changed.
    """
    from slipway.config.load import load_config

    config = load_config(conf, [LAYER, *(settings or [])])

    def endpoint() -> Endpoint:
        return served_endpoint(config, url, model, timeout_s, key_variable)

    if action is Action.tasks:
        _write_tasks(config, _needed(data, "--data", "a file of test rows"), _needed(out, "--out", "a file"), as_json)
    elif action is Action.run:
        if not requests:
            raise ConfigError("slipway agent run", "no request", "at least one", '`slipway agent run "dim the den"`')
        _run(config, requests, endpoint(), timeout_s, trace, seed, as_json)
    else:
        if requests:
            raise ConfigError("slipway agent eval", requests[0], "no request beside --tasks", "leave it out")
        file = _needed(tasks, "--tasks", "a file of tasks")
        _evaluate(config, file, endpoint(), timeout_s, callers, out, as_json)


def _needed(value: Path | None, option: str, what: str) -> Path:
    if value is None:
        raise ConfigError(option, "not given", what, "`slipway agent --help`")
    return value


def _run(
    config: Config, requests: list[str], endpoint: Endpoint, timeout_s: float, trace: bool, seed: int, as_json: bool
) -> None:
    """Each request in turn; what it did and what changed in the home."""
    from slipway.agents.home import changes, new_home, read_plan
    from slipway.agents.making import agents_at

    plan = read_plan(_home(config.agent))
    home = new_home(plan, seed)
    documents = []
    with agents_at(*endpoint[:2], config.agent, timeout_s, endpoint[2]) as agent_in:
        conversation = agent_in(home)
        for request in requests:
            before, readings = home.copy(), len(home.readings)
            turn = conversation.turn(request)
            changed = changes(before.state, home.state)
            documents.append({**turn.to_json(), "changes": changed, "readings": home.readings[readings:]})
            if not as_json:
                _show_turn(turn, changed, trace)
    if as_json:
        tables.show_json({"url": endpoint[0], "model": endpoint[1], "turns": documents})


def _show_turn(turn: Turn, changed: dict[str, Any], trace: bool) -> None:
    typer.echo(turn.request)
    for step in turn.steps:
        if trace:
            for one in step.attempts:
                typer.echo(f"  model   {one['answer']}" + (f"   ({one['problem']})" if one["problem"] else ""))
        typer.echo(f"  {step.line()}" + ("   (from memory)" if step.by == "memory" else ""))
    if turn.stopped:
        typer.echo(f"  stopped: {turn.stopped}")
    if not turn.steps and turn.text:
        typer.echo(f"  {turn.text}")
    for name, value in list(changed.items())[:12]:
        typer.echo(f"    {name} = {json.dumps(value)}")
    typer.echo(f"    and {len(changed) - 12} more changes" if len(changed) > 12 else "", nl=len(changed) > 12)
    if not changed:
        typer.echo("    nothing changed")


def _home(config: AgentConfig) -> Path | None:
    return Path(config.home) if config.home else None


def _write_tasks(config: Config, rows: Path, out: Path, as_json: bool) -> None:
    from slipway.agents.home import read_plan
    from slipway.agents.task_templates import tasks_of
    from slipway.agents.tasks import kinds_of, write_tasks
    from slipway.data.rows import read_rows
    from slipway.system.files import write_atomic

    made = tasks_of(list(read_rows(rows)), read_plan(_home(config.agent)), config.agent.tasks)
    write_atomic(out, write_tasks(made))
    counts = {kind: sum(task.kind == kind for task in made) for kind in kinds_of(made)}
    if as_json:
        tables.show_json({"file": str(out), "tasks": len(made), "kinds": counts})
    else:
        typer.echo(f"{out}: {len(made)} tasks ({tables.counted(counts)})")


def _evaluate(
    config: Config, file: Path, endpoint: Endpoint, timeout_s: float, callers: int, out: Path | None, as_json: bool
) -> None:
    from slipway.agents.home import read_plan
    from slipway.agents.making import agents_at
    from slipway.agents.tasks import read_tasks
    from slipway.cli.progress import live
    from slipway.evaluation.agent_run import run_tasks
    from slipway.evaluation.agent_tasks import summarize, write_evaluation

    plan = read_plan(_home(config.agent))
    given = read_tasks(file, plan)
    with (
        TemporaryDirectory() as work,
        live("agent") as progress,
        agents_at(*endpoint[:2], config.agent, timeout_s, endpoint[2]) as agent_in,
    ):
        items, traces = run_tasks(given, plan, agent_in, callers, Path(work) / "partial.jsonl", progress)
    metrics = summarize(given, items, config.evaluate.confidence)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_evaluation(out, items, traces, metrics)
    document = {"url": endpoint[0], "model": endpoint[1], "tasks": str(file), **metrics}
    tables.show_json(document) if as_json else _show_metrics(document)
    acted = next(entry for entry in metrics["metrics"] if entry["name"] == "agent_acted_unasked")
    if acted["value"]:
        raise typer.Exit(3)


def _show_metrics(document: dict[str, Any]) -> None:
    rows = [
        (entry["title"], _shown(entry, "value"), f"{_shown(entry, 'low')} to {_shown(entry, 'high')}", str(entry["n"]))
        for entry in document["metrics"]
        if entry["value"] is not None
    ]
    tables.show_columns(
        f"agent on {document['model']} at {document['url']}", ("metric", "value", "interval", "n"), rows
    )
    kinds = [
        (
            row["kind"],
            f"{row['solved']} of {row['n']}",
            f"{row['low']:.1%} to {row['high']:.1%}",
            str(row["acted_unasked"]),
        )
        for row in document["kinds"]
    ]
    tables.show_columns("by kind of task", ("kind", "solved", "interval", "acted unasked"), kinds)


def _shown(entry: dict[str, Any], key: str) -> str:
    value = entry[key]
    if value is None:
        return "-"
    return f"{value:.1%}" if entry["unit"] == "share" else f"{value:.2f}"

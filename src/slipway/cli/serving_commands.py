"""Commands on what a target serves: roll back, start, stop. They talk to the target's agent alone: neither Prefect nor
MLflow has to be up. MLflow's alias follows when it is, and who is named by `notify.to` hears of it when Prefect is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf
from slipway.errors import ConfigError, SlipwayError

if TYPE_CHECKING:
    from slipway.config.load import Config

Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="TARGET, a row of conf/deploy; default: the config's. Then config overrides, `section.key=value`.",
        show_default=False,
    ),
]
WordsOfRollback = Annotated[
    list[str] | None,
    typer.Argument(
        help="TARGET, a row of conf/deploy; default: the config's. Then VERSION (`3` or `0003-3fa9c1d2`); default: the "
        "previous. Then config overrides, `section.key=value`.",
        show_default=False,
    ),
]
COLUMNS = ("release", "made", "served", "state")


def rollback(
    words: WordsOfRollback = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Show which releases can come back, with dates; nothing is changed.")
    ] = False,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Bring an earlier release back: started beside the champion, checked, then switched. Needs no service."""
    from slipway.deployment.promotion import rollback as roll_back
    from slipway.deployment.state import versions

    config, rest = configured(words, conf, most=2)
    if only_list:
        _show_versions(versions(config.deploy), config.deploy.target, as_json)
        return
    release = roll_back(config.deploy, rest[0] if rest else None, note=_note(as_json))
    _show_serving(config, f"{release.name} serves again", as_json)
    _mirror(config, as_json)
    _tell(config, release.name, conf, words, as_json)


def start(words: Words = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Start what the target's pointer names, when it does not run: that release, checked, whatever was judged since.

    Ends or undoes first what a promotion left that was interrupted.
    """
    from slipway.deployment.promotion import start as start_again

    config, _ = configured(words, conf)
    release = start_again(config.deploy, note=_note(as_json))
    _show_serving(config, f"{release.name} {'serves already' if release.reused else 'serves'}", as_json)


def stop(words: Words = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Stop the target's engine, and, without TARGET, stages that no run follows. Releases stay: `slipway start` starts
    the one that served.
    """
    from slipway.ops.stop import stop as stop_all
    from slipway.ops.stop import stop_target

    config, _ = configured(words, conf)
    report = stop_target(config) if named(words) else stop_all(config)
    if as_json:
        tables.show_json(report.to_json())
    else:
        tables.show_stopped(report, config.deploy.target)
    if report.error and not as_json:
        raise report.error
    if report.error:
        raise typer.Exit(report.error.exit_code)


def named(words: list[str] | None) -> list[str]:
    """The words that are no config overrides: a target, and what belongs to it."""
    return [word for word in words or [] if "=" not in word]


def configured(words: list[str] | None, conf: Path, *, most: int = 1) -> tuple[Config, list[str]]:
    """The config with the target that the words name, and the words after it. Raises ConfigError for more than `most`
    words, and for a target that conf/deploy does not have."""
    from slipway.config.load import load_config

    given = named(words)
    if len(given) > most:
        expected = "a target" if most == 1 else "a target and a version"
        raise ConfigError("arguments", " ".join(given)[:200], expected, "see --help")
    return load_config(conf, _overrides(words)), given[1:]


def _note(as_json: bool) -> Any:
    """Where steps are shown."""
    return (lambda _: None) if as_json else (lambda text: typer.echo(text))


def _show_serving(config: Config, sentence: str, as_json: bool) -> None:
    from slipway.deployment.state import status

    now = status(config.deploy)
    if as_json:
        release = now.release.model_dump(mode="json") if now.release else None
        tables.show_json({"release": release, "url": now.url, "healthy": now.healthy})
        return
    typer.echo(f"{sentence} at {now.url}")


def _mirror(config: Config, as_json: bool) -> None:
    """Let MLflow's alias follow the pointer; where MLflow is away that is noted, and said, and caught up later."""
    from slipway.ops.alias_mirror import follow_pointer

    sentence = follow_pointer(config).sentence
    if sentence and not as_json:
        typer.echo(sentence)


def _tell(config: Config, release: str, conf: Path, words: list[str] | None, as_json: bool) -> None:
    """Tell who is named by `notify.to` of a rollback: now, or, where Prefect is away, by the next run; which of it is
    said."""
    from slipway.agent.records import utc_now
    from slipway.cli.flows import send_messages
    from slipway.ops.message import rolled_back, was_sent
    from slipway.ops.pending_messages import write_down

    notify, store = config.notify, Path(config.store.root)
    if not notify.to or "rollback" not in notify.on:
        return
    message = rolled_back(config.deploy.target, release, utc_now())
    try:
        write_down(store, message)
    except SlipwayError as err:  # it serves again; that nobody hears of it is no reason to say otherwise
        typer.echo(f"nobody was told of it: {err}", err=True)
        return
    send_messages(conf, _overrides(words))
    if as_json:
        return
    names = ", ".join(notify.to)
    waits = f"{names} not told yet: the next run tells it, once Prefect is up (`make up`)"
    typer.echo(f"told {names}" if was_sent(store, message) else waits)


def _overrides(words: list[str] | None) -> list[str]:
    """Words as config overrides: a target is a layer."""
    chosen = [f"layers.deploy=deploy/{word}" for word in named(words)[:1]]
    return [*chosen, *(word for word in words or [] if "=" in word)]


def _show_versions(rows: list[dict[str, Any]], target: str, as_json: bool) -> None:
    if as_json:
        tables.show_json({"target": target, "versions": rows})
        return
    texts = [(row["name"], row["created"], ", ".join(row["served"][-3:]), row["state"]) for row in rows]
    tables.show_columns(f"releases of target {target}", COLUMNS, texts)
    for row in rows:
        if "error" in row:
            typer.echo(f"{row['name']}: {row['error']}")
    if not rows:
        typer.echo(f"target {target}: no release yet; `slipway run` makes one")

"""Commands about this machine: what runs on it, what it lacks, its engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway import errors
from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Overrides
from slipway.cli.serving_commands import Words, configured, named

if TYPE_CHECKING:
    from slipway.config.load import Config


def status(
    overrides: Overrides = None,
    conf: Conf = Path("conf"),
    login: Annotated[
        bool, typer.Option("--login", help="Show address, user and password of the Prefect and MLflow pages, no more.")
    ] = False,
    mend: Annotated[
        bool, typer.Option("--mend", help="Set MLflow's champion alias to what serves, where they differ.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What serves, which releases are kept, what the store holds, which training runs where, who works on this machine
    and who waits for it, and anything left over."""
    if login:
        from slipway.ops.status import login_pages

        pages = login_pages()
        tables.show_json(pages) if as_json else tables.show_login(pages)
        return
    from slipway.cli.status_tables import show_status
    from slipway.config.load import load_config
    from slipway.ops.status import overview

    document = overview(load_config(conf, overrides or []), mend=mend)
    tables.show_json(document) if as_json else show_status(document)


def gc(
    words: Words = None,
    conf: Conf = Path("conf"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it nothing is touched.")] = False,
    as_json: AsJson = False,
) -> None:
    """What the store no longer needs, with its bytes and why; with TARGET, old releases there; `--yes` removes it.

    What serves, its rollbacks, the newest run and all they were made from stay, and so does what Slipway did not write.
    On a target the champion, the previous release and what a hold names stay, and `deploy.keep_releases` of the newest.
    """
    from slipway.ops.gc import collect, freeable, plan

    config, _ = configured(words, conf)
    if named(words):
        _gc_target(config, yes, as_json)
        return
    items = plan(config)
    if yes:
        gone = collect(config)
        items = [*gone, *(item for item in items if item.action != "remove")]
    if as_json:
        tables.show_json({"removed": yes, **freeable(items), "items": [item.to_json() for item in items]})
    else:
        tables.show_gc(items, removed=yes)


def _gc_target(config: Config, yes: bool, as_json: bool) -> None:
    from slipway.deployment.state import collect_releases

    names = collect_releases(config.deploy, dry_run=not yes, note=(lambda _: None) if as_json else typer.echo)
    if as_json:
        tables.show_json({"target": config.deploy.target, "removed": yes, "releases": names})
        return
    verb = "removed" if yes else "would remove"
    hint = "" if yes or not names else "; `slipway gc TARGET --yes` removes them"
    typer.echo(f"{verb} {', '.join(names) or 'no release'} of target {config.deploy.target}{hint}")


def doctor(
    overrides: Overrides = None,
    conf: Conf = Path("conf"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only what needs attention.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check python, compiler, disk, memory, ports, GPU, packages, the machine of remote.host; say what to do. Exit 4
    when something must be mended.
    """
    from slipway.config.load import load_config
    from slipway.ops.doctor import check

    checks = check(load_config(conf, overrides or []))
    tables.show_json([c.to_json() for c in checks]) if as_json else tables.show_checks(checks, quiet=quiet)
    if any(c.status == "fail" for c in checks):
        raise typer.Exit(errors.ResourceError.exit_code)


def build_engine(overrides: Overrides = None, conf: Conf = Path("conf")) -> None:
    """Build the embedded engine now (once per machine, some minutes); runs and tests then find it in the cache."""
    from slipway.cli.progress import live
    from slipway.config.load import load_config
    from slipway.engines.llamacpp.build import ensure_build

    config = load_config(conf, overrides or [])
    with live("engine", every_s=20.0) as progress:
        build = ensure_build(config.engine, Path(config.store.cache).expanduser(), progress)
    typer.echo(build.id)

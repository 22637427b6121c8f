"""`slipway rag` and `slipway index`: retrieval compared, built, searched and verified."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Settings

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.ops.retrieval import Maker
    from slipway.rag.search import Result


class Action(StrEnum):
    """What to do."""

    compare = "compare"
    build = "build"
    search = "search"
    status = "status"


class IndexAction(StrEnum):
    """What to do with an index."""

    verify = "verify"
    push = "push"
    drop = "drop"


def rag(
    action: Annotated[
        Action,
        typer.Argument(
            help="`compare`: every strategy with every retriever, and the choice. `build`: one index. `search`: ask "
            "it. `status`: what it is."
        ),
    ],
    question: Annotated[
        str | None, typer.Argument(help="What to search for, with `search`.", show_default=False)
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Folder of documents, in place of rag.corpus.", show_default=False)
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Questions with gold spans, in place of rag.questions.", show_default=False)
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="Tokens of context that arms are compared at.", show_default=False)
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="With `build`: the strategy; default: what `compare` chose.", show_default=False),
    ] = None,
    retriever: Annotated[
        str | None, typer.Option(help="With `search`: bm25, dense or hybrid; default: as chosen.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option(help="With `search`: results.", min=1, max=1000)] = 5,
    store: Annotated[
        str | None,
        typer.Option(help="With `search`: ask the store that the index was pushed to.", show_default=False),
    ] = None,
    alias: Annotated[str, typer.Option(help="With `--store`: the name that it is searched under.")] = "slipway",
    on: Annotated[
        str | None,
        typer.Option("--on", help="With `search`: the index of the release that this target serves.", metavar="TARGET"),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="With `search`: the rank by each retriever.")] = False,
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Compare ways to cut and find text, build an index, search it. Results are sealed artifacts, reused when nothing
    changed.
    """
    given = {"corpus": corpus, "questions": questions, "context_tokens": budget}
    reached = [f"layers.deploy=deploy/{on}"] if on else []
    values = {name: value for name, value in given.items() if value is not None}
    config = _config(conf, [*reached, *(settings or [])], values)
    if action is Action.compare:
        _compare(config, as_json)
    elif action is Action.build:
        _build(config, strategy, as_json)
    elif action is Action.search:
        _show_results(_searched(config, question, retriever, top, store, alias, on), explain, as_json)
    else:
        _status(config, as_json)


def index(
    action: Annotated[
        IndexAction,
        typer.Argument(
            help="`verify`: digests, and the probes searched again; of a store, every row and vector too. `push`: into "
            "a store, where it serves once all of it is there. `drop`: remove one that is not served from a store."
        ),
    ],
    place: Annotated[
        str | None,
        typer.Argument(
            help="Directory of an index, or a store: milvus://HOST, milvus:///PATH/NAME.db, elasticsearch://HOST, "
            "faiss:///FOLDER; its key in SLIPWAY_STORE_API_KEY.",
            show_default=False,
        ),
    ] = None,
    index_path: Annotated[
        Path | None,
        typer.Option("--index", help="With a store: directory of the index; default: the one built last."),
    ] = None,
    alias: Annotated[str, typer.Option(help="With a store: the name that it is searched under.")] = "slipway",
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Check an index, here or in a store, or push it into one. Checked are every byte against its manifest, the 32
    probes against their top tens, and the configured embedder against the one that made it.
    """
    from slipway.ops import index_stores
    from slipway.ops.retrieval import current_index
    from slipway.ops.searching import verified

    config = _config(conf, settings, {})
    url = _store_url(action, place, index_path)
    path = index_path or (Path(place) if place and not url else None) or current_index(Path(config.store.root))
    if action is IndexAction.push:
        document = index_stores.pushed(path, url, alias, _rows_shown(quiet=as_json))
    elif action is IndexAction.drop:
        document = index_stores.dropped(path, url, alias)
    elif url:
        document = index_stores.verified_in_store(path, url, alias, config)
    else:
        document = verified(path, config)
    tables.show_json(document) if as_json else tables.show_rows("index", _texts(document))


def _store_url(action: IndexAction, place: str | None, index_path: Path | None) -> str:
    """The store, "" for a directory. Raises ConfigError where one is needed, and for a directory given twice."""
    from slipway.errors import ConfigError

    if place is not None and "://" in place:
        return place
    if action is not IndexAction.verify:
        wanted = "a store: milvus://HOST, milvus:///PATH/NAME.db, elasticsearch://HOST or faiss:///FOLDER"
        raise ConfigError("store", place or "none", wanted, f"`slipway index {action} milvus://HOST`")
    if place is not None and index_path is not None:
        raise ConfigError("index", f"{place} and --index {index_path}", "one directory", "leave one of them out")
    return ""


def _rows_shown(*, quiet: bool) -> Callable[[int, int], None]:
    from slipway.cli.output import console

    out = console(stderr=True)

    def on_rows(done: int, of: int) -> None:
        if not quiet:
            out.print(f"{done:,} of {of:,} rows are there", highlight=False, markup=False)

    return on_rows


def _config(conf: Path, settings: list[str] | None, given: dict[str, Any]) -> Config:
    from slipway.config.load import load_config

    values = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return load_config(conf, settings or [], {"rag": values} if values else None)


def _maker(config: Config, *, quiet: bool) -> Maker:
    from slipway.cli.output import console
    from slipway.cli.progress import clock
    from slipway.ops.retrieval import maker
    from slipway.pipeline.ensure import Made

    out = console(stderr=True)

    def on_stage(title: str, what: Made | dict[str, Any]) -> None:
        if isinstance(what, Made) and not quiet:
            out.print(f"{title}: {'reused' if what.reused else clock(what.seconds)}", highlight=False, markup=False)

    return maker(config, Path.cwd(), on_stage)


def _compare(config: Config, as_json: bool) -> None:
    from slipway.ops.retrieval import compare

    choice = compare(config, _maker(config, quiet=as_json))
    document = {**choice.read_json("choice.json"), "path": str(choice.path), "digest": choice.digest}
    if as_json:
        tables.show_json(document)
        return
    from slipway.rag.choice_card import interval, reasons

    columns = (
        "arm",
        "recall to choose",
        "best minus this",
        "",
        "recall to report",
        "winner minus this",
        "chunks",
        "ms",
    )
    rows = [
        (
            one["arm"],
            f"{one['choose']:.3f}",
            interval(one["choose_difference"], signed=True),
            "apart" if one["apart"] else "as good" if one["in_tie"] else "not apart",
            interval(one["report"]),
            interval(one["report_difference"], signed=True),
            f"{one['costs']['chunks']:,.0f}",
            f"{document['metrics'][one['arm']]['p50_ms']:.1f}",
        )
        for one in document["arms"]
    ]
    tables.show_columns(f"recall within {config.rag.context_tokens:,} tokens of context", columns, rows)
    typer.echo(f"{document['outcome']}: {document['winner']}")
    typer.echo(reasons(document))
    typer.echo(f"choice {choice.path}")


def _build(config: Config, strategy: str | None, as_json: bool) -> None:
    from slipway.ops import retrieval
    from slipway.ops.chain.retrieval_calls import winner

    made = _maker(config, quiet=as_json)
    name, retriever = strategy, None
    if name is None:
        name, retriever = winner(retrieval.compare(config, made))
    built = retrieval.build(config, made, name, retriever)
    document = {"strategy": name, **built.summary, "path": str(built.path), "digest": built.digest}
    tables.show_json(document) if as_json else tables.show_rows("index", _texts(document))


def _searched(
    config: Config,
    question: str | None,
    retriever: str | None,
    top: int,
    store: str | None,
    alias: str,
    on: str | None,
) -> list[Result]:
    from slipway.errors import ConfigError
    from slipway.ops.index_stores import searched_in_store
    from slipway.ops.searching import search, search_served

    if not question or not question.strip():
        raise ConfigError("question", repr(question), "what to search for", '`slipway rag search "how do I ..."`')
    if on and store:
        raise ConfigError("index to search", f"--on {on} and --store {store}", "one of them", "leave one of them out")
    if on:
        return search_served(config, question, retriever, top)
    if store is None:
        return search(config, question, retriever, top)
    return search(config, question, retriever, top, lambda index, path: searched_in_store(index, path, store, alias))


def _show_results(results: list[Result], explain: bool, as_json: bool) -> None:
    if as_json:
        tables.show_json([vars(one) for one in results])
        return
    for one in results:
        ranks = ", ".join(f"{name} {rank}" for name, rank in one.ranks.items())
        place = f"{one.rank}. {one.document} {one.start}-{one.end} ({one.tokens} tokens, score {one.score:.4f})"
        typer.echo(f"{place}{f': {ranks}' if explain else ''}")
        typer.echo(f"   {' '.join(one.text.split())[:300]}\n")
    if not results:
        typer.echo("nothing: no chunk holds a word of the question")


def _status(config: Config, as_json: bool) -> None:
    from slipway.ops.searching import status

    document = status(config)
    tables.show_json(document) if as_json else tables.show_rows("retrieval", _texts(document))


def _texts(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in document.items()
    ]

"""`slipway chat`: a page on this machine to talk with a served model, its documents and its agent."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.agent_command import LAYER
from slipway.cli.options import AnswerTimeout, Conf, EndpointModel, EndpointUrl, KeyVariable
from slipway.cli.served_endpoint import served_endpoint

if TYPE_CHECKING:
    from slipway.config.load import Config


def chat(
    url: EndpointUrl = None,
    model: EndpointModel = None,
    key_variable: KeyVariable = None,
    index: Annotated[
        Path | None, typer.Option(help="Directory of an index.", show_default="the one that was built last")
    ] = None,
    documents: Annotated[
        bool, typer.Option("--documents/--no-documents", help="Whether questions are searched in an index.")
    ] = True,
    agent: Annotated[
        bool, typer.Option("--agent/--no-agent", help="Whether the page has an agent in a simulated home.")
    ] = True,
    retriever: Annotated[
        str | None, typer.Option(help="bm25, dense or hybrid.", show_default="as chosen with the index")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="Port on loopback.", show_default="a free one")
    ] = None,
    timeout_s: AnswerTimeout = 120,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Config override, `rag.answers.context_tokens=1024`.", show_default=False),
    ] = None,
    conf: Conf = Path("conf"),
) -> None:
    """Open a page on loopback: answers with the passages that they were given, and an agent's steps with what they
    changed. Its address holds a key, which other users of this machine do not know. Needs the extra `chat`. Ctrl-C ends
    it.
    """
    from slipway.config.load import load_config
    from slipway.ops.chat import open_room
    from slipway.system import ports
    from slipway.system.installed import require_extra

    require_extra("chat", "nicegui")
    config = load_config(conf, [*([LAYER] if agent else []), *(settings or [])])
    place = _index(config, index) if documents else None
    endpoint = served_endpoint(config, url, model, timeout_s, key_variable)
    with open_room(config, endpoint, timeout_s, place, retriever) as room:
        from slipway.cli.chat_page import serve_page

        chosen, key = port or ports.any_port(), secrets.token_urlsafe(16)
        typer.echo(f"model     {room.model} at {endpoint[0]}")
        opened = room.documents
        typer.echo(f"documents {f'{opened.name[:12]}, {opened.retriever}' if opened else 'none: `slipway rag build`'}")
        typer.echo(f"agent     {config.agent.kind}")
        typer.echo(f"page      http://127.0.0.1:{chosen}/?key={key}")
        serve_page(room, chosen, key)


def _index(config: Config, named: Path | None) -> Path | None:
    """The directory that was named, else of the index that was built last; None where there is none."""
    from slipway.ops.index_pointer import pointer
    from slipway.ops.retrieval import current_index

    root = Path(config.store.root)
    return named or (current_index(root) if pointer(root) else None)

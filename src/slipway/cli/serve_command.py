"""The command that serves a directory until Ctrl-C. Short because it parses, serves and prints."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.options import Conf

if TYPE_CHECKING:
    from slipway.engines.directory import Machinery
    from slipway.engines.endpoint import Endpoint

LOOK_EVERY_S = 0.5


def serve(
    directory: Annotated[
        Path, typer.Argument(help="Engine of the store or of a release, or a Hugging Face model directory.")
    ],
    kind: Annotated[
        str, typer.Option(help="Engine of a model directory: llama.cpp, vllm, trtllm or trtllm-engine.")
    ] = "llama.cpp",
    target: Annotated[
        str | None, typer.Option(help="Row of conf/targets: the machine that serves.", show_default="this machine")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Row of conf/images.yaml that holds the engine.", show_default=False)
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.", show_default="a free one")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of one request.", show_default="1024")] = None,
    slots: Annotated[int | None, typer.Option(help="Requests decoded together.", show_default="8")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the engine section, `key=value`.", show_default=False),
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of bundles, logs and caches.")] = Path(".slipway/serve"),
    conf: Conf = Path("conf"),
) -> None:
    """Serve an engine, or any model directory that an engine loads, in the foreground: OpenAI's API on loopback until
    Ctrl-C. A model is converted where its engine needs that, once.
    """
    from slipway.cli.progress import live
    from slipway.engines.directory import service_for
    from slipway.engines.serving import serving
    from slipway.engines.warm_start import warmed, with_own_cache
    from slipway.runners.lease import Priority, Wish, lease_folder, leased

    given = {"kind": kind, "image": image, "context": context, "slots": slots}
    machinery = _machinery({k: v for k, v in given.items() if v is not None}, settings or [], target, port, work, conf)
    with ExitStack() as held:
        with live("serve") as progress:  # no longer than there is progress: then the terminal is the person's
            service = held.enter_context(service_for(directory, machinery, progress))
            own = with_own_cache(service, machinery.params.cache_dir, int(machinery.params.cache_gb * 1e9))
            service = warmed(own, progress.note)
            for note in service.plan.notes:
                progress.note(note)
            progress.note(f"starting; log {service.work / 'log.txt'}")
        # Its start takes its turn; what it needs while it serves is planned for, and whoever works beside it fits
        start = Wish(f"start of {service.work}", Priority.SERVING)
        with leased(lease_folder(machinery.cache), start, partial(typer.echo, err=True)):
            endpoint = held.enter_context(serving(service))
        typer.echo(described(endpoint))
        while endpoint.ended() is None:
            time.sleep(LOOK_EVERY_S)
        endpoint.check_alive()


def described(endpoint: Endpoint) -> str:
    """What a person does with a server that answers, `curl` included."""
    message = {"model": endpoint.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32}
    rows = [
        ("url", endpoint.url),
        ("model", endpoint.model),
        ("engine", f"{endpoint.plan.kind} {endpoint.plan.build}".strip()),
        ("accepts", f"{endpoint.plan.limits.slots} requests of {endpoint.plan.limits.context} tokens"),
        ("log", str(endpoint.job.log)),
        ("ask", f"curl {endpoint.url}/chat/completions -H 'Content-Type: application/json' -d '{json.dumps(message)}'"),
        ("stop", "Ctrl-C"),
    ]
    return "\n".join(f"{name:8}{value}" for name, value in rows)


def _machinery(
    given: dict[str, Any], settings: list[str], target: str | None, port: int | None, work: Path, conf: Path
) -> Machinery:
    """What the options say. Config files are read only where a row of them is named."""
    from slipway.config.load import load_config, section
    from slipway.config.store import StoreConfig
    from slipway.config.target import TargetConfig
    from slipway.engines.directory import Machinery
    from slipway.errors import ConfigError

    params = section("engine", given, settings)
    machine, row = TargetConfig(), None
    if target is not None or params.image is not None:
        config = load_config(conf, [f"layers.serving=targets/{target}"] if target is not None else [])
        machine = config.serving
        if params.image is not None and params.image not in config.images:
            raise ConfigError("image", params.image, f"one of {', '.join(config.images)}", f"see {conf}/images.yaml")
        row = config.images[params.image] if params.image is not None else None
    return Machinery(params, machine, row, work, Path(StoreConfig().cache).expanduser(), port)

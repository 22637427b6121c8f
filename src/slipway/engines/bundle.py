"""What a runtime bundle is: `serve.json` beside the model and the program that serves it, and what makes them valid.

The bundle carries its own server binary: the program that was evaluated is the program that is shipped, and a rollback
works after every cache is gone. The binary is compiled for this CPU, so the bundle names the CPU that it is for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from slipway.config.base import Section
from slipway.errors import EngineError
from slipway.store.artifacts import Engine
from slipway.system.processor import cpu_digest

SERVE = "serve.json"


class ServeConfig(Section):
    """How a bundle is served."""

    kind: Literal["llama.cpp"] = Field("llama.cpp", description="Engine.")
    model: str = Field(description="Model file in the bundle.")
    server: str = Field(description="Server program in the bundle.")
    alias: str = Field("slipway", description="Model name that the endpoint answers to.")
    context: int = Field(description="Context per slot, tokens.")
    slots: int = Field(description="Requests decoded together.")
    threads: int | None = Field(description="CPU threads; null: all cores that the process may use.")
    build: str = Field(description="Id of the server's build: package version, CPU and compiler.")
    cpu: str = Field(description="Digest of the CPU that the server is compiled for.")


def read_serve(bundle: Path) -> ServeConfig:
    """`serve.json` of a bundle, checked; EngineError when it is absent, malformed, or for another CPU."""
    file = bundle / SERVE
    try:
        serve = ServeConfig.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EngineError(f"engine {bundle}", f"no {SERVE}", "an engine bundle", "`slipway run` makes one") from None
    except ValidationError as err:
        raise EngineError(
            f"engine {file}", err.errors()[0]["msg"], "a serve config", "`slipway run` makes it again"
        ) from err
    for name in (serve.model, serve.server):
        if not (bundle / name).is_file():
            raise EngineError(
                f"engine {bundle}", f"{name} is missing", "a complete bundle", "`slipway run` makes it again"
            )
    if serve.cpu != cpu_digest():
        raise EngineError(
            f"engine {bundle}",
            f"compiled for CPU {serve.cpu}",
            f"this CPU, {cpu_digest()}",
            "`slipway run` on this machine makes one",
        )
    return serve


def command(bundle: Path, serve: ServeConfig, host: str, port: int) -> list[str]:
    """The server's command line.

    One KV pool for all slots costs 8% less CPU than one each, and a lone request may use all of it. No cache of old
    prompts in RAM: it would make a repeated prompt look fast in a speed run.
    """
    threads = str(serve.threads or usable_cores())
    return [
        str(bundle / serve.server),
        "--model",
        str(bundle / serve.model),
        "--alias",
        serve.alias,
        "--host",
        host,
        "--port",
        str(port),
        "--ctx-size",
        str(serve.context * serve.slots),
        "--parallel",
        str(serve.slots),
        "--threads",
        threads,
        "--kv-unified",
        "--cache-ram",
        "0",
        "--threads-http",
        str(serve.slots + 2),
        "--metrics",
        "--offline",
    ]


def usable_cores() -> int:
    """Cores that this process may use: affinity and cgroup cpusets count, hyperthreads do too."""
    return len(os.sched_getaffinity(0))


def bundle_path(engine: Engine | Path) -> Path:
    """An engine artifact, or a released copy of one."""
    return engine if isinstance(engine, Path) else engine.path

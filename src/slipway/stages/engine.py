"""Stage `engine`: checkpoint -> runtime bundle that is known to answer.

llama.cpp's own converter reads the HF checkpoint (bf16, FP8, or NVFP4 in ModelOpt's layout): an independent program
reads the bytes that Slipway wrote. Tensors that are not quantized become bf16, which loses nothing. FP8 weights have no
GGUF type: the converter dequantizes them, so an FP8 bundle shows FP8's quality, not its size or speed.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.config.engine import EngineConfig
from slipway.engines.bundle import SERVE, ServeConfig
from slipway.engines.chat_client import ChatClient
from slipway.engines.fingerprint import engine_fingerprint
from slipway.engines.llamacpp.build import Build, ensure_build
from slipway.engines.llamacpp.convert import convert
from slipway.engines.server import serving
from slipway.errors import EngineError
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Engine, Quantized
from slipway.system.files import write_atomic
from slipway.system.processor import cpu_digest

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Engine
MODEL, SERVER = "model.gguf", "llama-server"
OUTTYPE = "bf16"
PROBE = [{"role": "user", "content": "What is the capital of France?"}]


def params_of(config: Config) -> EngineConfig:
    """This stage's params in a run."""
    return config.engine


def key_extra(config: Config) -> dict[str, str]:
    """The hardware that the bundle is valid for."""
    return engine_fingerprint(config.engine)


def engine(checkpoint: Checkpoint | Quantized, params: EngineConfig, space: Workspace) -> None:
    """Write the bundle: `model.gguf`, `llama-server`, `serve.json`, and figures of conversion and first answer."""
    build = ensure_build(params, space.cache, space.progress)
    start = time.monotonic()
    _convert(checkpoint, build, space)
    converted = time.monotonic() - start
    shutil.copy2(build.server, space.out / SERVER)
    serve = ServeConfig(
        kind=params.kind,
        model=MODEL,
        server=SERVER,
        context=params.context,
        slots=params.slots,
        threads=params.threads,
        build=build.id,
        cpu=cpu_digest(),
    )
    write_atomic(space.out / SERVE, serve.model_dump_json(indent=1) + "\n")
    figures = {"bytes": (space.out / MODEL).stat().st_size, "convert_s": round(converted, 2), **_probe(space)}
    write_atomic(space.out / "summary.json", json.dumps(figures, indent=1) + "\n")


def _convert(checkpoint: Checkpoint | Quantized, build: Build, space: Workspace) -> None:
    """Through `work/model`: one name for every model, so that equal weights give equal bytes."""
    from slipway.weights.checkpoint import is_virtual, materialize
    from slipway.weights.external import check_reference
    from slipway.weights.shards import Shards

    model = space.work / "model"
    _clear(model)
    try:
        if is_virtual(checkpoint):
            model.mkdir()
            materialize(checkpoint, model, space.progress)
        else:
            # a damaged shard is named by us, not by a traceback of the converter, which reads quantized codes itself
            check_reference(checkpoint.path)
            Shards.open(checkpoint.path)
            model.symlink_to(checkpoint.path)
        space.progress.update("convert", 0, None, "bytes")
        convert(build, model, space.out / MODEL, OUTTYPE)
    finally:
        _clear(model)


def _clear(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _probe(space: Workspace) -> dict[str, float | int]:
    """Serve the bundle once and ask: seconds to healthy, seconds to the first token."""
    begin = time.monotonic()
    with serving(space.out, space.work / "server.log") as server, ChatClient(server.url, server.model, 60) as client:
        ready = time.monotonic() - begin
        answer = client.ask(PROBE, 8)
    if answer.completion_tokens < 1:
        raise EngineError("engine", "no token in its first answer", "at least one", f"read {space.work / 'server.log'}")
    return {"start_s": round(ready, 2), "first_token_s": round(answer.ttft_s, 3)}

"""llama.cpp: a GGUF file by llama.cpp's own converter and a llama-server compiled for this CPU, both in the bundle.

The converter reads the HF checkpoint (bf16, FP8, or NVFP4 in ModelOpt's layout): an independent program reads the bytes
that Slipway wrote. Tensors that are not quantized become bf16, which loses nothing. FP8 weights have no GGUF type: the
converter dequantizes them, so an FP8 bundle shows FP8's quality, not its size or speed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.target import LocalRunConfig, TargetConfig
from slipway.engines.driver import EngineKind, ServePlan
from slipway.engines.llamacpp.build import Build, ensure_build
from slipway.engines.llamacpp.config_support import require_config_support, unread_notes
from slipway.engines.llamacpp.convert import convert
from slipway.engines.llamacpp.nvfp4_support import require_nvfp4_support
from slipway.engines.llamacpp.serve_command import MODEL, SERVER, serve_plan
from slipway.errors import ConfigError
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Quantized
from slipway.system.processor import cpu_digest
from slipway.weights.model_config import CONFIG, read_config

OUTTYPE = "bf16"


class LlamaCpp:
    """The embedded engine: a process of this machine, on its CPU."""

    kind: EngineKind = "llama.cpp"

    def plan(
        self,
        model: Path,
        params: EngineConfig,
        target: TargetConfig,
        image: ImageConfig | None = None,  # noqa: ARG002
    ) -> ServePlan:
        """The command for any model. Raises ConfigError for a target that is not this machine: the program is compiled
        for this CPU; EngineError for a model whose config.json llama.cpp computes otherwise."""
        if not isinstance(target.runner, LocalRunConfig):
            raise ConfigError(
                f"engine.kind={self.kind} on target {target.name}",
                f"a {target.runner.kind} runner",
                "this machine: llama-server is compiled for its CPU",
                "layers.serving=targets/local, or another engine.kind",
            )
        plan = serve_plan(context=params.context, slots=params.slots, threads=params.threads, target=target.name)
        if not (model / CONFIG).is_file():  # a GGUF of its own
            return plan
        config = read_config(model)
        require_config_support(config, params.context)
        return plan.model_copy(update={"notes": unread_notes(config)})

    draft = plan

    def build(
        self,
        checkpoint: Checkpoint | Quantized,
        plan: ServePlan,
        params: EngineConfig,
        space: Workspace,
        target: TargetConfig,  # noqa: ARG002
    ) -> ServePlan:
        """Write `model.gguf` and `llama-server`. Raises EngineError for a model that llama.cpp does not convert,
        CheckpointError for a damaged one, ResourceError when llama-server cannot be built."""
        build = ensure_build(params, space.cache, space.progress)
        _convert(checkpoint, build, space)
        shutil.copy2(build.server, space.out / SERVER)
        return plan.model_copy(update={"build": build.id, "cpu": cpu_digest()})


DRIVER = LlamaCpp()


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
            stored = Shards.open(checkpoint.path)
            require_nvfp4_support(read_config(checkpoint.path), stored.names())
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

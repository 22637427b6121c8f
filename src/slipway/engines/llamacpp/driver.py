"""llama.cpp: a GGUF file by llama.cpp's own converter and a llama-server compiled for this CPU, both in the bundle.

The converter reads the HF checkpoint (bf16, FP8, or NVFP4 in ModelOpt's layout): an independent program reads the bytes
that Slipway wrote. Tensors that are not quantized become bf16, which loses nothing. FP8 weights have no GGUF type: the
converter dequantizes them, so an FP8 bundle shows FP8's quality, not its size or speed.
"""

from __future__ import annotations

import importlib
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
from slipway.engines.llamacpp.reasoning import reasoning_options
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
        options = _convert(checkpoint, build, space)
        shutil.copy2(build.server, space.out / SERVER)
        return plan.model_copy(update={"argv": [*plan.argv, *options], "build": build.id, "cpu": cpu_digest()})


DRIVER = LlamaCpp()


def _convert(checkpoint: Checkpoint | Quantized, build: Build, space: Workspace) -> list[str]:
    """Through `work/model`: one name for every model, so that equal weights give equal bytes. Returns the server's
    options that the model's chat template asks for."""
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
        convert(build, model, space.out / MODEL, OUTTYPE, _load_reference)
        return reasoning_options(model)
    finally:
        _clear(model)


def _load_reference() -> None:
    """Import, while the converter's process has one core, most of what the check of the engine's tokens computes with
    after it (`evaluation.agreement_check`): some three seconds. Nothing else is imported at that time."""
    importlib.import_module("slipway.calibration.layer_walk")


def _clear(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)

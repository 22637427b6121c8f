"""Stage `engine`: checkpoint -> runtime bundle that is known to answer.

The driver of `engine.kind` plans the server and makes its files; the plan becomes the bundle's `serve.json`. Then the
bundle is served on the machine that it is for, as it will be later, asked and measured: cold, and from the caches that
the cold start left in it (`engines/boot_series.py`). What it writes is compared with what its weights say
(`evaluation/agreement_check.py`): an engine that is fast and wrong does not leave this stage, and its other attention
kernel says whether the weights are to blame (`evaluation/second_opinion.py`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.target import TargetConfig
from slipway.engines.boot_series import boot_series
from slipway.engines.boots import boot_figures
from slipway.engines.bundle import MODEL, SERVE, read_plan
from slipway.engines.drivers import driver_for
from slipway.engines.fingerprint import engine_fingerprint
from slipway.engines.serving import CARRIERS, Service
from slipway.engines.warm_start import with_own_cache
from slipway.evaluation.agreement_check import Agreeing, agreement_figures
from slipway.evaluation.second_opinion import verdict_with_second
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Engine, Quantized
from slipway.system.files import write_atomic

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Engine
BOOTS, AGREEMENT = "boots.json", "agreement.json"
WEIGHTS = (".gguf", ".safetensors", ".engine")
CODE_WITHOUT = CARRIERS


class EngineParams(EngineConfig):
    """What the stage needs: the config's section, the machine that serves, and the image that it serves in."""

    serving: TargetConfig = Field(default_factory=TargetConfig, description="The machine that serves.")
    serving_image: ImageConfig | None = Field(None, description="The image it serves in; null: what is installed.")

    def key_document(self) -> dict[str, Any]:
        """The section's, and of the machine what decides the plan, not how jobs reach it. Of the embedded engine only
        the section: its bundle is the same wherever it is served."""
        document = super().key_document()
        machine, image = document.pop("serving"), document.pop("serving_image")
        if self.kind == "llama.cpp":
            return document
        machine.pop("runner", None)
        digest = image["digests"].get(self.serving.arch) if image else None
        return {**document, "serving": machine, "image_digest": digest}


def params_of(config: Config) -> EngineParams:
    """This stage's params in a run. Raises ConfigError when engine.image is no row of conf/images.yaml."""
    name = config.engine.image
    image = ImageConfig.row(config.images, "engine.image", name) if name is not None else None
    return EngineParams(**config.engine.model_dump(), serving=config.serving, serving_image=image)


def key_extra(config: Config) -> dict[str, str]:
    """The machine that the bundle is valid for. Raises EngineError when its Python does not answer."""
    return engine_fingerprint(config.engine, config.serving)


def engine(checkpoint: Checkpoint | Quantized, params: EngineParams, space: Workspace) -> None:
    """Write the bundle: `serve.json`, what the server needs beside it, and figures of build and starts.

    Raises ConfigError for what the machine cannot serve, EngineError when the engine does not build, start, answer or
    agree with its weights.
    """
    driver = driver_for(params.kind)
    plan = driver.plan(checkpoint.path, params, params.serving, params.serving_image)
    for note in plan.notes:
        space.progress.note(note)
    begin = time.monotonic()
    plan = driver.build(checkpoint, plan, params, space, params.serving)
    built = time.monotonic() - begin
    write_atomic(space.out / SERVE, plan.model_dump_json(indent=1) + "\n")
    model = space.out / MODEL if (space.out / MODEL).is_dir() else checkpoint.path
    figures: dict[str, Any] = {"bytes": _weight_bytes(space.out) or _weight_bytes(model), "build_s": round(built, 2)}
    service = Service(space.out, read_plan(space.out), params.serving, space.work / "server", model)
    limit = int(params.cache_gb * 1e9)
    service = with_own_cache(service, params.cache_dir, limit)
    agreeing = Agreeing(checkpoint, service.plan, params.agreement, space.progress)
    boots = boot_series(service, checkpoint.digest, params.boots, limit, space.progress.note, agreeing.ask)
    figures |= {"start_s": boots[0].ready_s, "first_token_s": boots[0].first_token_s}
    figures |= boot_figures(boots, len(plan.caches))
    verdict = verdict_with_second(agreeing, service, params.agreement, space.progress.note)
    figures |= agreement_figures(verdict)
    agreeing.keep_scores(space.out)
    write_atomic(space.out / AGREEMENT, json.dumps(verdict, indent=1) + "\n")
    write_atomic(space.out / BOOTS, json.dumps([boot.model_dump() for boot in boots], indent=1) + "\n")
    write_atomic(space.out / "summary.json", json.dumps(figures, indent=1) + "\n")


def _weight_bytes(folder: Path) -> int:
    """Bytes of the files that hold weights."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.suffix in WEIGHTS)

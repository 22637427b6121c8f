"""TensorRT-LLM with its PyTorch backend: `trtllm-serve` on a checkpoint, in its pinned image.

What makes its starts warm are the autotuner's tactics (one file a rank beside the one named) and what FlashInfer,
Triton and CUDA compile. The tactics are loaded without a look at GPU or version: whoever fills `{cache}` has checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.target import TargetConfig
from slipway.engines import gpu_plan
from slipway.engines.contract import Contract, load_contract
from slipway.engines.driver import CacheSpec, Limits, ServePlan
from slipway.engines.format_support import capability, require_support
from slipway.engines.fused_scales import scale_notes
from slipway.engines.gpu_limits import budget, plan_limits
from slipway.engines.model_facts import read_model
from slipway.engines.trtllm.serve_config import CONFIG_FILE, DECIDED, serve_document, serve_options, with_options
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Quantized

ALIAS = "slipway"
START_S = 3600.0  # 28 minutes cold were reported
STOP_S = 60.0
TACTICS = CacheSpec(name="autotuner", path="tactics.json", variable="TLLM_AUTOTUNER_CACHE_PATH")
# Ranks on several nodes are started by Slurm or MPI; rank 0 serves, the others wait for it
_LAUNCHER = "trtllm-llmapi-launch"


class TrtllmDriver:
    """`plan` renders command and YAML and checks both; `build` has nothing to make but a virtual checkpoint's files."""

    kind: Literal["trtllm"] = "trtllm"

    def plan(
        self, model: Path, params: EngineConfig, target: TargetConfig, image: ImageConfig | None = None
    ) -> ServePlan:
        """See `Driver.plan`."""
        return gpu_plan.require_pinned(self.draft(model, params, target, image), image, target)

    def draft(
        self, model: Path, params: EngineConfig, target: TargetConfig, image: ImageConfig | None = None
    ) -> ServePlan:
        """A plan whose image may be named by its tag: to look at, not to serve."""
        pinned_image, version = gpu_plan.require_image(image, "trtllm")
        contract = load_contract("trtllm", version)
        budget(target)  # a target without a GPU is refused as such
        facts = read_model(model)
        sm = capability(target.compute_capability, target.name)
        support = require_support("trtllm", facts.layout, facts.formats, sm)
        limits = plan_limits(facts, params, target)
        document = with_options(serve_document(limits, facts, params, target, sm), params.options)
        unlisted = contract.check_keys(document)
        caches = ((TACTICS,) if params.autotune else ()) + gpu_plan.CACHES
        reference = gpu_plan.image_reference(pinned_image, target.arch)
        return ServePlan(
            kind="trtllm",
            target=target.name,
            image=reference,
            contract=contract.name,
            argv=gpu_plan.program(_command(limits.limits, params, target, contract), pinned_image, target),
            files={CONFIG_FILE: yaml.safe_dump(document, sort_keys=False)},
            environment=gpu_plan.environment(caches, params, {}),
            caches=list(caches),
            alias=ALIAS,
            limits=limits.limits,
            weights=facts.format,
            computes=support.computes,
            memory=limits.memory,
            start_s=params.start_s or START_S,
            stop_s=STOP_S,
            build=reference,
            notes=[
                *support.notes,
                *scale_notes(model, facts.formats),
                *contract.notes,
                *limits.notes,
                *gpu_plan.model_notes(facts, limits.limits.kv_dtype, target, pinned_image),
                *(f"engine.options.{name}: its own keys are in no list and were not checked." for name in unlisted),
            ],
        )

    def build(
        self,
        checkpoint: Checkpoint | Quantized,
        plan: ServePlan,
        params: EngineConfig,  # noqa: ARG002
        space: Workspace,
        target: TargetConfig,  # noqa: ARG002
    ) -> ServePlan:
        """The PyTorch backend loads the checkpoint as it is, a virtual one written out."""
        gpu_plan.write_model(checkpoint, space)
        return plan


DRIVER = TrtllmDriver()


def _command(limits: Limits, params: EngineConfig, target: TargetConfig, contract: Contract) -> list[str]:
    """`trtllm-serve {model} --port {port} ...`; under the launcher where the ranks are on several nodes."""
    options: dict[str, Any] = serve_options(limits, target)
    own = gpu_plan.own_flags(params, contract, DECIDED)
    words = ["trtllm-serve", "{model}", "--port", "{port}", *contract.argv({**options, **own})]
    return [_LAUNCHER, *words] if gpu_plan.across_nodes(limits, target) else words

"""vLLM's server: in its image, or in a Python environment of the machine that serves.

Its caches are torch.compile's and AOT's, Triton's, FlashInfer's and what CUDA compiled from PTX; two servers must never
share them (a compile cache was corrupted so), which is why all lie below `{cache}`, a start's own copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.target import TargetConfig
from slipway.engines import gpu_plan
from slipway.engines.contract import Contract, load_contract, newest
from slipway.engines.driver import CacheSpec, ServePlan
from slipway.engines.format_support import Support, capability, require_support
from slipway.engines.fused_scales import scale_notes
from slipway.engines.gpu_limits import budget, plan_limits
from slipway.engines.model_facts import ModelFacts, read_model
from slipway.engines.vllm.serve_config import DECIDED, memory_share, serve_options
from slipway.errors import ConfigError
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Quantized

ALIAS = "slipway"
START_S = 900.0  # 110 s cold were measured for 135M on an H100; a Spark compiles for minutes
CACHES = (
    CacheSpec(name="vllm", path="vllm", variable="VLLM_CACHE_ROOT"),
    CacheSpec(name="flashinfer_autotune", path="flashinfer_autotune", variable="VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR"),
    *gpu_plan.CACHES,
)
# Its own rank and the first node's address are known to a node only; nodes after the first serve no HTTP
_NODES = (
    'exec "$0" "$@" --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" --master-addr "$SLURM_LAUNCH_NODE_IPADDR" '
    '$([ "$SLURM_NODEID" = 0 ] || echo --headless)'
)
# What the script `vllm` runs. `vllm.entrypoints.openai.api_server` serves too, but takes no notice of --headless: nodes
# after the first ended with "collective_rpc should not be called on follower node" (0.26.0)
_PROGRAM = "vllm.entrypoints.cli.main"


class VllmDriver:
    """`plan` renders the command and checks it; `build` has nothing to make: the checkpoint is what is loaded."""

    kind: Literal["vllm"] = "vllm"

    def plan(
        self, model: Path, params: EngineConfig, target: TargetConfig, image: ImageConfig | None = None
    ) -> ServePlan:
        """See `Driver.plan`."""
        return gpu_plan.require_pinned(self.draft(model, params, target, image), image, target)

    def draft(
        self, model: Path, params: EngineConfig, target: TargetConfig, image: ImageConfig | None = None
    ) -> ServePlan:
        """A plan whose image may be named by its tag: to look at, not to serve."""
        contract = load_contract("vllm", _version(params, image))
        budget(target)  # a target without a GPU is refused as such
        facts = read_model(model)
        support = _support(facts, params, target)
        limits = plan_limits(facts, params, target)
        options = serve_options(limits, params, ALIAS, memory_share(limits, target))
        flags = gpu_plan.own_flags(params, contract, DECIDED)
        _refuse_sleep(flags, target)
        words = gpu_plan.program(_command(params, image, contract, {**options, **flags}), image, target)
        own = {"VLLM_NO_USAGE_STATS": "1", **({"VLLM_HOST_IP": "127.0.0.1"} if target.nodes == 1 else {})}
        return ServePlan(
            kind="vllm",
            target=target.name,
            image=gpu_plan.image_reference(image, target.arch) if image else None,
            contract=contract.name,
            argv=_of_every_node(words, contract) if gpu_plan.across_nodes(limits.limits, target) else words,
            environment=gpu_plan.environment(CACHES, params, own),
            caches=list(CACHES),
            alias=ALIAS,
            limits=limits.limits,
            weights=facts.format,
            computes=support.computes,
            memory=limits.memory,
            start_s=params.start_s or START_S,
            stop_s=params.drain_s + 10.0,
            build=gpu_plan.image_reference(image, target.arch) if image else contract.name,
            notes=[
                *support.notes,
                *scale_notes(model, facts.formats),
                *contract.notes,
                *limits.notes,
                *gpu_plan.model_notes(facts, limits.limits.kv_dtype, target, image),
                *_kv_notes(facts, limits.limits.kv_dtype),
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
        """vLLM loads the checkpoint as it is, a virtual one written out."""
        gpu_plan.write_model(checkpoint, space)
        return plan


DRIVER = VllmDriver()


def _version(params: EngineConfig, image: ImageConfig | None) -> str:
    if (image is None) == (params.python is None):
        value = "both" if image else "neither"
        raise ConfigError(
            "engine.image and engine.python",
            f"{value} given",
            "one: a row of conf/images.yaml, or an interpreter that has vLLM",
            "set engine.image=vllm, or engine.python=/path/to/python",
        )
    if image is None:
        return params.contract or newest("vllm")
    return gpu_plan.require_image(image, "vllm")[1]


def _command(params: EngineConfig, image: ImageConfig | None, contract: Contract, options: dict[str, Any]) -> list[str]:
    """`vllm serve {model}`, in an environment by its module, which needs no script on the path."""
    places = {name: options.pop(name) for name in ("--model", "--port")}  # a number only once the port is known
    words = contract.argv(options)
    at = ["--port", places["--port"], *words]
    program = ["vllm"] if image is not None else [str(params.python), "-m", _PROGRAM]
    return [*program, "serve", places["--model"], *at]


def _of_every_node(words: list[str], contract: Contract) -> list[str]:
    """The command of every node of a Slurm job, where one node's GPUs do not suffice."""
    for name in ("--nnodes", "--node-rank", "--master-addr", "--headless"):
        contract.canonical(name)
    return ["bash", "-c", _NODES, *words]


def _support(facts: ModelFacts, params: EngineConfig, target: TargetConfig) -> Support:
    sm = capability(target.compute_capability, target.name)
    support = require_support("vllm", facts.layout, facts.formats, sm)
    backend = {name.lstrip("-").replace("_", "-"): value for name, value in params.flags.items()}.get("linear-backend")
    if backend == "emulation" and "nvfp4" in facts.formats:
        return Support(
            "W4A4 NVFP4", ("linear-backend emulation: W4A4's numbers in bf16 kernels, no figure for speed.",)
        )
    return support


def _refuse_sleep(flags: dict[str, Any], target: TargetConfig) -> None:
    if flags.get("--enable-sleep-mode") and target.unified_memory:
        raise ConfigError(
            "engine.flags.enable-sleep-mode",
            f"true on {target.name}",
            "off on unified memory: waking up took hosts down (vllm#50011)",
            "leave it out; stop one server before the other starts",
        )


def _kv_notes(facts: ModelFacts, kv_dtype: str) -> list[str]:
    """vLLM has no scales for q: it takes those of k."""
    return ["FP8 KV cache: its k scales stand for q too, which can clip queries."] * (
        kv_dtype == "fp8" and facts.kv_scales
    )

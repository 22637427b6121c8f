"""Whether a bundle may be served on a target, and which stages make one that may: rules over two rows and a plan.

A bundle is planned, tuned and tested for one row of `conf/targets/`. On another row the engine is made again and the
gate runs again there; where the GPU would compute in something else than what was evaluated, the weights are quantized
again too, because the format follows the GPU (NVFP4 on a Spark, FP8 on an H100). Caches never cross: each field of
their key that differs is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from slipway.config.target import TargetConfig
from slipway.engines.bundle_key import KeyDocument
from slipway.engines.driver import ServePlan
from slipway.engines.format_support import TABLE, capability
from slipway.engines.gpu_limits import budget
from slipway.engines.machine_facts import UNKNOWN, MachineFacts
from slipway.errors import ConfigError
from slipway.planning.fit import fit

Stage = Literal["quantize", "engine"]
GATED = ("evaluate", "gate")  # run again after whatever is made again
# Formats by the row's word for them (`formats: [fp8]`), the ones with a layer in conf/formats/ first
_FAMILY = {"fp8": ("fp8", "fp8-dynamic"), "nvfp4": ("nvfp4", "nvfp4a16"), "mxfp4": ("mxfp4",)}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as the kernel calls them -> as registries do
# Fields of the key that say on which machine caches were made; the others belong to the plan, which is made again
_MACHINE_FIELDS = ("architecture", "capability", "cpu", "gpu", "gpu_memory", "driver")


@dataclass(frozen=True)
class Misfit:
    """One thing in which a bundle and a target differ, and the first stage that has to run again for it."""

    subject: str
    bundle: str
    target: str
    stage: Stage

    def __str__(self) -> str:
        return f"{self.subject}: {self.bundle}, here {self.target}"


def misfits(
    plan: ServePlan,
    source: TargetConfig,
    target: TargetConfig,
    caches: KeyDocument | None = None,
    facts: MachineFacts | None = None,
) -> list[Misfit]:
    """Everything that keeps a bundle from a target; empty where it may be served there.

    `source`: the row that the plan names, `target`: the row of the machine that shall serve, `caches`: key of the
    bundle's caches, null where it has none, `facts`: what that machine itself said, null where it was not asked.
    """
    return [
        *_rows(plan, source, target),
        *(_probed(plan, target, facts) if facts else ()),
        *(_format(plan, target) if source.compute_capability != target.compute_capability else ()),
        *(_size(plan, target) if plan.target != target.name else ()),
        *_caches(caches, target, facts),
    ]


def stages_again(differences: Iterable[Misfit]) -> tuple[str, ...]:
    """The stages that have to run for the target, in order: evaluation and gate always; none without a difference."""
    stages = {one.stage for one in differences}
    if not stages:
        return ()
    return (*(("quantize",) if "quantize" in stages else ()), "engine", *GATED)


def command_again(differences: Iterable[Misfit], plan: ServePlan, target: TargetConfig, deploy: str) -> str:
    """The command that makes and gates an engine for the target. `deploy`: row of conf/deploy/ that promotes it."""
    stages = stages_again(differences)
    words = ["slipway run", f"layers.serving=targets/{target.name}", f"layers.deploy=deploy/{deploy}"]
    if "quantize" in stages and (name := format_for(plan.kind, target)):
        words.append(f"layers.quantize=formats/{name}")
    if plan.kind == "llama.cpp" and target.gpus:
        words += ["engine.kind=vllm", "engine.image=vllm"]
    return " ".join(words)


def format_for(kind: str, target: TargetConfig) -> str | None:
    """The weight format of `conf/formats/` to quantize to for a target: the first of its row that the engine computes
    in; null where the row names none that it runs."""
    if target.compute_capability is None:
        return None
    sm = capability(target.compute_capability, target.name)
    names = (name for family in target.formats for name in _FAMILY.get(family, (family,)))
    return next((name for name in names if computes(kind, name, sm)), None)


def computes(kind: str, weights: str, sm: int) -> set[str]:
    """What an engine computes in for weights of a format on a GPU of this capability; empty where it does not run."""
    return {
        row.computes for row in TABLE if row.engine == kind and row.low <= sm <= row.high and weights in row.formats
    }


def require_compatible(
    plan: ServePlan,
    source: TargetConfig,
    target: TargetConfig,
    deploy: str,
    caches: KeyDocument | None = None,
    facts: MachineFacts | None = None,
) -> None:
    """Raises ConfigError naming every difference, the stages that run again and the command, unless the bundle may be
    served on the target."""
    differences = misfits(plan, source, target, caches, facts)
    if not differences:
        return
    stages = ", ".join(stages_again(differences))
    raise ConfigError(
        f"engine for {plan.target} on target {target.name}",
        "; ".join(map(str, differences)),
        f"an engine made for {target.name} and gated there",
        f"run again {stages}: `{command_again(differences, plan, target, deploy)}`",
    )


def _rows(plan: ServePlan, source: TargetConfig, target: TargetConfig) -> list[Misfit]:
    rows = [
        ("GPU", source.compute_capability or "none", target.compute_capability or "none"),
        ("CPU architecture", source.arch, target.arch),
        ("row of conf/targets", plan.target, target.name),
    ]
    return [Misfit(subject, then, now, "engine") for subject, then, now in rows if then != now]


def _probed(plan: ServePlan, target: TargetConfig, facts: MachineFacts) -> list[Misfit]:
    """What the machine said against what its row and the plan say."""
    probed = [
        ("GPU that answered", target.compute_capability or facts.capability, facts.capability),
        ("CPU that answered", target.arch, _ARCHITECTURES.get(facts.architecture, facts.architecture)),
        ("CPU instructions", plan.cpu or facts.cpu, facts.cpu),
    ]
    return [Misfit(subject, then, now, "engine") for subject, then, now in probed if then != now]


def _format(plan: ServePlan, target: TargetConfig) -> list[Misfit]:
    """Weights that the target's GPU would compute in another way than the evaluated one."""
    if plan.kind == "llama.cpp" or target.compute_capability is None:
        return []
    sm = capability(target.compute_capability, target.name)
    evaluated = re.split(r" and ", plan.computes)
    different = []
    for name in plan.weights.split("+"):
        words = computes(plan.kind, name, sm)
        if not words & set(evaluated):
            now = " or ".join(sorted(words)) if words else f"does not run on {target.compute_capability}"
            different.append(Misfit(f"format {name}", plan.computes, now, "quantize"))
    return different


def _size(plan: ServePlan, target: TargetConfig) -> list[Misfit]:
    """Ranks and bytes of one GPU, for an engine that needs GPUs."""
    if plan.kind == "llama.cpp":
        return []
    if not target.gpus or not target.gpu_memory_gb:
        return [Misfit("GPUs", "an engine for a GPU", "none", "engine")]
    ranks, gpus = plan.limits.tensor_parallel * plan.limits.pipeline_parallel, target.gpus * target.nodes
    need, room = sum(plan.memory.values()), budget(target)
    different = [Misfit("GPUs", str(ranks), str(gpus), "engine")] if ranks > gpus else []
    if not fit(need, room).fits:
        different.append(Misfit("GB of one GPU", f"{need / 1e9:.1f}", f"{room / 1e9:.1f}", "engine"))
    return different


def _caches(key: KeyDocument | None, target: TargetConfig, facts: MachineFacts | None) -> list[Misfit]:
    """Fields of the caches' key that say another machine: by its own facts, else as far as its row says them."""
    if key is None:
        return []
    if facts is None:
        row = {"capability": target.compute_capability or "none", "architecture": target.arch}
        then = {"capability": key.capability, "architecture": _ARCHITECTURES.get(key.architecture, key.architecture)}
    else:
        row = {name: getattr(facts, name) for name in _MACHINE_FIELDS}
        then = {name: getattr(key, name) for name in _MACHINE_FIELDS}
    return [
        Misfit(f"caches' {name}", then[name], now, "engine")
        for name, now in row.items()
        if then[name] != now or now == UNKNOWN
    ]

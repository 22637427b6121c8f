"""TensorRT-LLM 1.2 with engine files: built for one GPU by `trtllm-build`, served by `trtllm-serve --backend tensorrt`.

Later releases have no engine files any more; their contracts refuse the backend. The build is a job of the runners, in
the image that serves, on the machine that serves: engine files fit one GPU only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.target import TargetConfig
from slipway.engines import gpu_plan
from slipway.engines.contract import load_contract
from slipway.engines.driver import Limits, ServePlan
from slipway.engines.format_support import capability, require_support
from slipway.engines.gpu_limits import GpuPlan, budget, plan_limits
from slipway.engines.model_facts import read_model
from slipway.engines.trtllm.serve_config import memory_fraction
from slipway.engines.trtllm_build.build_script import ENGINE, SCRIPT, build_script
from slipway.engines.trtllm_build.engine_files import mark, verify_engine
from slipway.errors import ConfigError, EngineError
from slipway.pipeline.workspace import Workspace
from slipway.runners.base import Job, Mount, Runner, State, follow
from slipway.store.artifacts import Checkpoint, Quantized
from slipway.system.files import remove, write_atomic

ALIAS = "slipway"
START_S, STOP_S = 900.0, 60.0
BUILD_STOP_S = 30.0
INSIDE = "/slipway"  # where a container sees the folders
_DECIDED = {
    "--host": "",
    "--port": "",
    "--backend": "engine.kind",
    "--tokenizer": "",
    "--max_batch_size": "engine.slots",
    "--max_num_tokens": "engine.batched_tokens",
    "--max_seq_len": "engine.context",
    "--tensor_parallel_size": "engine.tensor_parallel",
    "--pipeline_parallel_size": "engine.pipeline_parallel",
    "--kv_cache_free_gpu_memory_fraction": "engine.kv_gb",
}


class TrtllmBuildDriver:
    """`plan` renders the build's script and the server's command; `build` runs the script and looks at what it made."""

    kind: Literal["trtllm-engine"] = "trtllm-engine"

    def plan(
        self, model: Path, params: EngineConfig, target: TargetConfig, image: ImageConfig | None = None
    ) -> ServePlan:
        """See `Driver.plan`."""
        return gpu_plan.require_pinned(self.draft(model, params, target, image), image, target)

    def draft(
        self, model: Path, params: EngineConfig, target: TargetConfig, image: ImageConfig | None = None
    ) -> ServePlan:
        """A plan whose image may be named by its tag: to look at, not to build."""
        the_image, version = gpu_plan.require_image(image, "trtllm-engine")
        serve, build = load_contract("trtllm", version), load_contract("trtllm_build", version)
        budget(target)  # a target without a GPU is refused as such
        facts = read_model(model)
        support = require_support(
            "trtllm-engine", facts.layout, facts.formats, capability(target.compute_capability, target.name)
        )
        limits = plan_limits(facts, params, target)
        _refuse_several_nodes(limits.limits, target)
        options = {**_serve_options(limits, target), **gpu_plan.own_flags(params, serve, _DECIDED)}
        reference = gpu_plan.image_reference(the_image, target.arch)
        words = ["trtllm-serve", f"{{bundle}}/{ENGINE}", "--port", "{port}", *serve.argv(options)]
        return ServePlan(
            kind="trtllm-engine",
            target=target.name,
            image=reference,
            contract=serve.name,
            argv=gpu_plan.program(words, the_image, target),
            files={SCRIPT: build_script(facts, limits.limits, params, build)},
            environment=gpu_plan.environment(gpu_plan.CACHES, params, {}),
            caches=list(gpu_plan.CACHES),
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
                *(note for note in serve.notes if "the options" in note),  # no YAML is given, whose keys it may lack
                *build.notes,
                *limits.notes,
                *gpu_plan.model_notes(facts, limits.limits.kv_dtype, target, the_image),
            ],
        )

    def build(
        self,
        checkpoint: Checkpoint | Quantized,
        plan: ServePlan,
        params: EngineConfig,  # noqa: ARG002
        space: Workspace,
        target: TargetConfig,
    ) -> ServePlan:
        """Build the engine files in the plan's image on `target`. Raises ConfigError for one without containers,
        EngineError as `run_build`."""
        from slipway.runners.choose import runner_for

        if plan.image is None or not target.in_container:
            raise ConfigError(
                f"trtllm-engine on target {target.name}",
                "runs no containers",
                "a target with docker, or Slurm with containers",
                "choose it with layers.serving=targets/...",
            )
        gpu_plan.write_model(checkpoint, space)
        model = space.out / "model" if (space.out / "model").is_dir() else checkpoint.path
        repository, _, digest = plan.image.partition("@")
        runner = runner_for(target, ImageConfig(repository=repository, tag="", digests={target.arch: digest}))
        return run_build(plan, model, space, runner, in_container=True)


DRIVER = TrtllmBuildDriver()


def run_build(plan: ServePlan, model: Path, space: Workspace, runner: Runner, *, in_container: bool) -> ServePlan:
    """Run `build.sh` as a job and verify what it made; the plan with the engine's bytes in its notes.

    Raises EngineError when the job fails, and when its files are missing, short, growing or old, whatever it said.
    """
    scratch = space.work / "build"
    scratch.mkdir(parents=True, exist_ok=True)
    folders = {"model": model.resolve(), "bundle": space.out.resolve(), "cache": scratch.resolve()}
    places = {name: f"{INSIDE}/{name}" if in_container else str(path) for name, path in folders.items()}
    write_atomic(scratch / SCRIPT, _filled(plan.files[SCRIPT], places))
    remove(space.out / ENGINE)
    marker = mark(space.out)
    job = Job(
        f"build-{space.work.resolve().name}"[:60],
        ("bash", f"{places['cache']}/{SCRIPT}"),
        space.work.resolve(),
        env={name: _filled(value, places) for name, value in plan.environment.items()},
        mounts=tuple(Mount(folders[n], f"{INSIDE}/{n}", read_only=n == "model") for n in ("bundle", "cache", "model")),
        labels={"slipway.stage": "engine"},
        processes=plan.limits.tensor_parallel * plan.limits.pipeline_parallel,
        stop_s=BUILD_STOP_S,
    )
    outcome = follow(runner, job, lambda: space.progress.update("build", 0, None, "engine files"))
    runner.forget(job)
    if outcome.state is not State.DONE:
        raise EngineError(
            "engine build", f"{outcome.state} ({outcome.reason})", "files of trtllm-build", f"read {job.log}"
        )
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    sizes = verify_engine(space.out / ENGINE, plan.limits, weights, marker)
    remove(marker)
    built = f"Engine files: {', '.join(f'{name} {size:,} bytes' for name, size in sizes.items())}."
    return plan.model_copy(update={"notes": [*plan.notes, built]})


def _filled(text: str, places: dict[str, str]) -> str:
    for name, path in places.items():
        text = text.replace(f"{{{name}}}", path)
    return text


def _serve_options(plan: GpuPlan, target: TargetConfig) -> dict[str, Any]:
    limits = plan.limits
    return {
        "--host": "{host}",
        "--backend": "tensorrt",
        "--tokenizer": "{model}",
        "--max_batch_size": limits.slots,
        "--max_num_tokens": limits.batched_tokens,
        "--max_seq_len": limits.context,
        "--tensor_parallel_size": limits.tensor_parallel,
        "--pipeline_parallel_size": limits.pipeline_parallel,
        "--kv_cache_free_gpu_memory_fraction": memory_fraction(plan, target),
    }


def _refuse_several_nodes(limits: Limits, target: TargetConfig) -> None:
    ranks = limits.tensor_parallel * limits.pipeline_parallel
    if ranks > target.gpus:
        raise ConfigError(
            f"trtllm-engine on {target.name}",
            f"{ranks} ranks on {target.gpus} GPUs of a node",
            "ranks of one node",
            "use engine.kind=trtllm across nodes, or another target",
        )

"""Section `engine`: what serves, and within which limits. What every key becomes for each engine: docs/engines.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import Folder, Section, Switch, born

FlagValue = bool | int | float | str | list[str | int | float] | dict[str, Any]
VariableName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]


class BootsConfig(Section):
    """Starts of a new bundle that are measured."""

    cold: int = Field(1, ge=1, description="Starts with empty caches; the caches of the last one go into the bundle.")
    warm: int | None = Field(
        None, ge=0, description="Starts from the bundle's caches; null: 3, of an engine that has no caches none."
    )


class AgreementConfig(Section):
    """Kernel agreement: the engine's own tokens, scored by the weights that it was built from (ADR 43)."""

    check: Annotated[Switch, born("off")] = Field(
        "auto", description="on; off; auto: on where the engine gives token ids and the model can be walked."
    )
    prompts: Annotated[int, born(4)] = Field(4, ge=1, le=50, description="Prompts answered; 50 for a whole check.")
    tokens: Annotated[int, born(128)] = Field(
        128, ge=24, description="Tokens of an answer, past its end, at most the context's; 1000 for a whole check."
    )
    states_gb: Annotated[float, born(2.0)] = Field(
        2.0, gt=0, description="Hidden states held, GB; more rows take another pass over the weights."
    )
    second: Annotated[Literal["off", "failed", "always"], born("failed")] = Field(
        "failed",
        description="When the engine's other attention kernel is asked as well, which takes one more start: after a "
        "failed check, to tell a wrong kernel from wrong weights; always; off.",
    )


class WorkloadConfig(Section):
    """What an engine is chosen for, where `engine.kind` is auto."""

    users: int | None = Field(None, ge=1, description="Requests at once; null: `slots`.")
    starts_a_day: float = Field(1, gt=0, description="Starts of the server a day; 1/7 for one a week.")
    hours_a_day: float = Field(24, gt=0, le=24, description="Hours a day that it serves.")


class EngineConfig(Section):
    """Checkpoint -> runtime bundle."""

    kind: Literal["llama.cpp", "vllm", "trtllm", "trtllm-engine", "auto"] = Field(
        "llama.cpp",
        description="Engine; `auto` chooses one for `serving`, `quantize` and `workload` and prints why; `llama.cpp` "
        "is embedded and runs on a CPU, `trtllm-engine` builds engine files with "
        "TensorRT-LLM 1.2.",
    )
    workload: WorkloadConfig = Field(default_factory=WorkloadConfig, description="What `auto` chooses an engine for.")
    package: str = Field("llama-cpp-python", description="PyPI source package that vendors llama.cpp.")
    version: str = Field("0.3.36", description="Version of that package.")
    sha256: str = Field(
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        description="sha256 of the package's source archive, hex.",
    )
    build_jobs: int = Field(2, ge=1, description="Compiler processes at a time; of GPU engines too (MAX_JOBS).")
    context: int = Field(1024, ge=128, description="Context per slot, tokens.")
    slots: int = Field(8, ge=1, description="Requests decoded together.")
    threads: int | None = Field(None, ge=1, description="CPU threads; null: all cores.")
    image: Annotated[str | None, born(None)] = Field(
        None, description="Row of conf/images.yaml that holds the engine; null: `python` has it."
    )
    python: Annotated[str | None, born(None)] = Field(
        None, min_length=1, description="Python interpreter, on the machine that serves, that has vLLM installed."
    )
    contract: Annotated[str | None, born(None)] = Field(
        None, min_length=1, description="Version of the engine in `python`; null: the newest whose options are known."
    )
    batched_tokens: Annotated[int | None, born(None)] = Field(
        None, ge=1, description="Tokens of one scheduler step; null: the context, within 2,048 to 8,192."
    )
    kv_gb: Annotated[float | None, born(None)] = Field(
        None, gt=0, description="KV cache of one GPU, GB; null: `slots` requests of `context` tokens."
    )
    kv_dtype: Annotated[Literal["auto", "bf16", "fp8"], born("auto")] = Field(
        "auto", description="Numbers of the KV cache; auto: FP8 where the checkpoint has its scales, else bf16."
    )
    graph_sizes: Annotated[list[Annotated[int, Field(ge=1)]] | None, born(None)] = Field(
        None, description="Batch sizes with a CUDA graph; null: powers of two up to `slots`; []: none, slow."
    )
    tensor_parallel: Annotated[int | None, born(None)] = Field(
        None, ge=1, description="GPUs that share every layer; null: the fewest that the model fits."
    )
    pipeline_parallel: Annotated[int, born(1)] = Field(
        1, ge=1, description="Groups of such GPUs, each with its part of the layers."
    )
    autotune: Annotated[bool, born(True)] = Field(
        True, description="Whether TensorRT-LLM measures kernels at a start; off: slower answers, the same every start."
    )
    drain_s: Annotated[int, born(30)] = Field(
        30, ge=0, description="Seconds that running answers have to end after SIGTERM (vLLM)."
    )
    agreement: Annotated[AgreementConfig, born({})] = Field(
        AgreementConfig(), description="Check that the engine computes what its weights say."
    )
    start_s: Annotated[float | None, born(None)] = Field(
        None, gt=0, description="Longest cold start, seconds; null: the engine's, up to an hour."
    )
    flags: Annotated[dict[str, FlagValue], born({})] = Field(
        default_factory=dict, description="More options of the server's command line, checked against its contract."
    )
    options: Annotated[dict[str, Any], born({})] = Field(
        default_factory=dict, description="More keys of TensorRT-LLM's YAML, checked against its contract."
    )
    environment: Annotated[dict[VariableName, str], born({})] = Field(
        default_factory=dict, description="More environment variables of the server."
    )
    boots: Annotated[BootsConfig, born({"cold": 1, "warm": None})] = Field(
        default_factory=BootsConfig, description="Starts that are measured."
    )
    cache_dir: Folder | None = Field(
        None, description="Folder of the caches that servers write to, on a local disk; null: each server's own folder."
    )
    cache_gb: float = Field(
        20,
        gt=0,
        description="Most that the caches of one bundle, all in `cache_dir`, and all that `slipway serve` left may "
        "take, GB; the least recently used go first, never what serves.",
    )

    def key_document(self) -> dict[str, Any]:
        """Without where the caches of starts lie, how much may, and what an engine was chosen for: no byte of a bundle
        depends on them."""
        return {k: v for k, v in super().key_document().items() if k not in ("cache_dir", "cache_gb", "workload")}

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.image and self.python:
            raise ValueError(f"engine.image={self.image} and engine.python={self.python}: give one of them")
        if self.python and self.kind not in ("vllm", "auto"):
            raise ValueError(f"engine.python={self.python}: only vllm runs so, not {self.kind}; leave it out")
        if self.image and self.kind == "llama.cpp":
            raise ValueError(f"engine.image={self.image}: llama.cpp is built on this machine; leave it out")
        return self
